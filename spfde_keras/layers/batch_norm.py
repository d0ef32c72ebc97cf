"""Batch normalization like Keras', computed by one fused kernel."""

from collections.abc import Sequence

import keras
import tensorflow as tf
from keras import ops

from spfde_keras import kernels

# cuDNN refuses a smaller epsilon; 1e-5 itself is rounded down in single precision.
_MINIMUM_EPSILON = 1.001e-5


@keras.saving.register_keras_serializable(package="spfde_keras")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` in one kernel instead of a dozen.

    Weights, configuration and results are those of `keras.layers.BatchNormalization`, moving
    statistics included, so that the two are interchangeable. Inputs that the kernel does
    not take (other ranks or axes, float64, a mask, renormalization, statistics synchronized
    over replicas) are left to Keras. In inference, frozen layers included, TensorFlow merges
    the kernel with the convolution before it.

    Args:
        *args, **kwargs: As for `keras.layers.BatchNormalization`.

    Call arguments:
        inputs: Float tensor; of shape (batch, rows, columns, channels) where the kernel is used.
        training: Whether to normalize with the statistics of the batch and to update the moving
            ones; a layer that is not trainable never does.
        mask: Bool tensor of shape `inputs.shape[:-1]`, True where statistics are computed.

    Returns:
        Tensor of the inputs' shape.

    Example:

    >>> layer = FusedBatchNormalization()
    >>> layer(np.ones((2, 4, 4, 3), "float32"), training=True).shape
    TensorShape([2, 4, 4, 3])

    Reference: Ioffe and Szegedy, "Batch Normalization", 2015, algorithms 1 and 2.
    """

    def build(self, input_shape: Sequence[int | None]) -> None:
        super().build(input_shape)
        self.supports_jit = not kernels.status().active  # XLA has no kernels but its own

    def call(
        self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None
    ) -> tf.Tensor:
        if mask is not None or not self._fits_kernel(inputs):
            return super().call(inputs, training=training, mask=mask)
        use_batch = bool(training) and self.trainable
        mean = ops.cast(self.moving_mean, "float32")
        variance = ops.cast(self.moving_variance, "float32")
        gamma = ops.cast(self.gamma, "float32") if self.scale else tf.ones_like(mean)
        beta = ops.cast(self.beta, "float32") if self.center else tf.zeros_like(mean)
        own = inputs.dtype == tf.float32 and kernels.are_used()
        compute = self._with_own_kernels if own else self._with_tensorflow
        outputs, new_mean, new_variance = compute(inputs, mean, variance, gamma, beta, use_batch)
        if use_batch:
            self._average(self.moving_mean, mean, new_mean)
            self._average(self.moving_variance, variance, new_variance)
        return ops.cast(outputs, self.compute_dtype)

    def _with_own_kernels(
        self,
        inputs: tf.Tensor,
        mean: tf.Tensor,
        variance: tf.Tensor,
        gamma: tf.Tensor,
        beta: tf.Tensor,
        use_batch: bool,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        if use_batch:
            mean, variance = kernels.moments(inputs)
        outputs = kernels.normalize(inputs, mean, variance, gamma, beta, self.epsilon, use_batch)
        return outputs, mean, variance

    def _with_tensorflow(
        self,
        inputs: tf.Tensor,
        mean: tf.Tensor,
        variance: tf.Tensor,
        gamma: tf.Tensor,
        beta: tf.Tensor,
        use_batch: bool,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs,
            scale=gamma,
            offset=beta,
            mean=None if use_batch else mean,
            variance=None if use_batch else variance,
            epsilon=self.epsilon,
            is_training=use_batch,
        )
        # The kernel returns the variance over n - 1; Keras averages that over n.
        count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:3]), "float32")
        return outputs, mean, tf.math.multiply_no_nan(variance, (count - 1.0) / count)

    def _fits_kernel(self, inputs: tf.Tensor) -> bool:
        return (
            len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and keras.backend.standardize_dtype(inputs.dtype) in ("float16", "bfloat16", "float32")
            and self.epsilon >= _MINIMUM_EPSILON
            and not self.renorm
            and not self.synchronized
        )

    def _average(self, variable: keras.Variable, old: tf.Tensor, new: tf.Tensor) -> None:
        variable.assign(old * self.momentum + new * (1.0 - self.momentum))
