"""Gradients of masked kernels at a boundary, against hand-made ones."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from spfde_keras import sparsify
from spfde_keras.kernel_gradients import kernel_gradients
from spfde_keras.masking import find_masks
from spfde_keras.sieve.identified import Identified
from tests.mlps import data, ids, mlp

L = keras.layers


def mlp_gradients(model, x, y, weight=None, subnet=0):
    """The gradients of the mean square error of `mlp`, of all weights, by hand in NumPy."""
    w1, w2 = (mask.subnets[subnet].read()[0].astype(np.float64) for mask in find_masks(model))
    b1, b2 = (np.asarray(model.get_layer(name).bias, np.float64) for name in ("hidden", "head"))
    weight = np.ones(len(x)) if weight is None else weight
    h = np.tanh(x @ w1 + b1)
    error = weight[:, None] * (h @ w2 + b2 - y) * 2 / y.size
    return {
        "hidden/kernel": x.T @ ((error @ w2.T) * (1 - h**2)),
        "head/kernel": h.T @ error,
    }


@pytest.mark.parametrize("identified", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_gradients_by_hand(weighted, identified):
    model = mlp()
    x, y = data()
    weight = np.linspace(0.5, 1.5, len(x)).astype("float32") if weighted else None
    expected = mlp_gradients(model, x, y, weight)
    given = Identified(x, ids(10)) if identified else x
    batch = (given, y, weight) if weighted else (given, y)
    masks = find_masks(model)
    dense = kernel_gradients(model, lambda: batch, masks, dense=True)
    sparse = kernel_gradients(model, lambda: batch, masks)
    assert list(dense) == list(sparse) == ["hidden/kernel", "head/kernel"]
    for mask in masks:
        kept = mask.read()[1][0]
        gradient = expected[mask.kernel_path]
        np.testing.assert_allclose(dense[mask.kernel_path], gradient, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(
            sparse[mask.kernel_path], np.where(kept, gradient, 0), rtol=1e-4, atol=1e-6
        )
        assert np.any(gradient[~kept]) and np.any(gradient[kept])
    only = kernel_gradients(model, lambda: batch, masks[1:], dense=True)
    np.testing.assert_allclose(only["head/kernel"], dense["head/kernel"], rtol=1e-6)


@pytest.mark.parametrize("subnet", range(3))
def test_gradients_of_one_sub_net_by_hand(subnet):
    model = mlp([0.25, 0.5, 0.75])
    random = np.random.default_rng(1)
    for mask in find_masks(model):  # not nested: each sub-net has weights that no other has
        mask.write(
            random.normal(size=mask.layout.shape), random.random((3, *mask.layout.shape)) < 0.5
        )
    x, y = data()
    expected = mlp_gradients(model, x, y, subnet=subnet)
    model.activate((subnet + 1) % 3)
    masks = find_masks(model)
    dense = kernel_gradients(model, lambda: (x, y), masks, dense=True, subnet=subnet)
    masked = kernel_gradients(model, lambda: (x, y), masks, subnet=subnet)
    for mask in find_masks(model):
        kernel, masks = mask.read()
        kept = masks[subnet]
        # What another sub-net keeps and this one masks counts as zero here.
        assert kernel[~kept].any()
        gradient = expected[mask.kernel_path]
        assert np.any(gradient[~kept]) and np.any(gradient[kept])
        np.testing.assert_allclose(dense[mask.kernel_path], gradient, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(
            masked[mask.kernel_path], np.where(kept, gradient, 0), rtol=1e-4, atol=1e-6
        )


def with_state(sparsity=0.5):
    """Normalization, dropout, attention, a regularizer: all that a forward pass may change."""
    inputs = keras.Input((4, 4, 4))
    x = L.Conv2D(8, 3, padding="same", kernel_regularizer="l2", name="conv")(inputs)
    x = L.Dropout(0.3)(L.BatchNormalization()(x))
    x = L.Reshape((16, 8))(x)
    x = L.MultiHeadAttention(2, 4, dropout=0.2, name="mha")(x, x)
    model = keras.Model(inputs, L.Dense(2, name="head")(L.Flatten()(x)))
    sparse = sparsify(model, sparsity, dense=())
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    sparse.compile("adam", loss, metrics=["accuracy"], run_eagerly=True)
    random = np.random.default_rng(0)
    batch = random.normal(size=(6, 4, 4, 4)).astype("float32"), np.arange(6) % 2
    sparse.fit(*batch, verbose=0)
    return sparse, batch


@pytest.mark.parametrize("sparsity", [0.5, [0.5, 0.75]])
@pytest.mark.parametrize("dense", [False, True])
def test_gradients_change_nothing_in_the_model(dense, sparsity):
    model, batch = with_state(sparsity)
    variables = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    before = [variable.numpy() for variable in variables]
    gradients = kernel_gradients(model, lambda: batch, find_masks(model), dense)
    assert all(np.any(gradient) for gradient in gradients.values())
    for variable, value in zip(variables, before, strict=True):
        np.testing.assert_array_equal(variable, value, err_msg=variable.path)
    assert model.losses and len(model.losses) == 1
    # The same random numbers each time.
    for path, gradient in kernel_gradients(model, lambda: batch, find_masks(model), dense).items():
        np.testing.assert_allclose(gradient, gradients[path], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("sparsity, subnet", [(0.5, 0), ([0.5, 0.75], 1), ([0.75, 0.5], 0)])
def test_dense_gradient_is_that_of_the_model_without_masks(sparsity, subnet):
    model, batch = with_state(sparsity)
    masks = find_masks(model)
    with model.at(subnet):
        gradients = kernel_gradients(model, lambda: batch, masks, dense=True, subnet=subnet)
        before = model(batch[0], training=False)
    # Opening the masks for real leaves the function as it is: what they hide is zero, once
    # what only other sub-nets keep is.
    for mask in masks:
        mask.write(mask.subnets[subnet].read()[0], np.ones(mask.values.shape, bool))
    kernels = [mask.kernel.value for mask in masks]
    with model.at(subnet), tf.GradientTape() as tape:
        np.testing.assert_array_equal(model(batch[0], training=False), before)
        outputs = model(batch[0], training=True)
        loss = model.loss(batch[1], outputs) + sum(model.losses)
    for mask, expected in zip(masks, tape.gradient(loss, kernels), strict=True):
        np.testing.assert_allclose(gradients[mask.kernel_path], expected, rtol=1e-4, atol=1e-6)


def test_gradients_of_frozen_and_unconnected_kernels():
    inputs = keras.Input((4,))
    x = L.Dense(4, name="trunk")(inputs)
    outputs = [L.Dense(2, name="used")(x), L.Dense(2, name="free")(x)]
    model = sparsify(keras.Model(inputs, outputs), 0.5, dense=())
    model.get_layer("trunk").trainable = False
    model.compile("sgd", ["mse", None])
    x, y = data()
    gradients = kernel_gradients(model, lambda: (x, [y, y]), find_masks(model), dense=True)
    assert np.any(gradients["trunk/kernel"]) and np.any(gradients["used/kernel"])
    np.testing.assert_array_equal(gradients["free/kernel"], np.zeros((4, 2)))


def test_half_precision_gradients_do_not_vanish():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = mlp(loss_weights=1e-7)
    finally:
        keras.config.set_dtype_policy("float32")
    x, y = data()
    # Half precision ends at 6e-8.
    gradients = kernel_gradients(model, lambda: (x, y), find_masks(model), dense=True)
    for path, expected in mlp_gradients(model, x, y).items():
        assert gradients[path].dtype == "float32"
        np.testing.assert_allclose(gradients[path] * 1e7, expected, rtol=0.02, atol=0.005)


def test_an_overflow_of_scaled_gradients_is_taken_again():
    model = mlp(optimizer=keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(), 2.0**127))
    x, y = data()
    x, y = 8 * x, 64 * y  # so that gradients are above 2
    gradients = kernel_gradients(model, lambda: (x, y), find_masks(model), dense=True)
    for path, expected in mlp_gradients(model, x, y).items():
        assert np.abs(expected).max() > 2
        np.testing.assert_allclose(gradients[path], expected, rtol=1e-3, atol=1e-4)
    assert float(model.optimizer.scale_loss(1.0)) == 2.0**127


def test_gradients_that_are_too_large_are_said_to_be():
    model = mlp()
    x, y = data()
    gradients = kernel_gradients(model, lambda: (x, y * 3e38), find_masks(model), dense=True)
    assert not np.isfinite(gradients["head/kernel"]).all()
