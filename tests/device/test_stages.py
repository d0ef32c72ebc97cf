"""Blocks of what a file trains: those of the callback, without what is frozen already."""

import keras
import pytest

import spfde_keras
from spfde_keras.device.cutting import parts_of
from spfde_keras.device.stages import stages_of

L = keras.layers


@pytest.fixture
def model():
    layers = [
        keras.Input((8,)),
        *[L.Dense(4, name="a"), L.BatchNormalization(scale=False, center=False, name="norm")],
        *[L.Dense(4, name="b"), L.Dense(4, name="c"), L.Dense(2, name="d")],
    ]
    return spfde_keras.densify(spfde_keras.wrap(keras.Sequential(layers)))


def names(stages):
    return [[layer.name for layer in block] for block in stages.blocks]


def trained(model):
    return ["/".join(v.path.split("/")[-2:]) for v in model.trainable_variables]


def test_blocks(model):
    stages = stages_of(model, parts_of(model, None), 2)
    assert names(stages) == [["a", "norm"], ["b"], ["c"], ["d"]]
    assert list(stages.numbers) == [0, 1, 2]
    assert stages.block_of(model.get_layer("c").bias) == 2


def test_what_is_frozen_already_is_no_block(model):
    assert names(stages_of(model, parts_of(model, "b"), 1)) == [["c"], ["d"]]
    model.get_layer("a").trainable = False
    assert names(stages_of(model, parts_of(model, None), 1)) == [["b"], ["c"], ["d"]]


def test_flags_come_back(model):
    model.get_layer("b").kernel.trainable = False
    stages = stages_of(model, parts_of(model, None), 3)
    with stages.frozen(2):
        assert trained(model) == ["c/kernel", "c/bias", "d/kernel", "d/bias"]
        assert not model.get_layer("norm").trainable
    assert trained(model)[:3] == ["a/kernel", "a/bias", "b/bias"]
    assert model.get_layer("norm").trainable


@pytest.mark.parametrize("count", [4, -1, 1.5])
def test_the_last_block_is_always_trained(model, count):
    with pytest.raises(ValueError, match="`stages` must be an integer .*less than 4"):
        stages_of(model, parts_of(model, None), count)
