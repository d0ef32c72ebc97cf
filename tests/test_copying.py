"""Copies of layers share nothing that learns, and whatever was shared inside stays so."""

import functools

import keras
import numpy as np
import pytest
from keras import layers, ops

from spfde_keras.copying import CannotCopy, Copies, obstacle
from tests.own_layers import Two


def built(layer, shape=(None, 8)):
    layer.build(shape)
    return layer


def test_values_paths_and_flags_are_those_of_the_layer():
    dense = built(layers.Dense(2, kernel_regularizer="l2", activation=ops.tanh, name="fc"))
    dense.bias.trainable = False
    made = Copies({}).layer(dense)
    assert type(made) is layers.Dense and made is not dense
    assert (made.name, made.path, made.built) == ("fc", dense.path, True)
    assert [w.path for w in made.weights] == [w.path for w in dense.weights]
    assert made.trainable_weights == [made.kernel] and made.activation is ops.tanh
    np.testing.assert_array_equal(made.kernel, dense.kernel)
    assert float(made.losses[0]) == float(dense.losses[0])
    made.kernel.assign(np.zeros((8, 2)))
    assert np.asarray(dense.kernel).any()
    with pytest.raises(ValueError, match="cannot add new elements of state"):
        made.more = layers.Dense(2)  # locked, as layers are that have been built


def test_a_frozen_layer_stays_frozen():
    two = built(Two())
    two.a.trainable = False
    made = Copies({}).layer(two)
    assert (made.a.trainable, made.b.trainable, made.trainable) == (False, True, True)
    two.trainable = False
    assert not Copies({}).layer(two).trainable_weights


class Shared(layers.Layer):
    """Holds one layer three times, itself, and numbers."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(8)
        self.listed = [self.dense, {"inside": (self.dense, 3)}]
        self.other = functools.partial(self.twice, layer=self.dense)
        self.me = {"me": self.twice}
        self.calls = [0]

    def build(self, shape):
        self.dense.build(shape)
        self.kernel = self.dense.kernel

    def twice(self, x, layer):
        return layer(layer(x))

    def call(self, x):
        self.calls[0] += 1
        return self.other(x) + ops.matmul(x, self.kernel)


def test_what_is_shared_inside_stays_shared():
    layer = built(Shared())
    made = Copies({}).layer(layer)
    assert made.dense is not layer.dense
    assert made.listed[0] is made.listed[1]["inside"][0] is made.dense
    assert made.other.keywords["layer"] is made.dense and made.me["me"].__self__ is made
    assert made.kernel is made.dense.kernel
    x = np.ones((1, 8), "float32")
    np.testing.assert_array_equal(made(x), layer(x))
    assert (layer.calls, made.calls) == ([1], [1])  # state of its own, too


def test_replacements_take_every_place():
    layer = built(Shared())
    new = built(layers.Dense(8, name="new"))
    made = Copies({layer.dense: new}).layer(layer)
    assert made.dense is made.listed[0] is made.other.keywords["layer"] is new
    assert made.kernel is new.kernel and made.weights == new.weights


def test_two_layers_that_share_one_share_its_copy():
    inner = built(layers.Dense(8))

    class Holder(layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = inner

        def call(self, x):
            return self.inner(x)

    copies = Copies({})
    assert copies.layer(Holder()).inner is copies.layer(Holder()).inner is not inner


def test_random_states_go_on_where_they_were():
    drop = layers.Dropout(0.5, seed=3)
    x = np.ones((1, 64), "float32")
    drop(x, training=True)
    made = Copies({}).layer(drop)
    np.testing.assert_array_equal(made(x, training=True), drop(x, training=True))
    assert made.seed_generator is not drop.seed_generator


def test_graphs_are_made_anew_and_keep_their_kind():
    inner = keras.Sequential([keras.Input((8,)), layers.Dense(8, name="a")], name="inner")
    x = keras.Input((8,))
    model = keras.Model(x, inner(inner(x)), name="outer")
    made = Copies({}).graph(model)
    nested = made.get_layer("inner")
    assert type(nested) is keras.Sequential and nested.layers[0] is not inner.layers[0]
    assert len(made.weights) == 2
    x = np.ones((1, 8), "float32")
    np.testing.assert_allclose(made(x), model(x), rtol=1e-6)


def test_a_nested_model_that_is_frozen_stays_so():
    inner = keras.Sequential([keras.Input((8,)), layers.Dense(8), layers.Dense(8)])
    x = keras.Input((8,))
    model = keras.Model(x, layers.Dense(2)(inner(x)))
    inner.layers[0].trainable = False
    assert len(Copies({}).graph(model).trainable_weights) == 4
    inner.trainable = False
    assert len(Copies({}).graph(model).trainable_weights) == 2


class OwnCall(keras.Model):
    def call(self, inputs, training=None, mask=None):
        return 2 * super().call(inputs, training=training, mask=mask)


def own_call():
    x = keras.Input((8,))
    return OwnCall(x, layers.Dense(2)(x))


def with_function():
    layer = built(Two())
    layer.function = lambda x: layer.a(x)
    return layer


def with_metric():
    layer = layers.Layer()
    layer.metric = keras.metrics.Mean()
    return layer


def adapted():
    layer = layers.StringLookup()
    layer.adapt(["a", "b"])
    return layer


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (own_call, "a functional model with a `call` of its own"),
        (with_function, "its function '<lambda>' refers to layers or weights"),
        (with_metric, "it holds a Mean"),
        (adapted, "adapted to data"),
    ],
)
def test_what_cannot_be_copied_is_named(make, reason):
    layer = make()
    assert reason in obstacle(layer)
    if reason != "adapted to data":
        with pytest.raises(CannotCopy):
            Copies({}).layer(layer)
    assert Copies({}, shared=[layer]).layer(layer) is layer


def test_looking_for_obstacles_changes_nothing():
    layer = built(Shared())
    before = [w.numpy() for w in layer.weights]
    assert obstacle(layer) == ""
    assert layer.weights == [layer.dense.kernel, layer.dense.bias]
    for weight, value in zip(layer.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)
