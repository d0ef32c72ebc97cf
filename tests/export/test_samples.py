import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from spfde_keras.export import export_tflite, run_tflite
from spfde_keras.export.samples import CALIBRATION_SAMPLES, collect, random_samples


def image_net():
    image = layers.Input((8, 8, 1), name="image")
    return keras.Model(image, layers.Flatten()(image))


@pytest.fixture
def samples():
    return np.random.default_rng(1).random((20, 8, 8, 1), dtype="float32")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: x,
        lambda x: [x[:12], x[12:]],
        lambda x: ((batch, np.zeros(len(batch))) for batch in (x[:12], x[12:])),
        lambda x: tf.data.Dataset.from_tensor_slices(x).batch(7),
        lambda x: tf.data.Dataset.from_tensor_slices((x, np.zeros(len(x)))).batch(7),
    ],
    ids=["array", "batches", "generator of (x, y)", "dataset", "dataset of (x, y)"],
)
def test_representative_data_comes_in_any_form(samples, wrap):
    collected = collect(image_net(), wrap(samples))
    np.testing.assert_array_equal(collected["image"], samples)


def test_representative_data_is_read_no_further_than_needed(samples):
    def endless():
        while True:
            yield samples

    collected = collect(image_net(), endless())
    assert len(collected["image"]) == CALIBRATION_SAMPLES


def two_inputs(as_dict=False):
    a, b = layers.Input((2,), name="a"), layers.Input((2,), name="b", optional=True)
    inputs = {"a": a, "b": b} if as_dict else [a, b]
    return keras.Model(inputs, layers.Dense(1)(AddIfGiven()(a, b)))


class AddIfGiven(layers.Layer):
    def call(self, x, y=None):
        return x if y is None else x + y


A, B, LABELS = np.ones((3, 2), "float32"), np.zeros((3, 2), "float32"), np.ones(3)


@pytest.mark.parametrize("as_dict", [False, True], ids=["of lists", "of dictionaries"])
@pytest.mark.parametrize(
    ("data", "given"),
    [
        ([A, B], "ab"),
        ((A, B), "ab"),
        (([A, B], LABELS), "ab"),
        ([[A, B]], "ab"),
        ([([A, B], LABELS)], "ab"),
        ({"b": B, "a": A}, "ab"),
        (({"a": A, "b": B}, LABELS), "ab"),
        (tf.data.Dataset.from_tensor_slices((A, B)).batch(2), "ab"),
        (tf.data.Dataset.from_tensor_slices(((A, B), LABELS)).batch(2), "ab"),
        ([A, None], "a"),
        ({"a": A}, "a"),
        ([({"a": A}, LABELS)], "a"),
    ],
)
def test_representative_data_of_several_inputs_comes_in_any_form(as_dict, data, given):
    collected = collect(two_inputs(as_dict), data)
    assert "".join(collected) == given
    for name, array in zip(given, (A, B), strict=False):
        np.testing.assert_array_equal(collected[name], array)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"b": B}, r"inputs \['a', 'b'\]. Received: \['b'\]"),
        ({"a": A, "c": B}, r"Received: \['a', 'c'\]"),
        ([[A, B], [A, None]], "same inputs in every batch"),
        ([A, B[:2]], "same number of samples"),
    ],
)
def test_representative_data_that_does_not_fit_several_inputs_is_refused(data, message):
    with pytest.raises(ValueError, match=message):
        collect(two_inputs(), data)


def test_an_optional_input_can_be_left_out_of_the_file(tmp_path, no_kit):
    model = two_inputs()
    path = tmp_path / "model.tflite"
    export_tflite(model, path, representative_data=[A, None])
    np.testing.assert_allclose(run_tflite(path, {"a": 2 * A}), model([2 * A, None]), atol=1e-6)


def test_random_bools_are_both():
    model = keras.Sequential([keras.Input((16,), dtype="bool"), keras.layers.Lambda(lambda x: x)])
    (found,) = random_samples(model).values()
    assert found.dtype == bool and 0.2 < found.mean() < 0.8
