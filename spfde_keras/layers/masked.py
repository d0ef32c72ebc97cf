"""Keras' layers with masked kernels."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from spfde_keras import kernels
from spfde_keras.layers.base import MaskedLayer, MixinBase, register_masked
from spfde_keras.layout import KernelLayout


class _SkipsZeros(MixinBase):
    """Mixin for layers with one masked kernel, whose zeros the CPU kernels can skip."""

    kernel_choice: kernels.Choice | None = None
    """How the layer computed when it was last called or traced."""

    def build(self, input_shape: Sequence[int | None]) -> None:
        super().build(input_shape)
        self.supports_jit = not kernels.status().active  # XLA has no kernels but its own

    def _chooses_sparse(self, inputs: tf.Tensor, **options: Any) -> bool:
        if kernels.are_disabled():
            return False
        convolution = None
        if self.masks and keras.backend.standardize_dtype(inputs.dtype) == "float32":
            convolution = kernels.convolution_of(inputs, self.masks[0], **options)
        self.kernel_choice = kernels.choose(convolution) if convolution else None
        return self.kernel_choice is not None and self.kernel_choice.sparse


class _MaskedConv(MaskedLayer):
    def kernel_layout(self, weight: str) -> KernelLayout:
        rank = self.rank
        shape = tuple(getattr(self, weight).shape)
        return KernelLayout(shape, tuple(range(rank)), (rank,), (rank + 1,))


@register_masked(keras.layers.Conv1D)
class MaskedConv1D(_MaskedConv, keras.layers.Conv1D):
    """`keras.layers.Conv1D` with a masked kernel; see `MaskedLayer` for its two arguments."""


@register_masked(keras.layers.Conv2D)
class MaskedConv2D(_SkipsZeros, _MaskedConv, keras.layers.Conv2D):
    """`keras.layers.Conv2D` with a masked kernel; see `MaskedLayer` for its two arguments.

    On CPUs it skips the kernel's zeros where that is faster; see `spfde_keras.kernels`.

    Example:

    >>> layer = MaskedConv2D(8, 3, scheme="2:4", sparsity=0.5)
    >>> layer.build((None, 8, 8, 4))
    >>> layer.masks[0].layout.canonical_shape
    (9, 4, 8)
    """

    def convolution_op(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        if not self._skips_zeros(inputs):
            return super().convolution_op(inputs, kernel)
        mask = self.masks[0].running
        return kernels.sparse_conv2d(inputs, kernel, mask, self.strides[0], self.padding)

    def _skips_zeros(self, inputs: tf.Tensor) -> bool:
        return (
            self.data_format == "channels_last"
            and not self.lora_enabled
            and self.groups == 1
            and self.dilation_rate == (1, 1)
            and self.strides[0] == self.strides[1]
            and self.padding in ("valid", "same")
            and self._chooses_sparse(
                inputs, kernel=self.kernel_size, stride=self.strides[0], padding=self.padding
            )
        )


@register_masked(keras.layers.Conv3D)
class MaskedConv3D(_MaskedConv, keras.layers.Conv3D):
    """`keras.layers.Conv3D` with a masked kernel; see `MaskedLayer` for its two arguments."""


class _MaskedConvTranspose(MaskedLayer):
    def kernel_layout(self, weight: str) -> KernelLayout:
        rank = self.rank
        shape = tuple(self.kernel.shape)
        return KernelLayout(shape, tuple(range(rank)), inputs=(rank + 1,), outputs=(rank,))


@register_masked(keras.layers.Conv1DTranspose)
class MaskedConv1DTranspose(_MaskedConvTranspose, keras.layers.Conv1DTranspose):
    """`keras.layers.Conv1DTranspose` with a masked kernel; see `MaskedLayer`."""


@register_masked(keras.layers.Conv2DTranspose)
class MaskedConv2DTranspose(_MaskedConvTranspose, keras.layers.Conv2DTranspose):
    """`keras.layers.Conv2DTranspose` with a masked kernel; see `MaskedLayer`."""


@register_masked(keras.layers.Conv3DTranspose)
class MaskedConv3DTranspose(_MaskedConvTranspose, keras.layers.Conv3DTranspose):
    """`keras.layers.Conv3DTranspose` with a masked kernel; see `MaskedLayer`."""


class _MaskedDepthwiseConv(MaskedLayer):
    depthwise_weights = ("kernel",)

    def kernel_layout(self, weight: str) -> KernelLayout:
        # Each output depends on one input only.
        rank = self.rank
        shape = tuple(getattr(self, weight).shape)
        return KernelLayout(shape, tuple(range(rank)), inputs=(), outputs=(rank, rank + 1))


@register_masked(keras.layers.DepthwiseConv1D)
class MaskedDepthwiseConv1D(_MaskedDepthwiseConv, keras.layers.DepthwiseConv1D):
    """`keras.layers.DepthwiseConv1D` with a masked kernel; see `MaskedLayer`."""


@register_masked(keras.layers.DepthwiseConv2D)
class MaskedDepthwiseConv2D(_MaskedDepthwiseConv, keras.layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D` with a masked kernel; see `MaskedLayer`."""


