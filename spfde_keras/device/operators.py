"""What a model computes, traced in operators that LiteRT has."""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from spfde_keras.device import convolutions
from spfde_keras.device.gradients import OVERRIDES


def softmax_crossentropy(labels: tf.Tensor, logits: tf.Tensor, axis: int = -1) -> tf.Tensor:
    """Does what `tf.nn.softmax_cross_entropy_with_logits` does."""

    @tf.custom_gradient
    def compute(logits: tf.Tensor) -> tuple[tf.Tensor, Any]:
        log = tf.nn.log_softmax(logits, axis)
        # As TensorFlow's, also where labels do not add up to 1.
        return -tf.reduce_sum(
            labels * log, axis
        ), lambda g: tf.expand_dims(g, axis) * (tf.exp(log) - labels)

    return compute(logits)


def sparse_softmax_crossentropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Does what `tf.nn.sparse_softmax_cross_entropy_with_logits` does; NaN for no class."""
    classes = logits.shape[-1]
    loss = softmax_crossentropy(tf.one_hot(labels, classes, dtype=logits.dtype), logits)
    known = tf.logical_and(labels >= 0, labels < classes)
    return tf.where(known, loss, tf.constant(np.nan, loss.dtype))


def softplus(x: tf.Tensor) -> tf.Tensor:
    """Does what `tf.math.softplus` does."""

    @tf.custom_gradient
    def compute(x: tf.Tensor) -> tuple[tf.Tensor, Any]:
        y = tf.maximum(x, 0.0) + tf.math.log(1.0 + tf.exp(-tf.abs(x)))
        return y, lambda g: g * tf.sigmoid(x)

    return compute(x)


def square_root(x: tf.Tensor) -> tf.Tensor:
    """Does what `tf.sqrt` does; LiteRT can divide by it where it is zero."""

    @tf.custom_gradient
    def compute(x: tf.Tensor) -> tuple[tf.Tensor, Any]:
        # Of 1 / SQRT the converter makes RSQRT, which in XNNPACK is NaN at zero.
        y = tf.abs(tf.raw_ops.Sqrt(x=x))
        return y, lambda g: g * 0.5 / y

    return compute(tf.convert_to_tensor(x))


def reciprocal_square_root(x: tf.Tensor) -> tf.Tensor:
    """Does what `tf.math.rsqrt` does, also at zero."""
    y = 1.0 / square_root(x)

    @tf.custom_gradient
    def compute(x: tf.Tensor) -> tuple[tf.Tensor, Any]:
        return tf.stop_gradient(y), lambda g: g * -0.5 * y * y * y

    return compute(tf.convert_to_tensor(x))


def sigmoid_crossentropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Does what `tf.nn.sigmoid_cross_entropy_with_logits` does."""
    return softplus(logits) - logits * labels


def gelu(x: tf.Tensor, approximate: bool = False) -> tf.Tensor:
    """Does what `tf.nn.gelu` does."""
    if approximate:
        cubic = x + 0.044715 * x * x * x
        return 0.5 * x * (1.0 + tf.tanh(math.sqrt(2 / math.pi) * cubic))
    return 0.5 * x * (1.0 + erf(x * math.sqrt(0.5)))


# A ratio of odd and even polynomials, exact to float32: that of Eigen, and thus of TensorFlow.
_ERF_LIMIT = 4.0
_ERF_ABOVE = (
    -2.72614225801306e-10,
    2.77068142495902e-08,
    -2.10102402082508e-06,
    -5.69250639462346e-05,
    -7.34990630326855e-04,
    -2.95459980854025e-03,
    -1.60960333262415e-02,
)
_ERF_BELOW = (
    -1.45660718464996e-05,
    -2.13374055278905e-04,
    -1.68282697438203e-03,
    -7.37332916720468e-03,
    -1.42647390514189e-02,
)


def erf(x: tf.Tensor) -> tf.Tensor:
    """Does what `tf.math.erf` does."""

    @tf.custom_gradient
    def compute(x: tf.Tensor) -> tuple[tf.Tensor, Any]:
        near = tf.maximum(tf.minimum(x, _ERF_LIMIT), -_ERF_LIMIT)
        square = near * near
        y = near * _polynomial(_ERF_ABOVE, square) / _polynomial(_ERF_BELOW, square)
        return y, lambda g: g * (2 / math.sqrt(math.pi)) * tf.exp(-x * x)

    return compute(x)


def _polynomial(coefficients: Sequence[float], x: tf.Tensor) -> tf.Tensor:
    value: Any = 0.0
    for coefficient in coefficients:
        value = value * x + coefficient
    return value


_Functions = tuple[tuple[Any, Mapping[str, Callable]], ...]

_FUNCTIONS: _Functions = (
    (
        tf.nn,
        {
            "gelu": gelu,
            "softmax_cross_entropy_with_logits": softmax_crossentropy,
            "sparse_softmax_cross_entropy_with_logits": sparse_softmax_crossentropy,
            "sigmoid_cross_entropy_with_logits": sigmoid_crossentropy,
        },
    ),
    (
        tf.math,
        {
            "softplus": softplus,
            "erf": erf,
            "sqrt": square_root,
            "rsqrt": reciprocal_square_root,
        },
    ),
    (tf, {"sqrt": square_root}),
)
_CONVOLUTIONS: _Functions = (
    (
        tf.nn,
        {
            "convolution": convolutions.convolution,
            "conv_transpose": convolutions.transposed_convolution,
            "depthwise_conv2d": convolutions.depthwise_convolution,
            "separable_conv2d": convolutions.separable_convolution,
        },
    ),
)


@contextlib.contextmanager
def in_builtins(kernels_change: bool = True) -> Iterator[None]:
    """Has what is traced, and its gradients, in LiteRT's built-in operators.

    Keras calls TensorFlow's functions by their public names, which are exchanged for as long as
    the context lasts; gradients are exchanged where operators are made.

    Args:
        kernels_change: bool; where those of convolutions are constants, LiteRT's own
            convolutions are faster.
    """
    replaced = _FUNCTIONS + (_CONVOLUTIONS if kernels_change else ())
    before = [(module, {name: getattr(module, name) for name in new}) for module, new in replaced]
    for module, functions in replaced:
        _set(module, functions)
    try:
        with tf.compat.v1.get_default_graph().gradient_override_map(OVERRIDES):
            yield
    finally:
        for module, functions in before:
            _set(module, functions)


def _set(module: Any, functions: Mapping[str, Callable]) -> None:
    for name, function in functions.items():
        setattr(module, name, function)
