"""What was learned on a device comes back into the model; other states are refused."""

import keras
import numpy as np
import pytest

import spfde_keras
from spfde_keras.device.contents import contents_of
from spfde_keras.device.cutting import parts_of
from spfde_keras.device.state import State, marks
from tests.device.nets import batches, small_cnn


@pytest.fixture
def trained(app):
    """An app after three updates."""
    for x, y in batches(3):
        app.step(x, y)
    return app


def test_a_model_computes_what_its_file_does(exported, trained):
    model = spfde_keras.wrap(exported[1])
    ((x, _),) = batches(1)
    before = np.asarray(model(x))
    spfde_keras.load_device_state(model, trained.state)
    expected = [trained.infer(x=one[None])["outputs"][0] for one in x]
    np.testing.assert_allclose(model(x), expected, atol=1e-6)
    assert np.abs(model(x) - before).max() > 1e-3


def test_masks_come_back_with_the_weights(exported, trained):
    """Another model of as many kept weights takes the places of those that were trained."""
    model = small_cnn()
    for mask in spfde_keras.masking.find_masks(model):
        kernel, masks = mask.read()
        mask.write(np.flip(kernel), np.flip(masks))
    spfde_keras.load_device_state(model, trained.state)
    pairs = [map(spfde_keras.masking.find_masks, (model, exported[1]))]
    for found, expected in zip(*pairs[0], strict=True):
        kernel, masks = found.read()
        np.testing.assert_array_equal(masks, expected.read()[1])
        assert not kernel[~masks[0]].any() and kernel[masks[0]].any()


def damaged(state, what):
    if what == "cut":
        return state[:-900]
    if what == "longer":
        return np.append(state, np.float32(1))
    if what == "float64":
        return state.astype("float64")
    state = state.copy()
    if what == "mark":
        state[0] += 1
    if what == "nan":
        state[-1] = np.nan
    if what == "places":
        whole = np.flatnonzero(np.diff(state[:-700]) == 1)  # the places of a kernel, ascending
        state[whole[0]] = state[whole[0] + 1]
    return state


@pytest.mark.parametrize(
    "what, rule",
    {
        "cut": "whole, as `save` gave it. Received: [0-9]+ numbers",
        "longer": "whole, as",
        "float64": "finite float32 numbers",
        "mark": "of a file of this model, of the same `cut` and `updater`.* updater=None",
        "nan": "finite float32 numbers",
        "places": "undamaged",
    }.items(),
)
def test_damaged_states_are_refused_and_change_nothing(exported, trained, what, rule):
    model = spfde_keras.wrap(exported[1])
    before = model.get_weights()
    with pytest.raises(ValueError, match=rule):
        spfde_keras.load_device_state(model, damaged(trained.state, what))
    assert all(map(np.array_equal, model.get_weights(), before))


def test_a_state_of_another_model_is_refused(trained):
    other = spfde_keras.sparsify(spfde_keras.densify(small_cnn()), 0.7)
    with pytest.raises(ValueError, match="of this model"):
        spfde_keras.load_device_state(other, trained.state)


def test_statistics_come_back():
    def normalized():
        layers = [keras.Input((4,)), keras.layers.Dense(3), keras.layers.BatchNormalization()]
        return spfde_keras.sparsify(keras.Sequential(layers), 0.5, dense=())

    model = normalized()
    contents = contents_of(model, parts_of(spfde_keras.densify(model), None))
    values = contents.initial
    (mean,) = [name for name in values if name.endswith("moving_mean")]
    values[mean] = np.float32([1, 2, 3])
    state = State(values, contents.about, {}, None).save()["state"].numpy()
    spfde_keras.load_device_state(model, state)
    np.testing.assert_array_equal(model.get_layer("batch_normalization").moving_mean, [1, 2, 3])


def mark(**options):
    """What tells a model from others; layers have other names each time."""
    settings = {"padding": "same", "activation": "relu", "epsilon": 1e-3} | options
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((8, 8, 4)),
        keras.layers.Conv2D(4, 3, padding=settings["padding"], activation=settings["activation"]),
        keras.layers.BatchNormalization(epsilon=settings["epsilon"]),
        keras.Sequential([keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)]),
    ]
    model = spfde_keras.wrap(keras.Sequential(layers))
    parts = parts_of(spfde_keras.densify(model), None)
    return marks(contents_of(model, parts).about).tolist()


def test_a_model_that_computes_something_else_is_another_one():
    first = mark()
    assert mark() == first
    for options in ({"activation": "tanh"}, {"padding": "valid"}, {"epsilon": 0.1}):
        assert mark(**options) != first
