"""Models of several inputs are sieved as they are trained in plain Keras, and of optional ones."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from spfde_keras import SpFDE, sparsify
from spfde_keras.sieve.data_sieve import DataSieve
from spfde_keras.sieve.inputs import as_dataset

RNG = np.random.default_rng(0)
A, B, C = (RNG.normal(size=(24, size)).astype("float32") for size in (4, 4, 3))
Y = RNG.integers(0, 2, 24)


class AddIfGiven(layers.Layer):
    def call(self, a, b=None):
        return a if b is None else a + b

    def compute_output_spec(self, a, b=None):
        return keras.KerasTensor(a.shape, a.dtype)


FORMS = {
    "list": [A, B],
    "list of two widths": [A, C],
    "tuple": (A, B),
    "dictionary": {"a": A, "b": B},
    "list with an optional input": [A, None],
    "dictionary with an optional input": {"a": A, "b": None},
}


def net(x):
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    second = (x["b"] if isinstance(x, dict) else x[1]) is None
    width = 3 if isinstance(x, list) and x[1] is C else 4
    a = keras.Input((4,), name="a")
    b = keras.Input((width,), name="b", optional=second)
    joined = AddIfGiven()(a, b) if second else layers.Concatenate()([a, b])
    inputs = {"a": a, "b": b} if isinstance(x, dict) else type(x)([a, b])
    hidden = layers.Dense(8, "relu", name="hidden")(layers.Dense(8)(joined))
    model = sparsify(keras.Model(inputs, layers.Dense(2)(hidden)), 0.5)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def each(x):
    """A function that yields the samples, one by one, in the form of `x`."""

    def sample(index):
        return keras.tree.map_structure(lambda part: None if part is None else part[index], x)

    def samples():
        return ((sample(index), Y[index]) for index in range(24))

    return samples


@pytest.mark.parametrize("form", FORMS)
def test_any_form_of_inputs_trains_as_without_a_sieve(form):
    x = FORMS[form]
    plain = net(x).fit(x, Y, 8, epochs=2, shuffle=False, verbose=0, callbacks=[SpFDE(2, "rigl", 1)])
    for samples, size in (((x, Y), None), (each(x), 24)):
        sieve = DataSieve(samples, fraction=0, size=size)
        callback = SpFDE(2, "rigl", 1, sieve=sieve)
        history = net(x).fit(sieve.batches(8, shuffle=1), epochs=2, verbose=0, callbacks=[callback])
        np.testing.assert_allclose(history.history["loss"], plain.history["loss"], rtol=1e-6)


def test_lists_of_samples_and_of_numbers_are_arrays():
    assert as_dataset(([row for row in A], Y.tolist())).element_spec[0].shape == (4,)
    assert as_dataset((A.tolist(), Y)).element_spec[0].shape == (4,)
    outputs = as_dataset((A, [Y, C])).element_spec[1]
    assert [spec.shape for spec in outputs] == [(), (3,)]
    nested = as_dataset(({"pair": [A, B]}, Y, np.ones(24))).element_spec[0]["pair"]
    assert [spec.shape for spec in nested] == [(4,), (4,)]


@pytest.mark.parametrize(
    "samples, message",
    [
        (([A, B[:5]], Y), r"one entry per sample. Received: shapes \(\[\(24, 4\), \(5, 4\)\]"),
        ((tf.ragged.constant([[1], [2, 3]]), [0, 1]), "must not be ragged: pad them"),
    ],
)
def test_other_arrays_are_refused(samples, message):
    with pytest.raises(ValueError, match=message):
        as_dataset(samples)


def test_an_optional_input_is_given_in_all_samples_or_in_none():
    def samples():
        yield (A[0], None), 0
        yield (A[1], B[1]), 1

    with pytest.raises(tf.errors.InvalidArgumentError, match="in all samples, or in none"):
        list(DataSieve(samples, fraction=0, size=2).batches(1))
