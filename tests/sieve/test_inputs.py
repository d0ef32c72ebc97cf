import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import spfde_keras  # noqa: F401  (for the advice)
from spfde_keras.sieve.data_sieve import DataSieve
from spfde_keras.sieve.identified import Identified
from spfde_keras.sieve.inputs import as_dataset, with_ids

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
        (DATA.filter(lambda x, y: y > 0), r"DataSieve\(samples, size=n\).*unknown"),
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


def advised(samples, **names):
    """The sieve that the error message about `samples` says to make, word for word."""
    with pytest.raises(ValueError) as raised:
        DataSieve(samples)
    code = str(raised.value).split("DataSieve(")[-1].split(". Received")[0].rstrip(".")
    return eval(f"DataSieve({code}", globals() | {"samples": samples} | names)  # as if pasted


def make():
    return zip(X, Y, strict=True)


def generate():
    yield from make()


def check(sieve):
    """Each sample comes once, with its own labels under its own id."""
    found = {}
    for x, y in sieve.batches(60):
        for position, *sample in zip(x.sample_id.numpy(), x.inputs, y, strict=True):
            assert found.setdefault(position, sample) is sample
    ids = np.flatnonzero(sieve.member.numpy())
    assert sorted(found) == ids.tolist()
    for position in ids:
        x, y = found[position]
        np.testing.assert_array_equal(x, X[position])
        assert y == Y[position]


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        part = slice(50 * index, 50 * index + 50)
        return X[part], Y[part]


@pytest.mark.parametrize(
    "samples",
    [
        DATA.batch(7),
        DATA.batch(7).unbatch(),
        DATA.filter(lambda x, y: y >= 0),
        Batches(),
        generate(),
        make(),
    ],
)
def test_the_advice_works_as_it_is_written(samples):
    check(advised(samples, n=200, make_samples=make))


def test_the_advice_for_shuffled_samples_works_where_they_are_not_yet_shuffled():
    with pytest.raises(ValueError, match="must not be shuffled") as raised:
        DataSieve(DATA.shuffle(200).batch(10))
    code = re.search(r"DataSieve\(spfde_keras\S+", str(raised.value)).group().rstrip(".")
    check(eval(code, globals() | {"samples": DATA}))


@pytest.mark.parametrize("steps", [lambda d: d.shuffle(200), lambda d: d.shuffle(200).batch(9)])
def test_ids_travel_through_shuffling(steps):
    data = steps(with_ids(DATA))
    if data.element_spec[1].shape.rank:
        with pytest.raises(ValueError, match="must not be batched"):
            DataSieve(data)
        data = data.unbatch()
    sieve = DataSieve(data, fraction=0.5, size=200)
    check(sieve)
    (x, _), *_ = sieve.batches(100, shuffle=False)
    assert (np.diff(x.sample_id.numpy()) < 0).any()
    weighted = with_ids(DATA.map(lambda x, y: (x, y, y + 1)))
    (x, y, weight) = next(iter(DataSieve(weighted).batches(4)))
    np.testing.assert_array_equal(weight, y.numpy() + 1)


def test_ids_that_repeat_are_refused():
    with pytest.raises(ValueError, match="each id once.*repeat"):
        as_dataset(with_ids(DATA).repeat(2))


def test_an_id_beyond_the_samples_is_an_error():
    data = DATA.enumerate().map(lambda i, sample: (Identified(sample[0], i + 1), sample[1]))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"must be in \[0, 200\).*\[200\]"):
        list(DataSieve(data).batches(10))


@pytest.mark.parametrize("samples", [DATA.batch(7).unbatch(), make])
@pytest.mark.parametrize("size", [199, 201])
def test_a_size_that_differs_is_an_error_when_all_is_read(samples, size):
    sieve = DataSieve(samples, size=size)
    with pytest.raises(tf.errors.FailedPreconditionError, match=f"expected to contain {size}"):
        list(sieve.batches(10))


@pytest.mark.parametrize(
    "samples, size, words",
    [
        (DATA, 199, "`size` must be the number of samples, 200, or None. Received: 199"),
        ((X, Y), 201, "`size` must be the number of samples, 200"),
        (DATA.repeat(), 200, "infinite"),
        (make, None, r"DataSieve\(samples, size=n\)"),
        (lambda: iter(()), 3, "must not be empty"),
        (make, 0, "`size` must be an integer of at least 1. Received: 0"),
        (make, 2.5, "`size` must be an integer"),
        (make, True, "`size` must be an integer"),
    ],
)
def test_sizes_that_cannot_be_are_refused(samples, size, words):
    with pytest.raises(ValueError, match=words):
        DataSieve(samples, size=size)
