"""Functions of (x, y) behind a sieve's batches, and epochs of so many steps."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from spfde_keras import DataSieve, SpFDE, sparsify, wrap
from spfde_keras.sieve import Identified

X = np.arange(24, dtype="float32").reshape(12, 2)
Y = np.arange(12) % 3


def model():
    net = keras.Sequential(
        [keras.Input((2,)), *(keras.layers.Dense(8) for _ in range(2)), keras.layers.Dense(3)]
    )
    sparse = sparsify(net, 0.5)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    sparse.compile(keras.optimizers.SGD(0.01), loss)
    return sparse


def scaled(x, y):
    return tf.cast(x, tf.float16) / 2, y


def weighted(x, y):
    return x, y, tf.ones_like(y, tf.float32)


def test_ids_are_carried_past_functions_of_inputs_and_labels():
    sieve = DataSieve((X, Y), 0.25)
    batches = sieve.batches(4, shuffle=False).map(scaled, num_parallel_calls=2).map(weighted)
    for x, y, weight in batches:
        assert isinstance(x, Identified) and x.sample_id.dtype == tf.int64
        np.testing.assert_array_equal(x.inputs, X[x.sample_id] / 2)
        np.testing.assert_array_equal(y, Y[x.sample_id])
        assert x.inputs.dtype == tf.float16 and weight.shape == y.shape


def test_the_model_trains_and_is_sieved_on_what_was_mapped():
    sieve = DataSieve((X, Y), 0.25)
    batches = sieve.batches(4).map(lambda x, y: (x / 24, y)).prefetch(1)
    history = (
        model()
        .fit(batches, epochs=2, verbose=0, callbacks=[SpFDE(2, "rigl", 1, sieve=sieve)])
        .history
    )
    assert history["active_samples"] == [9, 9]
    assert (sieve.learned.numpy() != 0).any()


def test_what_a_function_must_return_is_said_when_it_is_mapped():
    batches = DataSieve((X, Y), 0.25).batches(4)
    with pytest.raises(ValueError, match="mapped over batches of a sieve must return"):
        batches.map(lambda x, y: x)


@pytest.mark.parametrize(("steps", "samples"), [(2, 8), (3, 9), (50, 9)])
@pytest.mark.parametrize("policy", ["circular", "one_time"])
def test_steps_per_epoch_are_the_most_steps_of_an_epoch(steps, samples, policy):
    sieve = DataSieve((X, Y), 0.25, policy=policy)
    samples = min(4 * steps, 12) if policy == "one_time" else samples
    seen = []

    class Count(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(sieve.member.numpy().copy())

    history = (
        model()
        .fit(
            sieve.batches(4),
            epochs=3,
            steps_per_epoch=steps,
            verbose=0,
            callbacks=[SpFDE(3, "set", 1, sieve=sieve), Count()],
        )
        .history
    )
    if policy == "circular":
        assert history["active_samples"] == [samples] * 3
        assert (seen[0] != seen[1]).any()  # updates are not put off
    else:
        assert history["active_samples"][0] == samples
    assert 0 < history["flops_share"][-1] < 1


def test_batches_that_nobody_can_count_are_refused():
    for changed in (
        lambda batches: batches.cache(),
        lambda batches: batches.repeat(2),
        lambda batches: batches.prefetch(1).filter(lambda *_: True),
    ):
        sieve = DataSieve((X, Y), 0.25)
        with pytest.raises(ValueError, match="`x` must be what `sieve.batches` returned, or what"):
            model().fit(changed(sieve.batches(4)), epochs=2, callbacks=[SpFDE(2, sieve=sieve)])


def test_functions_of_batches_as_they_are():
    def shifted(x, y):
        return Identified(x.inputs + tf.cast(x.sample_id, tf.float32)[:, None], x.sample_id), y

    sieve = DataSieve((X, Y), 0.25)
    batches = sieve.batches(4, shuffle=False).map_identified(shifted).prefetch(1)
    for x, y in batches:
        np.testing.assert_array_equal(x.inputs, X[x.sample_id] + x.sample_id.numpy()[:, None])
        np.testing.assert_array_equal(y, Y[x.sample_id])
    model().fit(batches, epochs=2, verbose=0, callbacks=[SpFDE(2, sieve=sieve)])


def test_a_list_of_keras_with_fewer_steps_is_refused():
    sieve, net = DataSieve((X, Y), 0.25), model()
    callbacks = keras.callbacks.CallbackList([SpFDE(2, sieve=sieve)], model=net, epochs=2)
    for batches, more in [
        (sieve.batches(4), {"steps_per_epoch": 2}),
        (sieve.batches(4).take(2), {}),
    ]:
        with pytest.raises(
            ValueError, match="`callbacks` must be a list .* CallbackList, and 2 st"
        ):
            net.fit(batches, epochs=2, callbacks=callbacks, **more)


def test_an_incomplete_batch_that_is_left_out_is_no_cost_of_dense_training():
    sieve = DataSieve((X, Y), 0.0)
    net = wrap(keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]))
    net.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    batches = sieve.batches(5, drop_remainder=True)
    logs = net.fit(batches, verbose=0, callbacks=[SpFDE(1, "static", sieve=sieve)]).history
    assert logs["active_samples"] == [10] and logs["flops_share"] == [1.0]