class _MaskedSeparableConv(_MaskedDepthwiseConv):
    masked_weights = ("depthwise_kernel", "pointwise_kernel")
    depthwise_weights = ("depthwise_kernel",)

    def kernel_layout(self, weight: str) -> KernelLayout:
        if weight == "depthwise_kernel":
            return super().kernel_layout(weight)
        return _MaskedConv.kernel_layout(self, weight)


@register_masked(keras.layers.SeparableConv1D)
class MaskedSeparableConv1D(_MaskedSeparableConv, keras.layers.SeparableConv1D):
    """`keras.layers.SeparableConv1D` with two masked kernels; see `MaskedLayer`."""


@register_masked(keras.layers.SeparableConv2D)
class MaskedSeparableConv2D(_MaskedSeparableConv, keras.layers.SeparableConv2D):
    """`keras.layers.SeparableConv2D` with two masked kernels; see `MaskedLayer`."""


@register_masked(keras.layers.Dense)
class MaskedDense(_SkipsZeros, MaskedLayer, keras.layers.Dense):
    """`keras.layers.Dense` with a masked kernel; see `MaskedLayer` for its two arguments.

    Example:

    >>> layer = MaskedDense(10, sparsity=0.9)
    >>> layer(np.zeros((1, 100))).shape
    TensorShape([1, 10])
    """

    def kernel_layout(self, weight: str) -> KernelLayout:
        return KernelLayout(tuple(self.kernel.shape), (), inputs=(0,), outputs=(1,))

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        if self.quantization_mode or self.lora_enabled or not self._chooses_sparse(inputs):
            return self._call_masked(keras.layers.Dense.call, inputs, training=training)
        outputs = kernels.sparse_matmul(inputs, self.kernel, self.masks[0].running)
        if self.bias is not None:
            outputs = keras.ops.add(outputs, self.bias)
        return outputs if self.activation is None else self.activation(outputs)


@register_masked(keras.layers.EinsumDense)
class MaskedEinsumDense(MaskedLayer, keras.layers.EinsumDense):
    """`keras.layers.EinsumDense` with a masked kernel; see `MaskedLayer`."""

    def kernel_layout(self, weight: str) -> KernelLayout:
        terms, result = self.equation.replace(" ", "").split("->")
        source, labels = (term.replace(".", "") for term in terms.split(","))
        axes: dict[str, list[int]] = {"spatial": [], "inputs": [], "outputs": []}
        for axis, label in enumerate(labels):
            # A label in all three terms indexes separate matrices, like a position.
            role = "inputs" if label not in result else "outputs"
            axes["spatial" if label in source and label in result else role].append(axis)
        return KernelLayout(
            tuple(self.kernel.shape), **{role: tuple(found) for role, found in axes.items()}
        )
