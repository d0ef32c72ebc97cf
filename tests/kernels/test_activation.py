"""GELU against the error function in double precision, and TensorFlow's gradients."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from spfde_keras import kernels
from spfde_keras.kernels.library import operators
from spfde_keras.layers import MaskedDense
from tests.kernels import oracle, reference

pytestmark = pytest.mark.usefixtures("sparse_kernels")

TOLERANCE = 1e-6


@pytest.mark.parametrize("size", [0, 1, 15, 4097, 100_001])
def test_values_and_gradients(isa, size):
    x = np.linspace(-12, 12, size).astype("float32") + np.float32(0.01)
    gradient = np.random.default_rng(0).normal(size=size).astype("float32")
    found = operators().spfde_gelu(x=x, isa=isa)
    of_x = operators().spfde_gelu_gradient(x=x, gradient=gradient, isa=isa)
    np.testing.assert_allclose(found, oracle.gelu({"x": x})[0], rtol=0, atol=TOLERANCE)
    expected = oracle.gelu_gradient({"x": x, "gradient": gradient})[0]
    np.testing.assert_allclose(of_x, expected, rtol=1e-6, atol=TOLERANCE)


def test_what_is_far_out_or_not_a_number():
    x = tf.constant([-1e30, -100, 100, 1e30, math.inf, math.nan])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = kernels.gelu(x)
    expected = np.float32([0, 0, 100, 1e30, math.inf, math.nan])
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(tape.gradient(y, x)[:4], [0, 0, 1, 1])


def test_by_hand():
    # Of a standard normal variable 0.8413 are below 1, where its density is 0.2420.
    x = tf.constant([[1.0, -1.0]])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = kernels.gelu(x)
    np.testing.assert_allclose(y, [[0.8413, -0.1587]], atol=1e-4)
    np.testing.assert_allclose(tape.gradient(y, x), [[1.0833, -0.0833]], atol=1e-4)


def test_gradients_of_gradients_are_tensorflows():
    x = tf.constant(np.random.default_rng(0).normal(size=(5, 7)), tf.float32)

    def derive(gelu):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                loss = tf.reduce_sum(gelu(x) ** 3)
            penalty = tf.reduce_sum(inner.gradient(loss, x) ** 2)
        return outer.gradient(penalty, x)

    assert reference.error(derive(kernels.gelu), derive(keras.activations.gelu)) < 1e-5


@pytest.mark.parametrize("activation, fused", [("gelu", True), ("relu", False)])
def test_layers_that_skip_zeros_use_it(activation, fused):
    layer = MaskedDense(6, activation=activation, sparsity=0.5)
    function = tf.function(layer)
    graph = function.get_concrete_function(tf.TensorSpec([4, 8])).graph
    assert ("SpfdeGelu" in {op.type for op in graph.get_operations()}) == fused
    x = tf.random.stateless_normal((4, 8), (0, 0))
    with kernels.disabled():
        expected = layer(x)
    np.testing.assert_allclose(function(x), expected, atol=1e-5)


def test_its_shape_is_known_while_tracing():
    function = tf.function(kernels.gelu).get_concrete_function(tf.TensorSpec([None, 3]))
    assert function.outputs[0].shape.as_list() == [None, 3]


def test_gradients_of_another_shape_are_refused():
    with pytest.raises(tf.errors.InvalidArgumentError, match="`gradient` must have shape"):
        operators().spfde_gelu_gradient(x=np.ones(3, "float32"), gradient=np.ones(4, "float32"))
