"""Parts of batches of any structure."""

import numpy as np
import pytest
import tensorflow as tf

from spfde_keras.batches import batch_size, known_size, part, with_rows
from spfde_keras.sieve.identified import Identified

SPARSE = tf.sparse.from_dense([[1, 0], [0, 2], [3, 0]])
RAGGED = tf.ragged.constant([[1], [2, 3], []])
BATCH = (
    Identified({"a": tf.constant([1.0, 2.0, 3.0]), "b": None}, tf.constant([7, 8, 9])),
    [SPARSE, RAGGED],
)


@pytest.mark.parametrize("batch", [BATCH, SPARSE, RAGGED, tf.zeros((3, 2)), (None, tf.zeros(3))])
def test_batch_size_is_the_number_of_samples(batch):
    assert int(batch_size(batch)) == 3


def test_known_size_is_that_of_the_shape():
    assert known_size((tf.zeros((3, 2)),)) == 3
    assert known_size(tf.TensorSpec((None, 2))) is None


def test_a_part_has_the_structure_of_the_batch():
    x, (sparse, ragged) = part(BATCH, tf.constant(1, tf.int64), tf.constant(3, tf.int64))
    assert x.inputs["a"].numpy().tolist() == [2, 3] and x.inputs["b"] is None
    assert x.sample_id.numpy().tolist() == [8, 9]
    assert tf.sparse.to_dense(sparse).numpy().tolist() == [[0, 2], [3, 0]]
    assert ragged.to_list() == [[2, 3], []]


def test_parts_are_the_whole():
    data = np.arange(10)
    parts = [part(tf.constant(data), i * 10 // 4, (i + 1) * 10 // 4) for i in range(4)]
    assert [len(one) for one in parts] == [2, 3, 2, 3]
    assert np.concatenate(parts).tolist() == data.tolist()


@pytest.mark.parametrize("count", [0, 1])
def test_rows_of_zeros_are_added(count):
    x, (sparse, ragged) = with_rows(BATCH, tf.constant(count))
    assert x.inputs["a"].numpy().tolist() == [1, 2, 3] + [0] * count
    assert sparse.dense_shape.numpy().tolist() == [3 + count, 2]
    assert ragged.to_list() == RAGGED.to_list()
    assert (
        with_rows(tf.constant(["a"]), tf.constant(count)).numpy().tolist() == [b"a"] + [b""] * count
    )
