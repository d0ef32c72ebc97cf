import numpy as np
import pytest
import tensorflow as tf

from spfde_keras.sieve.inputs import as_dataset

X, Y = np.arange(200.0)[:, np.newaxis], np.arange(200) % 3
DATA = tf.data.Dataset.from_tensor_slices((X, Y))


def test_good_data_passes():
    assert as_dataset(DATA) is DATA
    assert int(as_dataset((X, Y, np.ones(200))).cardinality()) == 200
    nested = as_dataset(({"a": X, "b": (X, X)}, np.eye(3)[Y]))
    assert set(nested.element_spec[0]) == {"a", "b"}
    varying = tf.data.Dataset.range(4).map(lambda i: (tf.ones([i]), i))
    assert as_dataset(varying) is varying
    text = DATA.map(lambda x, y: (tf.strings.as_string(x), y))
    assert as_dataset(text) is text


@pytest.mark.parametrize(
    "data",
    [
        DATA.batch(10).unbatch().apply(tf.data.experimental.assert_cardinality(200)),
        DATA.cache().map(lambda x, y: (x + 1, y), num_parallel_calls=2).prefetch(2),
        DATA.take(150).skip(3).repeat(2),
    ],
)
def test_harmless_transformations_pass(data):
    assert as_dataset(data) is data


@pytest.mark.parametrize(
    "data, words",
    [
        (DATA.shuffle(10), "must not be shuffled"),
        (DATA.shuffle(10, seed=1, reshuffle_each_iteration=False).cache(), "must not be shuffled"),
        (DATA.batch(10), "must not be batched"),
        (DATA.batch(10, drop_remainder=True).prefetch(1), "must not be batched"),
        (DATA.padded_batch(10), "must not be batched"),
        (DATA.batch(10).unbatch().batch(7), "must not be batched"),
    ],
)
def test_shuffled_and_batched_datasets_are_refused_with_the_remedy(data, words):
    with pytest.raises(ValueError, match=f"{words}.*before .shuffle\\(\\) and .batch\\(\\)"):
        as_dataset(data)


def test_batches_of_unknown_size_are_refused_wherever_they_come_from():
    spec = (tf.TensorSpec((None, 1)), tf.TensorSpec((None,), tf.int64))
    data = tf.data.Dataset.from_generator(lambda: [(X, Y)], output_signature=spec)
    with pytest.raises(ValueError, match="must not be batched"):
        as_dataset(data.apply(tf.data.experimental.assert_cardinality(1)))


def test_data_that_differs_between_readings_is_refused():
    rng = np.random.default_rng(0)
    noisy = DATA.map(lambda x, y: (x + tf.numpy_function(rng.random, [], tf.double), y))
    with pytest.raises(ValueError, match="differ between two readings.*preprocess"):
        as_dataset(noisy)


@pytest.mark.parametrize(
    "data, words",
    [
        (DATA.filter(lambda x, y: y > 0), "assert_cardinality.*unknown"),
        (DATA.repeat(), "repeat.*infinite"),
        (DATA.take(0), "must not be empty"),
        ((X[:0], Y[:0]), "must not be empty"),
        ((X, Y[:-1]), "one entry per sample"),
        ((X, 3), "one entry per sample"),
        ((X,), r"must be made of \(x, y\)"),
        (DATA.map(lambda x, y: {"image": x, "label": y}), "as_supervised"),
        (DATA.map(lambda x, y: x), "as_supervised"),
        (X, "tf.data.Dataset or a tuple of arrays"),
        ([X, Y], "tf.data.Dataset or a tuple of arrays"),
    ],
)
def test_other_forms_are_refused(data, words):
    with pytest.raises(ValueError, match=words):
        as_dataset(data)
