"""Models of a fixed batch size are sieved where they can be; what cannot be says so first."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from spfde_keras import SpFDE, sparsify
from spfde_keras.sieve.data_sieve import DataSieve

X = np.random.default_rng(0).normal(size=(30, 4, 4)).astype("float32")
Y = np.arange(30) % 2


def model(flatten, first=None):
    x = inputs = keras.Input((4, 4), batch_size=8)
    x = (first or layers.Dense(8))(x)
    x = layers.Dense(16)(flatten(x))
    made = sparsify(keras.Model(inputs, layers.Dense(2)(x)), 0.5)
    made.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return made


def fit(made, samples, **batches):
    sieve = DataSieve((X[:samples], Y[:samples]), fraction=0)
    callback = SpFDE(2, "rigl", 1, sieve=sieve)
    data = sieve.batches(8, **batches)
    return made.fit(data, epochs=2, verbose=0, callbacks=[callback]).history["active_samples"]


def fixed(x):
    return ops.reshape(x, (8, 32))


@pytest.mark.parametrize(
    "flatten, samples, options, expected",
    [
        (layers.Reshape((32,)), 30, {}, 30),  # takes any batch, whatever its input says
        (fixed, 24, {}, 24),
        (fixed, 30, {"drop_remainder": True}, 24),
    ],
)
def test_a_fixed_batch_size_trains(flatten, samples, options, expected):
    assert fit(model(flatten), samples, **options) == [expected] * 2


def test_an_incomplete_batch_is_refused_where_the_model_does_not_take_it():
    with pytest.raises(ValueError, match="the model fixes, 8: .*drop_remainder.*batch of 6 samp"):
        fit(model(fixed), 30)


def test_states_are_refused_with_a_sieve_and_kept_without():
    lstm = layers.LSTM(8, stateful=True, name="lstm")
    made = model(layers.Identity(), lstm)
    with pytest.raises(ValueError, match=r"stateful=False. Received: stateful layers \['lstm'\]"):
        fit(made, 24)
    history = made.fit(
        X[:24], Y[:24], 8, epochs=2, shuffle=False, verbose=0, callbacks=[SpFDE(2, "rigl", 1)]
    )
    assert np.isfinite(history.history["loss"]).all()
