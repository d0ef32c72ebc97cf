"""Ids of their own, buffers, and seeds for what preprocessing draws."""

import numpy as np
import pytest
import tensorflow as tf

from spfde_keras.sieve.data_sieve import DataSieve
from spfde_keras.sieve.identified import Identified
from spfde_keras.sieve.sizes import Sizes
from tests.sieves import ids_of, make_sieve

SAMPLES = 200


def with_ids(ids, stack=True):
    """Samples that say to have these ids; their size may be one that TensorFlow does not know."""
    ids = np.asarray(ids, np.int64)
    data = tf.data.Dataset.from_tensor_slices(ids)
    data = data.map(lambda i: (Identified(tf.ones([2 if stack else 2 + 0 * i]), i), i % 2))
    return data.apply(tf.data.experimental.assert_cardinality(len(ids)))


def changed(place, value):
    ids = np.random.default_rng(0).permutation(SAMPLES)
    ids[np.flatnonzero(ids == place)] = value
    return ids


@pytest.mark.parametrize("stack", [True, False])
@pytest.mark.parametrize(
    "ids, words",
    [
        (changed(7, 200), r"Sample ids must be in \[0, 200\), each once.*Received:\] \[200\]"),
        (changed(7, -3), r"in \[0, 200\).*Received:\] \[-3\]"),
        (changed(7, 8), r"in \[0, 200\), each once in an epoch.*Received again:\] \[8\]"),
    ],
)
def test_wrong_ids_are_named(ids, words, stack):
    sieve = DataSieve(with_ids(ids, stack), fraction=0.0)
    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        list(sieve.batches(10))


@pytest.mark.parametrize("stack", [True, False])
def test_missing_ids_are_named(stack):
    ids = [i for i in range(SAMPLES) if i not in (5, 199)]
    data = with_ids(ids, stack).filter(lambda x, y: True)
    sieve = DataSieve(data, fraction=0.0, size=SAMPLES)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"Missing:\] \[5 199\]"):
        list(sieve.batches(10))


@pytest.mark.parametrize("stack", [True, False])
@pytest.mark.parametrize("fraction", [0.0, 0.5])
def test_right_ids_pass_in_each_epoch(stack, fraction):
    sieve = DataSieve(with_ids(changed(0, 0), stack), fraction=fraction)
    for _ in range(2):
        ids = np.concatenate(ids_of(sieve.batches(30)))
        assert sorted(ids) == np.flatnonzero(sieve.member.numpy()).tolist()


@pytest.mark.parametrize(
    "sample, buffer, block",
    [
        (lambda i: i, 50_000, 1024),
        (lambda i: tf.zeros((224, 224, 3)), 445, 6),
        (lambda i: (tf.zeros(2**27), 0), 1, 1),
        (lambda i: tf.constant("x" * 2**16), 2**12, 64),
        (lambda i: (tf.zeros([2**20 + 0 * i], tf.uint8), 0), 255, 1),
    ],
)
def test_buffers_and_blocks_hold_so_many_samples_and_so_many_bytes(sample, buffer, block):
    sizes = Sizes(tf.data.Dataset.range(10**6).map(sample))
    assert (sizes.buffer, sizes.block) == (buffer, block)


def test_arrays_are_shuffled_as_a_whole():
    sieve = make_sieve(100_000, fraction=0.0)
    ids = np.concatenate(ids_of(sieve.batches(1000)))
    assert sorted(ids) == list(range(100_000))
    # As far from their places as chance puts them: a third of their number in the mean.
    assert np.abs(ids - np.arange(100_000)).mean() == pytest.approx(100_000 / 3, rel=0.02)


def test_preprocess_may_have_a_seed_that_is_its_samples_own():
    def preprocess(x, y, seed):
        return tf.random.stateless_uniform((), seed), y

    def draws(sieve):
        return {
            (epoch, int(i)): float(value)
            for epoch in range(3)
            for x, _ in sieve.batches(7, preprocess)
            for i, value in zip(x.sample_id, x.inputs, strict=True)
        }

    found = draws(make_sieve(20, fraction=0.0))
    assert len(set(found.values())) == len(found) == 60
    assert draws(make_sieve(20, fraction=0.0)) == found
    other = draws(make_sieve(20, fraction=0.0, seed=1))
    assert not set(other.values()) & set(found.values())
    resumed = make_sieve(20, fraction=0.0)
    resumed.start_epoch(2)
    for x, _ in resumed.batches(3, preprocess):
        for i, value in zip(x.sample_id, x.inputs, strict=True):
            assert found[2, int(i)] == float(value)
