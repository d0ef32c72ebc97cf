"""Files saved by version 0.1.0 load, and give the same outputs, masks and sub-nets.

Both hold a net trained on noise, four epochs long, with its optimizer: `sparse` one sub-net, by
SpFDE; `subnets` two, trained in turn. The .npz of the same name has what they gave when saved.
"""

from pathlib import Path

import keras
import numpy as np
import pytest

import spfde_keras
from spfde_keras.layers.switchable import SwitchableBatchNormalization
from spfde_keras.masking import find_masks

DATA = Path(__file__).parent / "data"
SUBNETS = {"sparse": ["subnet_90"], "subnets": ["subnet_50", "subnet_75"]}


def load(name):
    with np.load(DATA / f"{name}.npz") as expected:
        return keras.saving.load_model(DATA / f"{name}.keras"), dict(expected)


@pytest.mark.parametrize("name", SUBNETS)
def test_masks_and_subnets_are_those_saved(name):
    model, expected = load(name)
    assert model.subnets == SUBNETS[name] == expected["subnets"].tolist()
    masks = {f"mask_{m.kernel_path.replace('/', '.')}": m.read()[1] for m in find_masks(model)}
    assert masks.keys() == {key for key in expected if key.startswith("mask_")}
    for key, mask in masks.items():
        assert 0 < mask.mean() < 1
        np.testing.assert_array_equal(mask, expected[key])
    assert model.left_dense == {
        "stem": "first convolution",
        "classifier": "classifier (last layer)",
    }


@pytest.mark.parametrize("name", SUBNETS)
def test_each_subnet_gives_the_outputs_saved(name):
    model, expected = load(name)
    found = []
    for index in range(len(model.subnets)):
        model.activate(index)
        found.append(model(expected["inputs"], training=False).numpy())
        np.testing.assert_allclose(found[index], expected[f"outputs_{index}"], atol=1e-5)
    assert all(np.abs(found[0] - other).max() > 1e-2 for other in found[1:])


def test_batch_normalization_stays_switchable():
    model, _ = load("subnets")
    assert isinstance(model.get_layer("conv_bn"), SwitchableBatchNormalization)


@pytest.mark.parametrize("name", SUBNETS)
def test_training_goes_on(name):
    model, expected = load(name)
    assert model.optimizer.iterations == 16
    callback = {"sparse": spfde_keras.SpFDE, "subnets": spfde_keras.AlternatingSparseTraining}
    x, y = expected["inputs"], np.arange(8) % 3
    history = model.fit(x, y, epochs=2, verbose=0, callbacks=[callback[name](2, interval=1)])
    assert np.isfinite(history.history["loss"]).all()
