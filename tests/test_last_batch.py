"""The batch that is kept is the last full one, whatever its structure."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from spfde_keras import SpFDE, mask_updates, sparsify
from spfde_keras.last_batch import LastBatch

L = keras.layers


def batch(samples, value):
    """Nested, with a ragged and a sparse part."""
    ragged = tf.RaggedTensor.from_row_lengths(
        tf.fill([3 * samples], value), tf.constant([2, 4] * (samples // 2) + [3] * (samples % 2))
    )
    sparse = tf.sparse.from_dense(tf.fill([samples, 2], value))
    return {"dense": tf.fill([samples, 3], value), "ragged": ragged}, sparse


def kept(batches):
    """Keeps batches of unknown size in a traced function, as those of a dataset are."""
    last = LastBatch()
    dense = tf.TensorSpec([None, 3])
    ragged = tf.RaggedTensorSpec([None, None], ragged_rank=1, row_splits_dtype=tf.int32)
    nested = ({"dense": dense, "ragged": ragged}, tf.SparseTensorSpec([None, 2]))

    @tf.function(input_signature=nested)
    def keep(x, y):
        last.assign((x, y, None))

    for each in batches:
        if each is None:
            last.start_epoch()
        else:
            keep(*each)
    return last


@pytest.mark.parametrize(
    ("batches", "index"),
    [
        ([(4, 1.0), (4, 2.0), (1, 3.0)], 1),
        ([(2, 1.0), (4, 2.0), (3, 3.0), (4, 4.0)], 3),
        ([(4, 1.0), None, (3, 2.0), (2, 3.0)], 2),
        ([(1, 1.0)], 0),
    ],
)
def test_smaller_batches_of_an_epoch_do_not_replace_it(batches, index):
    given = [None if each is None else batch(*each) for each in batches]
    last = kept(given)
    tf.nest.map_structure(
        lambda one, other: np.testing.assert_array_equal(one, other),
        tf.nest.flatten(last.read(), expand_composites=True),
        tf.nest.flatten((*given[index], None), expand_composites=True),
    )
    assert last.samples == batches[index][0]


def test_without_a_trace_it_is_the_same():
    last = LastBatch()
    for samples, value in [(3, 1.0), (2, 2.0)]:
        last.assign((tf.fill([samples], value),))
    assert last.read()[0].numpy().tolist() == [1.0] * 3


def test_gradients_are_of_a_full_batch_and_booked_as_such(monkeypatch):
    """Of a rest of one sample, batch normalization gives none, and the first weights grew."""
    rng = np.random.default_rng(0)
    hidden = [L.Dense(12), L.BatchNormalization(), L.ReLU(), L.Dense(2)]
    model = sparsify(keras.Sequential([keras.Input((6,)), *hidden]), 0.5, dense=())
    model.compile("sgd", "mse")
    seen, carry_out = [], mask_updates.carry_out

    def check(mutation, updater, subnet, rng, gradient):
        if gradient is not None:
            seen.append(np.abs(gradient).max())
        return carry_out(mutation, updater, subnet, rng, gradient)

    monkeypatch.setattr(mask_updates, "carry_out", check)
    callback = SpFDE(4, "rigl", interval=1)
    x, y = rng.normal(size=(17, 6)), rng.normal(size=(17, 2))
    model.fit(x, y, batch_size=8, epochs=4, verbose=0, callbacks=[callback])
    assert len(seen) >= 4 and min(seen) > 1e-4
    assert callback.training_flops == pytest.approx(callback.planned_cost(17, 8).total)
