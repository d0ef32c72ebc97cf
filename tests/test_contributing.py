"""The examples in CONTRIBUTING.md run, and what they add is known by name."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest

import spfde_keras
from spfde_keras import distributions, schedules, schemes, updaters
from spfde_keras.freezing import schemes as freezing_schemes
from spfde_keras.layers import base
from spfde_keras.sieve import policies
from spfde_keras.timeline import Timeline
from tests.registries import left_as_they_were

GUIDE = Path(__file__).parents[1] / "CONTRIBUTING.md"


@pytest.fixture
def examples(monkeypatch):
    monkeypatch.setattr(base, "_MASKED", dict(base._MASKED))
    names = {"__name__": "contributing"}
    with left_as_they_were():
        for code in re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL):
            exec(code, names)
        yield names


def test_an_updater_trains_by_name_with_a_scheme_and_a_masked_layer(examples):
    net = keras.Sequential(
        [keras.Input((8,)), examples["Scale"](), keras.layers.Dense(8), keras.layers.Dense(2)]
    )
    model = spfde_keras.sparsify(net, 0.5, "pairs", "last_is_denser")
    assert [mask.density for mask in spfde_keras.masking.find_masks(model)] == [0.5, 0.59375]
    model.compile("sgd", "mse")
    callback = spfde_keras.SpFDE(epochs=2, updater="set_to_the_end", interval=1)
    model.fit(np.ones((8, 8)), np.ones((8, 2)), epochs=2, verbose=0, callbacks=[callback])
    assert type(callback.updater) is examples["SetToTheEnd"]
    assert type(spfde_keras.densify(model).layers[1]) is examples["Scale"]


def test_the_other_families_give_what_the_guide_says(examples):
    assert type(updaters.SET(schedules.get("linear")).fraction) is examples["Linear"]
    assert schedules.get("linear")(0.5) == 0.15
    horizon = freezing_schemes.Horizon(Timeline(4, 1), half=1, limit=3)
    frozen = freezing_schemes.get("all_at_once").frozen(horizon, 2)
    assert frozen.tolist() == [0, 0, 3, 3]
    queue, easiest = np.arange(4), np.arange(4, 100)
    new = policies.get("random_exchange").exchange(queue, easiest, 0, 0.5, np.random.default_rng(0))
    assert new.shape == (4,) and not np.isin(new, easiest[:4]).all()
    assert set(new) <= set(easiest)


def test_each_family_is_in_the_table_with_its_base_class():
    families = {
        updaters: "Updater",
        schemes: "Scheme",
        distributions: "Distribution",
        schedules: "Schedule",
        freezing_schemes: "FreezingScheme",
        policies: "SievePolicy",
    }
    for module, kind in families.items():
        assert f"| `{module.__name__}` | `{getattr(module, kind).__name__}` |" in GUIDE.read_text()
