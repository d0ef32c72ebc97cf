"""Activations of which TensorFlow makes a dozen operators, as one."""

import math

import tensorflow as tf

from spfde_keras.kernels import normalization
from spfde_keras.kernels.library import operators


def gelu(inputs: tf.Tensor) -> tf.Tensor:
    """Returns inputs times the normal distribution function, as `keras.activations.gelu`.

    Memory is read and written once, in the gradient as well.

    Args:
        inputs: float32 tensor.

    Returns:
        Float32 tensor of the inputs' shape.

    Example:

    >>> if spfde_keras.kernels.status().library:
    ...     assert gelu(tf.constant([0.0, 100.0])).numpy().tolist() == [0, 100]

    Source: Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016, section 2.
    """
    return operators().spfde_gelu(x=inputs)


@tf.RegisterGradient("SpfdeGelu")
def _gradient(op: tf.Operation, gradient: tf.Tensor) -> tf.Tensor:
    return operators().spfde_gelu_gradient(
        x=op.inputs[0], gradient=gradient, isa=op.get_attr("isa")
    )


@tf.RegisterGradient("SpfdeGeluGradient")
def _gradient_of_gradient(op: tf.Operation, of_x: tf.Tensor) -> list[tf.Tensor | None]:
    # Through TensorFlow's operators: no training step asks for it.
    def compute(x: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
        distribution = 0.5 * tf.math.erfc(-math.sqrt(0.5) * x)
        density = tf.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
        return gradient * (distribution + x * density)

    return normalization.through_tape(compute, op.inputs, [of_x])
