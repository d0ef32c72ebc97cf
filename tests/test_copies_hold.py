"""Where a copy cannot follow, one line says so; and the original stays as it was."""

import functools
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from spfde_keras import densify, find_blocks, sparsify, wrap
from spfde_keras.masking import find_masks

X = np.random.default_rng(0).normal(size=(4, 8)).astype("float32")


def around(part):
    inputs = keras.Input((8,))
    x = layers.Dense(8, name="stem")(inputs)
    return keras.Model(inputs, layers.Dense(2, name="head")(part()(x)))


class Hidden(layers.Layer):
    """Calls its layer by a way that attributes do not show."""

    def __init__(self, way, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(8, name="inner")
        self.way = way(self.dense)

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        return self.way(x)


class Slots:
    __slots__ = ("layer",)

    def __init__(self, layer):
        self.layer = layer

    def __call__(self, x):
        return self.layer(x)


def by_weak_reference(layer):
    reference = weakref.ref(layer)
    return functools.partial(lambda reference, x: reference()(x), reference)


WAYS = {
    "tf.function": lambda layer: tf.function(layer.call),
    "slots": Slots,
    "weakref": by_weak_reference,
    "keyword default": lambda layer: lambda x, *, inner=layer: inner(x),
}


@pytest.mark.parametrize("make", [lambda model: sparsify(model, 0.5), wrap, densify])
@pytest.mark.parametrize("way", WAYS)
def test_weights_read_past_a_copy_are_named(way, make):
    model = around(lambda: Hidden(WAYS[way]))
    with pytest.raises(ValueError, match="a model that also uses .*inner/kernel.* elsewhere"):
        make(model)


def test_weights_that_a_graph_uses_are_copied_and_refused_past_their_mask():
    inputs = keras.Input((8,))
    encoder = layers.Dense(8, name="encoder")
    x = layers.Dense(8, name="middle")(encoder(inputs))
    model = keras.Model(inputs, ops.matmul(x, encoder.kernel))
    made = wrap(model)
    np.testing.assert_allclose(made(X), model(X), rtol=1e-5)
    made.get_layer("encoder").kernel.assign(np.zeros((8, 8)))
    assert not np.asarray(made(X)).any() and np.asarray(model(X)).any()
    with pytest.raises(ValueError, match="`dense` must hold .* uses encoder/kernel elsewhere"):
        sparsify(model, 0.5)
    assert len(find_masks(sparsify(model, 0.5, dense="encoder"))) == 1
    tied = keras.layers.Lambda(lambda x: x @ ops.transpose(encoder.kernel))
    with pytest.raises(ValueError, match="also uses encoder/kernel elsewhere"):
        wrap(keras.Model(inputs, tied(x)))


class Counting(layers.Layer):
    """Changes state whenever it is called."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)
        self.seed = keras.random.SeedGenerator(0)

    def call(self, x):
        self.calls.assign_add(1.0)
        return x + 0 * keras.random.normal(ops.shape(x), seed=self.seed)


@pytest.mark.parametrize("make", [lambda model: sparsify(model, 0.5), wrap, densify])
def test_the_original_keeps_its_state(make):
    model = around(lambda: keras.Sequential([Counting(), layers.Dense(8)]))
    before = [np.asarray(variable) for variable in model.variables]
    make(model)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


class Unused(layers.Layer):
    """Makes layers that it calls for other shapes only."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense, self.shortcut = layers.Dense(8, name="used"), layers.Dense(8)
        self.other = [layers.LSTM(4), layers.MultiHeadAttention(2, 4), layers.Conv1D(4, 3)]

    def call(self, x):
        return self.dense(x)


def test_layers_that_were_never_built_have_no_kernel():
    model = around(Unused)
    sparse = sparsify(model, 0.5)
    assert [mask.kernel_path.split("/")[-2] for mask in find_masks(sparse)] == ["stem", "used"]
    np.testing.assert_allclose(densify(sparse)(X), sparse(X), rtol=1e-5)


class WithHistory(keras.Model):
    """Names its layers as Keras names other things."""

    def __init__(self):
        super().__init__()
        self.history, self.loss = layers.Dense(8), layers.Dense(2)

    def call(self, x):
        return self.loss(self.history(x))


class Texts(keras.Model):
    def __init__(self):
        super().__init__()
        self.table, self.dense = layers.Embedding(6000, 4), layers.Dense(4)
        self.pool, self.head = layers.GlobalAveragePooling1D(), layers.Dense(2)

    def call(self, x):
        return self.head(self.pool(self.dense(self.table(x))))


def test_subclassed_models_of_odd_names_and_whole_numbers():
    model = WithHistory()
    model(X)
    assert len(find_masks(sparsify(model, 0.5))) == 1
    keras.config.set_dtype_policy("mixed_float16")
    try:
        texts = Texts()
    finally:
        keras.config.set_dtype_policy("float32")
    tokens = np.array([[4097, 4099, 5001]], "int32")
    expected = np.asarray(texts(tokens), "float32")
    np.testing.assert_allclose(np.asarray(wrap(texts)(tokens), "float32"), expected, rtol=1e-2)


class TwoInputs(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(2)

    def call(self, x, y):
        return self.dense(x + y)


def test_several_arguments_are_refused_in_one_line():
    model = TwoInputs()
    model(X, X)
    with pytest.raises(ValueError, match="`model` must .* one input .*TwoInputs"):
        sparsify(model, 0.5)


def test_layers_that_share_one_inside_freeze_together():
    shared = layers.Dense(8, name="shared")

    class Block(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.own, self.shared = layers.Dense(8), shared

        def call(self, x):
            return self.shared(self.own(x))

    x = inputs = keras.Input((8,))
    for name in ("one", "two"):
        x = Block(name=name)(layers.Dense(8, name=f"before_{name}")(x))
    model = keras.Model(inputs, layers.Dense(2, name="head")(x))
    blocks = [[layer.name for layer in block] for block in find_blocks(model)]
    assert blocks == [["before_one"], ["one", "before_two", "two"], ["head"]]
    with pytest.raises(ValueError, match="`blocks` must put layers that share weights in one"):
        find_blocks(model, ["before_one", "one", "before_two", "two", "head"])


def test_what_is_also_inside_of_a_layer_that_cannot_be_copied_stays_dense():
    dense = layers.Dense(8, name="both")

    class Sealed(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = dense
            self.function = lambda x: dense(x)

        def call(self, x):
            return self.function(x)

    inputs = keras.Input((8,))
    x = Sealed(name="sealed")(layers.Dense(8, name="other")(dense(inputs)))
    model = keras.Model(inputs, layers.Dense(2, name="head")(x))
    with pytest.warns(UserWarning, match="sealed"):
        sparse = sparsify(model, 0.5)
    assert sparse.left_dense["both"].startswith("inside sealed, which cannot be copied")
    assert len(sparse.trainable_weights) == len(model.trainable_weights)
