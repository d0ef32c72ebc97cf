"""ReLUs that run together with what they follow: the same results, in models as users have them."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import spfde_keras
from spfde_keras import kernels
from spfde_keras.layers.relu import FusedReLU, FusedReLUActivation, fused_class, unfused_class
from spfde_keras.rebuilding import like
from tests import graphs


def residual_net(relu=layers.ReLU, channels=8):
    inputs = x = keras.Input((9, 8, 3))
    x = layers.Conv2D(channels, 3, padding="same")(x)
    x = relu()(layers.BatchNormalization()(x))
    for stride in (1, 2):
        y = layers.Conv2D(channels, 3, stride, "same", use_bias=False)(x)
        y = relu()(layers.BatchNormalization()(y))
        y = layers.Conv2D(channels, 3, padding="same", use_bias=False)(y)
        shortcut = x if stride == 1 else layers.Conv2D(channels, 1, stride)(x)
        x = relu()(layers.Add()([layers.BatchNormalization()(y), shortcut]))
    return keras.Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))


@pytest.fixture
def data():
    random = np.random.default_rng(0)
    return random.normal(size=(24, 9, 8, 3)).astype("float32"), random.integers(0, 4, 24)


def trained(model, data, epochs=3, frozen=()):
    """The weights after training, those of the loss and predictions."""
    for name in frozen:
        model.get_layer(name).trainable = False
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.02), loss)
    model.fit(*data, batch_size=8, epochs=epochs, shuffle=False, verbose=0)
    return [*model.get_weights(), model.predict(data[0], verbose=0)]


@pytest.mark.parametrize("relu", [layers.ReLU, lambda: layers.Activation("relu")])
def test_a_sparse_model_trains_as_without_kernels(sparse_kernels, monkeypatch, data, relu):
    dense = residual_net(relu)
    fused = trained(spfde_keras.sparsify(dense, sparsity=0.7), data)
    monkeypatch.setenv("SPFDE_KERNELS", "dense")
    plain = trained(spfde_keras.sparsify(dense, sparsity=0.7), data)
    for one, other in zip(fused, plain, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


def test_frozen_layers_train_as_without_kernels(sparse_kernels, monkeypatch, data):
    dense = residual_net()
    frozen = [layer.name for layer in dense.layers[1:7]]
    fused = trained(spfde_keras.sparsify(dense, sparsity=0.7), data, frozen=frozen)
    monkeypatch.setenv("SPFDE_KERNELS", "dense")
    plain = trained(spfde_keras.sparsify(dense, sparsity=0.7), data, frozen=frozen)
    for one, other in zip(fused, plain, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


def test_several_subnets_train_as_without_kernels(sparse_kernels, monkeypatch, data):
    dense = residual_net()
    results = []
    for mode in ("sparse", "dense"):
        monkeypatch.setenv("SPFDE_KERNELS", mode)
        model = spfde_keras.sparsify(dense, sparsity=[0.5, 0.8], initial="random")
        model.activate(1)
        results.append(trained(model, data))
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


def operators(model, training):
    # Traced by others, without training, a model may be taken where there are no kernels.
    step = (lambda x: model(x, training=True)) if training else model.predict_step
    function = tf.function(step)
    graph = function.get_concrete_function(tf.zeros((2, 9, 8, 3))).graph
    return graphs.types_needed(graph)


@pytest.mark.parametrize("training", [True, False])
def test_what_runs(sparse_kernels, training):
    types = operators(spfde_keras.sparsify(residual_net(), sparsity=0.7), training)
    assert "Relu" not in types and "AddV2" not in types
    # Those after the stem, which two layers need, and after additions; convolutions normalize
    # the other two.
    assert types.count("SpfdeNormalize") == 3
    assert types.count("SpfdeMoments") == (5 if training else 0)
    with kernels.disabled():
        types = operators(spfde_keras.sparsify(residual_net(), sparsity=0.7), training)
    assert not any(name.startswith("Spfde") for name in types)


def test_eager_training_is_the_same(sparse_kernels, data):
    dense = residual_net()
    fused = spfde_keras.sparsify(dense, sparsity=0.7)
    eager = spfde_keras.sparsify(dense, sparsity=0.7)
    results = []
    for model, eagerly in ((fused, False), (eager, True)):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.02), loss, run_eagerly=eagerly)
        model.fit(*data, batch_size=8, epochs=1, shuffle=False, verbose=0)
        results.append(model.get_weights())
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_plain_layers_come_back(tmp_path):
    dense = residual_net()
    sparse = spfde_keras.sparsify(dense, sparsity=0.5)
    assert sum(type(layer) is FusedReLU for layer in sparse.layers) == 5
    sparse.save(tmp_path / "model.keras")
    x = np.ones((1, 9, 8, 3), "float32")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), sparse.predict(x, verbose=0))
    assert sum(type(layer) is FusedReLU for layer in loaded.layers) == 5
    plain = spfde_keras.densify(loaded)
    assert not any("Fused" in type(layer).__name__ for layer in plain.layers)
    assert [one.name for one in plain.layers[1:]] == [one.name for one in dense.layers[1:]]


def test_only_plain_relus_are_replaced():
    for layer, fused in [
        (layers.ReLU(name="a"), FusedReLU),
        (layers.Activation("relu", name="a"), FusedReLUActivation),
        (layers.Activation(keras.activations.relu, name="a"), FusedReLUActivation),
    ]:
        assert fused_class(layer) is fused
        found = like(layer, fused)
        assert found.get_config() == layer.get_config()
        assert unfused_class(found) is type(layer)
    for layer in (
        layers.ReLU(6.0),
        layers.ReLU(negative_slope=0.1),
        layers.ReLU(threshold=1.0),
        layers.Activation("relu6"),
        layers.LeakyReLU(),
    ):
        assert fused_class(layer) is None and unfused_class(layer) is None


@pytest.mark.parametrize("dtype", ["float32", "float64", "mixed_bfloat16"])
def test_equals_keras(sparse_kernels, dtype):
    x = np.float32([[-1.0, 0.0, 2.5, np.inf]])
    expected = layers.ReLU(dtype=dtype)(x)
    for layer in (FusedReLU(dtype=dtype), FusedReLUActivation("relu", dtype=dtype)):
        found = layer(x)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
