"""Methods that users define outside the package, trained through the program by name."""

import json

import keras
import numpy as np
import pytest

from apps import config, train
from spfde_keras import distributions, schemes, updaters
from spfde_keras.freezing import schemes as freezing_schemes
from spfde_keras.masking import find_masks
from spfde_keras.sieve import policies
from tests.registries import left_as_they_were

SHORT = ["--epochs=4", "--interval=1", "--train_samples=100", "--width=0.25"]


class Largest(updaters.SET):
    """Grows where the kernel's last weights are."""

    def grow_scores(self, kernel, gradient, rng):
        return np.arange(kernel.size, dtype=np.float32).reshape(kernel.shape)


class Columns(schemes.Block):
    """Blocks of two outputs."""

    def __init__(self):
        super().__init__(outputs=2)

    def get_config(self):
        return {}


class LastIsDenser(distributions.Distribution):
    def __call__(self, layouts, sparsity):
        return {path: sparsity - 0.1 * (path == list(layouts)[-1]) for path in layouts}


class OneBlock(freezing_schemes.SingleShot):
    """Freezes the first block only."""

    def frozen(self, horizon, start):
        return np.minimum(super().frozen(horizon, start), 1)


class Never(policies.Circular):
    """Exchanges nothing."""

    def exchange(self, queue, easiest, retrieved, t, rng):
        return queue


CLASSES = {
    updaters: Largest,
    schemes: Columns,
    distributions: LastIsDenser,
    freezing_schemes: OneBlock,
    policies: Never,
}
OWN = {
    "method": "own_updater",
    "scheme": "own_scheme",
    "distribution": "own_distribution",
    "freeze_scheme": "own_freezing",
    "sieve_policy": "own_policy",
}


@pytest.fixture(autouse=True)
def registered():
    with left_as_they_were():
        for (family, cls), name in zip(CLASSES.items(), OWN.values(), strict=True):
            family.register(name)(cls)
        yield


def test_own_methods_are_trained_by_name(tmp_path, no_export):
    flags = [f"--{name}={value}" for name, value in OWN.items()]
    arguments = [*SHORT, *flags, "--freeze_reduction=0.02", f"--output_dir={tmp_path}"]
    assert train.main(arguments) == 0
    found = json.loads((tmp_path / "results.json").read_text())
    assert {name: found["config"][name] for name in OWN} == OWN | {"scheme": ["own_scheme"]}
    assert found["frozen_blocks"] == 1
    model = keras.saving.load_model(tmp_path / "model.keras")
    masks = find_masks(model)
    assert all(isinstance(mask.subnets[0].scheme, Columns) for mask in masks)
    assert masks[-1].density > masks[0].density + 0.05
    # What grew last lies at the end of each kernel.
    kept = masks[-1].read()[1][0].reshape(-1)
    assert kept[kept.size // 2 :].sum() > kept[: kept.size // 2].sum()


def test_they_are_listed_where_names_are_asked_for(capsys):
    assert train.main(["--help"]) == 0
    text = "".join(capsys.readouterr().out.split())  # long lists are wrapped within a name
    assert all(name in text for name in OWN.values())
    with pytest.raises(ValueError, match="own_updater"):
        config.RunConfig(method="none_such")
