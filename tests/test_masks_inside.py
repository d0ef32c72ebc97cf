"""Masks reach kernels wherever they lie: in cells, wrappers, blocks and subclassed models."""

import functools

import keras
import numpy as np
import pytest
from keras import layers, ops

from spfde_keras import DataSieve, SpFDE, densify, export_tflite, sparsify, summary, wrap
from spfde_keras.masking import find_masks
from tests.own_layers import Two

X = np.random.default_rng(0).normal(size=(8, 6, 8)).astype("float32")


@keras.saving.register_keras_serializable("test_masks_inside")
class Block(layers.Layer):
    """A transformer block as Keras' examples write it: lists, dictionaries, an inner network."""

    def __init__(self, width=8, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.attention = layers.MultiHeadAttention(2, 4)
        self.ffn = keras.Sequential([layers.Dense(16, "relu"), layers.Dense(width)])
        self.norms = [layers.LayerNormalization(), layers.BatchNormalization()]
        self.drop = {"rate": 0.1, "layer": layers.Dropout(0.1)}

    def call(self, x, training=None):
        y = self.drop["layer"](self.attention(x, x), training=training)
        x = self.norms[0](x + y)
        return self.norms[1](x + self.ffn(x), training=training)

    def get_config(self):
        return super().get_config() | {"width": self.width}


class Held:
    """Not a layer, but holds some, where Keras does not look."""

    def __init__(self, inner):
        self.inner = inner


class Roundabout(layers.Layer):
    """Calls its layers through whatever Python has."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.a, self.b, self.c = (layers.Dense(8) for _ in range(3))
        self.method = self.a.call
        self.partial = functools.partial(self.apply, inner=self.b)
        self.held = Held(self.c)
        self.scale = self.add_weight(shape=(8,), initializer="ones", name="scale")

    def build(self, shape):
        for layer in (self.a, self.b, self.c):
            layer.build(shape)

    def apply(self, x, inner):
        return ops.relu(inner(x)) * self.scale

    def call(self, x):
        return self.held.inner(self.partial(self.method(x)))


class Nested(keras.Model):
    """A subclassed model of blocks, with a weight of its own."""

    def __init__(self):
        super().__init__()
        self.blocks = [Block(), Two()]
        self.token = self.add_weight(shape=(1, 1, 8), name="token")

    def call(self, x, training=None):
        for block in self.blocks:
            x = block(x)
        return x + self.token


def itself(layer):
    return lambda: lambda x: layer()(x, x)


def second(layer):
    """Behind the first convolution, which stays dense."""
    return lambda: keras.Sequential([layers.Conv1D(8, 1), layer()])


PARTS = {
    "LSTM": (lambda: layers.LSTM(4, return_sequences=True), 2),
    "GRU": (lambda: layers.GRU(4, return_sequences=True), 2),
    "SimpleRNN": (lambda: layers.SimpleRNN(4, return_sequences=True), 2),
    "cells": (lambda: layers.RNN([layers.LSTMCell(4), layers.GRUCell(4)]), 4),
    "SimpleRNNCell": (lambda: layers.RNN(layers.SimpleRNNCell(4)), 2),
    "Bidirectional": (lambda: layers.Bidirectional(layers.LSTM(4)), 4),
    "TimeDistributed": (lambda: layers.TimeDistributed(layers.Dense(4)), 1),
    "SpectralNormalization": (lambda: layers.SpectralNormalization(layers.Dense(4)), 1),
    "GroupQueryAttention": (itself(lambda: layers.GroupQueryAttention(4, 2, 1)), 4),
    "Conv1DTranspose": (second(lambda: layers.Conv1DTranspose(4, 3)), 1),
    "DepthwiseConv1D": (second(lambda: layers.DepthwiseConv1D(3)), 1),
    "SeparableConv1D": (second(lambda: layers.SeparableConv1D(4, 3)), 2),
    "block": (Block, 6),
    "through objects": (Roundabout, 3),
    "subclassed model": (Nested, 8),
}
# What Keras itself cannot load from its configuration alone.
UNSAVED = ("through objects", "subclassed model")


def around(part):
    inputs = keras.Input((6, 8))
    x = layers.Flatten()(part()(inputs))
    return keras.Model(inputs, layers.Dense(2, name="head")(x), name="net")


def weights_of(model):
    masks = {id(variable) for mask in find_masks(model) for variable in mask.variables}
    return [weight for weight in model.weights if id(weight) not in masks]


@pytest.mark.parametrize("name", PARTS)
def test_kernels_inside_are_masked_trained_and_saved(name, tmp_path):
    part, count = PARTS[name]
    model = around(part)
    before = [weight.numpy() for weight in model.weights]
    sparse = sparsify(model, 0.5, dense=("first", "last"))
    masks = find_masks(sparse)
    assert len(masks) == count
    reasons = {"classifier (last layer)", "first convolution", "weights of its own"}
    assert set(sparse.left_dense.values()) <= reasons
    # Keras' own layers, with the same kernels and zeros in them, are the oracle.
    twin = keras.models.clone_model(model) if name not in UNSAVED else around(part)
    for weight, value in zip(twin.weights, weights_of(sparse), strict=True):
        weight.assign(value)
    np.testing.assert_allclose(sparse(X), twin(X), rtol=1e-4, atol=1e-5)
    assert [type(x) for x in densify(sparse).layers] == [type(x) for x in model.layers]
    assert not find_masks(densify(sparse))

    sparse.compile("adam", "mse")
    callback = SpFDE(2, "rigl", 1)
    sparse.fit(X, np.ones((8, 2)), epochs=2, verbose=0, callbacks=[callback])
    for mask in masks:
        kernel, (kept,) = mask.read()
        assert kept.mean() == pytest.approx(0.5, abs=0.05)
        assert not kernel[~kept].any() and kernel[kept].any()
    np.testing.assert_allclose(densify(sparse)(X), sparse(X), rtol=1e-4, atol=1e-5)
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)

    if name not in UNSAVED:
        sparse.save(tmp_path / "model.keras")
        restored = keras.models.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(restored(X), sparse(X))
        assert [m.kernel_path for m in find_masks(restored)] == [m.kernel_path for m in masks]


def test_wrappers_are_masked_in_images(tmp_path):
    inputs = keras.Input((3, 4, 4, 2))
    x = layers.ConvLSTM2D(4, 3, padding="same")(inputs)
    x = layers.Conv2DTranspose(4, 3, name="up")(x)
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))
    sparse = sparsify(model, 0.5, dense="last")
    assert [mask.layout.shape for mask in find_masks(sparse)] == [
        (3, 3, 2, 16),
        (3, 3, 4, 16),
        (3, 3, 4, 4),
    ]
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 4, 2)).astype("float32")
    np.testing.assert_allclose(densify(sparse)(x), sparse(x), rtol=1e-4, atol=1e-5)


def test_paths_name_what_is_inside():
    model = around(lambda: Block(name="block"))
    lines = []
    sparse = sparsify(model, 0.5, dense=["last", "block/multi.*"], distribution={"dense_1/": 0.75})
    summary(sparse, lines.append)
    assert [line.split()[0] for line in lines[1:3]] == [
        mask.kernel_path for mask in find_masks(sparse)
    ]
    assert all(line.startswith("block/") for line in lines[1:3])
    left = sparsify(around(Nested), 0.5, dense=["last", ".*/two"]).left_dense
    assert len(left) == 4


def test_sub_nets_have_normalizations_of_their_own_inside_blocks(tmp_path):
    sparse = sparsify(around(Block), [0.5, 0.75], initial="random")
    sparse.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    for subnet in range(2):
        for model in (sparse, restored):
            model.activate(subnet)
        np.testing.assert_array_equal(restored(X), sparse(X))
        plain = densify(sparse, subnet=subnet)
        np.testing.assert_allclose(plain(X), sparse(X), rtol=1e-4, atol=1e-5)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.stem = layers.Conv1D(8, 3, padding="same", name="stem")
        self.encoder = [Block(name=f"block_{index}") for index in range(2)]
        self.head = layers.Dense(2, name="head")

    def call(self, x, training=None):
        x = self.stem(x)
        for block in self.encoder:
            x = block(x, training=training)
        if x.shape[0] != 0:  # free Python
            x = ops.mean(x, axis=1)
        return self.head(x)


def test_subclassed_models_are_trained_resumed_and_exported(tmp_path):
    model = Subclassed()
    with pytest.raises(ValueError, match="must have been called once on a batch"):
        sparsify(model, 0.5)
    model(X)
    y = np.arange(8) % 2
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def train(sparse, **options):
        sparse.compile(keras.optimizers.Adam(0.01), loss)
        sieve = DataSieve((X, y), 0.25)
        callbacks = [SpFDE(2, "rigl", 1, sieve=sieve), *options.pop("callbacks", [])]
        keras.utils.set_random_seed(0)
        sparse.fit(sieve.batches(4), epochs=2, verbose=0, callbacks=callbacks, **options)
        return sparse

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path / "backup", delete_checkpoint=False)

    def made():
        # Dropout draws from states that the model saves.
        keras.utils.set_random_seed(1)
        return sparsify(model, 0.5)

    sparse = made()
    assert len(find_masks(sparse)) == 12
    assert set(sparse.left_dense) == {"subclassed/stem", "subclassed/head"}
    whole = train(sparse)
    with pytest.raises(KeyboardInterrupt):
        train(made(), callbacks=[backup(), Stop()])
    resumed = train(made(), callbacks=[backup()])
    for one, other in zip(find_masks(whole), find_masks(resumed), strict=True):
        np.testing.assert_array_equal(one.read()[1], other.read()[1])
    plain = densify(whole)
    assert type(plain.layers[-1]) is Subclassed and not find_masks(plain)
    np.testing.assert_allclose(plain(X), whole(X), rtol=1e-4, atol=1e-5)
    report = export_tflite(whole, tmp_path / "model.tflite")
    assert report.max_error < 1e-4


class OwnStep(Subclassed):
    def train_step(self, data):
        return super().train_step(data)


def test_subclassed_models_with_a_step_of_their_own_are_refused():
    model = OwnStep()
    model(X)
    with pytest.raises(ValueError, match="OwnStep, which overrides train_step"):
        sparsify(model, 0.5)


class Tied(layers.Layer):
    """Uses the kernel of another layer, past its mask."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.encoder, self.middle = layers.Dense(4), layers.Dense(4)

    def build(self, shape):
        self.encoder.build(shape)
        self.middle.build((None, 4))

    def call(self, x):
        return ops.matmul(self.middle(self.encoder(x)), ops.transpose(self.encoder.kernel))


def test_kernels_used_past_their_masks_are_refused_by_name():
    model = around(lambda: Tied(name="tied"))
    with pytest.raises(ValueError, match=r"`dense` must hold.*that uses tied/dense\w*/kernel else"):
        sparsify(model, 0.5)
    encoder = model.get_layer("tied").encoder.name
    sparse = sparsify(model, 0.5, dense=["last", f"tied/{encoder}"])
    assert len(find_masks(sparse)) == 1


class Closure(layers.Layer):
    """Its function refers to its layer, where no copy can follow."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = dense = layers.Dense(8)
        self.function = lambda x: dense(x)

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        return self.function(x)


def test_what_cannot_be_copied_belongs_to_both_models_and_stays_dense():
    model = around(lambda: keras.Sequential([Closure(name="closure"), layers.Dense(8)]))
    with pytest.warns(UserWarning, match="Layers closure belong to both models"):
        sparse = sparsify(model, 0.5)
    (reason,) = (why for name, why in sparse.left_dense.items() if "closure/" in name)
    assert reason.startswith("inside closure, which cannot be copied: its function '<lambda>'")
    np.testing.assert_allclose(wrap(model)(X), model(X), rtol=1e-5)
