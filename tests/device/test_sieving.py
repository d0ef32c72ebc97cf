"""Samples in a file are counted, and exchanged, as those of `DataSieve`."""

import numpy as np
import pytest
import tensorflow as tf

import spfde_keras
from spfde_keras.device.sieving import FORGETS, LEARNED, QUEUE, WAS_CORRECT, Sieving
from spfde_keras.randomness import generator
from spfde_keras.sieve.policies import Circular

SAMPLES = 40


def known(sieving):
    return {name: tf.constant(value) for name, value in sieving.initial.items()}


def drawn(sieve, event):
    """The numbers that order samples as the sieve does: the first drawn has the largest."""
    rng = generator(sieve.seed, event, "sieve/update")
    ids = rng.permutation(np.flatnonzero(sieve.member.numpy()))
    random, shuffle = np.zeros(SAMPLES, "float32"), np.zeros(sieve.queue.shape[0], "float32")
    random[ids] = np.linspace(1, 0.5, ids.size)
    shuffle[rng.permutation(shuffle.size)] = np.linspace(1, 0.5, shuffle.size)
    return tf.constant(random), tf.constant(shuffle)


@pytest.mark.parametrize("exchange", [1.0, 0.3])
def test_counts_queue_and_members_are_those_of_a_sieve(exchange):
    samples = np.zeros((SAMPLES, 2)), np.arange(SAMPLES) % 2
    sieve = spfde_keras.DataSieve(samples, 0.25, Circular(exchange), seed=7)
    sieving, random = Sieving(SAMPLES, 10, exchange, seed=7), np.random.default_rng(0)
    read = known(sieving)
    for event in range(1, 8):
        for _ in range(4):
            ids = random.permutation(np.flatnonzero(sieve.member.numpy()))[:16].astype("int32")
            correct = random.integers(2, size=16).astype("int32")
            sieve.count(tf.constant(ids), tf.constant(correct, tf.bool))
            read |= sieving.count(tf.constant(ids), tf.constant(correct), read)
        np.testing.assert_array_equal(read[FORGETS], sieve.forgets.numpy())
        np.testing.assert_array_equal(read[LEARNED], sieve.learned.numpy())
        numbers = drawn(sieve, event)
        sieve.update(event, 0.5)
        read, member = sieving.update(*numbers, read)
        np.testing.assert_array_equal(member, sieve.member.numpy())
        np.testing.assert_array_equal(read[QUEUE], sieve.queue.numpy())
        np.testing.assert_array_equal(read[WAS_CORRECT], sieve.was_correct.numpy())
        assert not np.any(read[FORGETS])


def test_ids_that_come_twice_damage_nothing():
    sieving = Sieving(4, 1)
    ids, read = tf.constant([2, 2]), known(sieving)
    read |= sieving.count(ids, tf.constant([1, 1]), read)
    assert read[WAS_CORRECT].numpy().tolist() == read[LEARNED].numpy().tolist() == [0, 0, 1, 0]
    read |= sieving.count(ids, tf.constant([0, 0]), read)
    assert read[WAS_CORRECT].numpy().tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("ids, known", [([0, 3], True), ([0, 4], False), ([-1, 0], False)])
def test_ids_of_no_sample_are_known(ids, known):
    assert bool(Sieving(4, 1).known(tf.constant(ids))) == known
