"""Keras' layers with masked kernels."""

import keras

from spfde_keras.layers.base import MaskedLayer, register_masked
from spfde_keras.layout import KernelLayout


class _MaskedConv(MaskedLayer):
    def kernel_layout(self, weight: str) -> KernelLayout:
        rank = self.rank
        shape = tuple(getattr(self, weight).shape)
        return KernelLayout(shape, tuple(range(rank)), (rank,), (rank + 1,))


@register_masked(keras.layers.Conv1D)
class MaskedConv1D(_MaskedConv, keras.layers.Conv1D):
    """`keras.layers.Conv1D` with a masked kernel; see `MaskedLayer` for its two arguments."""


@register_masked(keras.layers.Conv2D)
class MaskedConv2D(_MaskedConv, keras.layers.Conv2D):
    """`keras.layers.Conv2D` with a masked kernel; see `MaskedLayer` for its two arguments.

    Example:

    >>> layer = MaskedConv2D(8, 3, scheme="2:4", sparsity=0.5)
    >>> layer.build((None, 8, 8, 4))
    >>> layer.masks[0].layout.canonical_shape
    (9, 4, 8)
    """


@register_masked(keras.layers.Conv3D)
class MaskedConv3D(_MaskedConv, keras.layers.Conv3D):
    """`keras.layers.Conv3D` with a masked kernel; see `MaskedLayer` for its two arguments."""


@register_masked(keras.layers.Conv2DTranspose)
class MaskedConv2DTranspose(MaskedLayer, keras.layers.Conv2DTranspose):
    """`keras.layers.Conv2DTranspose` with a masked kernel; see `MaskedLayer`."""

    def kernel_layout(self, weight: str) -> KernelLayout:
        return KernelLayout(tuple(self.kernel.shape), (0, 1), inputs=(3,), outputs=(2,))


@register_masked(keras.layers.DepthwiseConv2D)
class MaskedDepthwiseConv2D(MaskedLayer, keras.layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D` with a masked kernel; see `MaskedLayer`."""

    def kernel_layout(self, weight: str) -> KernelLayout:
        # Each output sees one input only.
        return KernelLayout(tuple(self.kernel.shape), (0, 1), inputs=(), outputs=(2, 3))


@register_masked(keras.layers.SeparableConv2D)
class MaskedSeparableConv2D(_MaskedConv, keras.layers.SeparableConv2D):
    """`keras.layers.SeparableConv2D` with two masked kernels; see `MaskedLayer`."""

    masked_weights = ("depthwise_kernel", "pointwise_kernel")

    def kernel_layout(self, weight: str) -> KernelLayout:
        if weight == "pointwise_kernel":
            return super().kernel_layout(weight)
        return KernelLayout(tuple(self.depthwise_kernel.shape), (0, 1), (), (2, 3))


@register_masked(keras.layers.Dense)
class MaskedDense(MaskedLayer, keras.layers.Dense):
    """`keras.layers.Dense` with a masked kernel; see `MaskedLayer` for its two arguments.

    Example:

    >>> layer = MaskedDense(10, sparsity=0.9)
    >>> layer(np.zeros((1, 100))).shape
    TensorShape([1, 10])
    """

    def kernel_layout(self, weight: str) -> KernelLayout:
        return KernelLayout(tuple(self.kernel.shape), (), inputs=(0,), outputs=(1,))


@register_masked(keras.layers.EinsumDense)
class MaskedEinsumDense(MaskedLayer, keras.layers.EinsumDense):
    """`keras.layers.EinsumDense` with a masked kernel; see `MaskedLayer`."""

    def kernel_layout(self, weight: str) -> KernelLayout:
        terms, result = self.equation.replace(" ", "").split("->")
        source, labels = (term.replace(".", "") for term in terms.split(","))
        axes = {"spatial": [], "inputs": [], "outputs": []}
        for axis, label in enumerate(labels):
            # A label in all three terms indexes separate matrices, as a position does.
            role = "inputs" if label not in result else "outputs"
            axes["spatial" if label in source and label in result else role].append(axis)
        return KernelLayout(
            tuple(self.kernel.shape), **{role: tuple(found) for role, found in axes.items()}
        )
