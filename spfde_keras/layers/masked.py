"""Keras' layers with masked kernels."""

import keras
import tensorflow as tf

from spfde_keras import kernels
from spfde_keras.layers.base import MaskedLayer, register_masked
from spfde_keras.layers.skipping import SkipsZeros, SkipsZerosInPointwise, SkipsZerosInProducts
from spfde_keras.layout import KernelLayout
from spfde_keras.masking import Mask


class _MaskedConv(MaskedLayer):
    def kernel_layout(self, weight: str) -> KernelLayout:
        return KernelLayout.positions_first(getattr(self, weight).shape)


@register_masked(keras.layers.Conv1D)
class MaskedConv1D(SkipsZeros, _MaskedConv, keras.layers.Conv1D):
    """`keras.layers.Conv1D` with a masked kernel; see `MaskedLayer` for its two arguments."""

    def convolution(self, inputs: tf.Tensor, mask: Mask) -> kernels.Convolution | None:
        if self.data_format != "channels_last" or self.groups > 1:
            return None
        return kernels.convolution_of_sequences(
            inputs.shape[:-1], mask, self.kernel_size[0], **self._sparse_options()
        )

    def compute_sparsely(
        self, inputs: tf.Tensor, kernel: keras.Variable, mask: tf.Tensor
    ) -> tf.Tensor:
        return kernels.sparse_conv1d(inputs, kernel, mask, **self._sparse_options())

    def _sparse_options(self) -> dict:
        (stride,), (dilation,) = self.strides, self.dilation_rate
        return {"stride": stride, "padding": self.padding, "dilation": dilation}


@register_masked(keras.layers.Conv2D)
class MaskedConv2D(SkipsZeros, _MaskedConv, keras.layers.Conv2D):
    """`keras.layers.Conv2D` with a masked kernel; see `MaskedLayer` for its two arguments.

    On CPUs it skips the kernel's zeros where that is faster; see `spfde_keras.kernels`.

    Example:

    >>> layer = MaskedConv2D(8, 3, scheme="2:4", sparsity=0.5)
    >>> layer.build((None, 8, 8, 4))
    >>> layer.masks[0].layout.canonical_shape
    (9, 4, 8)
    """

    def convolution(self, inputs: tf.Tensor, mask: Mask) -> kernels.Convolution | None:
        rows, columns = self.strides
        undilated = self.dilation_rate == (1, 1) and rows == columns
        if self.data_format != "channels_last" or self.groups > 1 or not undilated:
            return None
        return kernels.convolution_of(inputs.shape[:-1], mask, self.kernel_size, rows, self.padding)

    def compute_sparsely(
        self, inputs: tf.Tensor, kernel: keras.Variable, mask: tf.Tensor
    ) -> tf.Tensor:
        return kernels.sparse_conv2d(inputs, kernel, mask, self.strides[0], self.padding)


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


class _MaskedSeparableConv(SkipsZerosInPointwise, _MaskedDepthwiseConv):
    masked_weights = ("depthwise_kernel", "pointwise_kernel")
    depthwise_weights = ("depthwise_kernel",)

    def kernel_layout(self, weight: str) -> KernelLayout:
        if weight == "depthwise_kernel":
            return super().kernel_layout(weight)
        return KernelLayout.positions_first(self.pointwise_kernel.shape)


@register_masked(keras.layers.SeparableConv1D)
class MaskedSeparableConv1D(_MaskedSeparableConv, keras.layers.SeparableConv1D):
    """`keras.layers.SeparableConv1D` with two masked kernels; see `MaskedLayer`."""


@register_masked(keras.layers.SeparableConv2D)
class MaskedSeparableConv2D(_MaskedSeparableConv, keras.layers.SeparableConv2D):
    """`keras.layers.SeparableConv2D` with two masked kernels; see `MaskedLayer`."""


@register_masked(keras.layers.Dense)
class MaskedDense(SkipsZerosInProducts, MaskedLayer, keras.layers.Dense):
    """`keras.layers.Dense` with a masked kernel; see `MaskedLayer` for its two arguments.

    Example:

    >>> layer = MaskedDense(10, sparsity=0.9)
    >>> layer(np.zeros((1, 100))).shape
    TensorShape([1, 10])
    """

    def kernel_layout(self, weight: str) -> KernelLayout:
        return KernelLayout.positions_first(self.kernel.shape)


@register_masked(keras.layers.EinsumDense)
class MaskedEinsumDense(SkipsZerosInProducts, MaskedLayer, keras.layers.EinsumDense):
    """`keras.layers.EinsumDense` with a masked kernel; see `MaskedLayer`."""

    def kernel_layout(self, weight: str) -> KernelLayout:
        source, labels, result = (term.replace(".", "") for term in self._terms())
        axes: dict[str, list[int]] = {"spatial": [], "inputs": [], "outputs": []}
        for axis, label in enumerate(labels):
            # A label in all three terms indexes separate matrices, like a position.
            role = "inputs" if label not in result else "outputs"
            axes["spatial" if label in source and label in result else role].append(axis)
        return KernelLayout(
            tuple(self.kernel.shape), **{role: tuple(found) for role, found in axes.items()}
        )

    def contracted_axes(self) -> int:
        source, labels, result = self._terms()
        for axes in range(1, len(labels)):
            contracted, given = labels[:axes], labels[axes:]
            free = source.removesuffix(contracted)
            if source == free + contracted and result == free + given:
                return 0 if set(free) & set(labels) else axes
        return 0

    def _terms(self) -> list[str]:
        """The labels of inputs, kernel and outputs."""
        terms, result = self.equation.replace(" ", "").split("->")
        return [*terms.split(","), result]
