"""Layers that let the CPU kernels skip the zeros of a masked kernel."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from spfde_keras import kernels
from spfde_keras.layers.base import MixinBase
from spfde_keras.masking import Mask

_NO_KERNEL = kernels.Choice(False, None, "there is no CPU kernel for what they compute")


class SkipsZeros(MixinBase):
    """Mixin, placed before `MaskedLayer`, for layers that are linear in a masked kernel.

    What the layer gives is that function, plus its `bias`, then its `activation`. A subclass says
    what the function is in `convolution`, and computes it in `compute_sparsely`; where
    `spfde_keras.kernels` finds that no faster, the layer computes as Keras does.
    """

    skipping_weight = "kernel"
    """The name of the masked kernel."""

    kernel_choice: kernels.Choice | None = None
    """How the layer computed when it was last called or traced; None before."""

    def convolution(self, inputs: tf.Tensor, mask: Mask) -> kernels.Convolution | None:
        """Returns what the layer computes with the kernel; None if only Keras can compute it."""
        raise NotImplementedError

    def compute_sparsely(
        self, inputs: tf.Tensor, kernel: keras.Variable, mask: tf.Tensor
    ) -> tf.Tensor:
        """Returns the layer's function of inputs and kernel, computed without the zeros."""
        raise NotImplementedError

    def build(self, input_shape: Sequence[int | None]) -> None:
        super().build(input_shape)
        self.supports_jit = not kernels.status().active  # XLA has no kernels but its own

    def _call_masked(self, call: Callable, inputs: tf.Tensor, *args: Any, **kwargs: Any) -> Any:
        if kernels.are_disabled() or not self._chooses_sparse(inputs):
            return super()._call_masked(call, inputs, *args, **kwargs)
        weight = self.skipping_weight
        mask = getattr(self, f"{weight}_mask")
        outputs = self.compute_sparsely(inputs, getattr(self, weight), mask.running)
        if self.bias is not None:
            outputs = ops.add(outputs, self.bias)
        if self.activation is keras.activations.gelu:
            return kernels.gelu(outputs)
        return outputs if self.activation is None else self.activation(outputs)

    def _chooses_sparse(self, inputs: tf.Tensor) -> bool:
        if self.skipping_weight not in self.sparsity:
            return False
        mask = getattr(self, f"{self.skipping_weight}_mask")
        convolution = self.convolution(inputs, mask) if self._is_plain(inputs) else None
        self.kernel_choice = kernels.choose(convolution) if convolution else _NO_KERNEL
        return self.kernel_choice.sparse

    def _is_plain(self, inputs: tf.Tensor) -> bool:
        """Whether nothing but numbers in single precision makes the outputs."""
        adapted = getattr(self, "lora_enabled", False) or self.quantization_mode
        dtypes = {keras.backend.standardize_dtype(inputs.dtype), self.compute_dtype}
        return not adapted and dtypes == {"float32"}


class SkipsZerosInProducts(SkipsZeros):
    """Mixin for layers that multiply by a matrix the last axes of their inputs."""

    def contracted_axes(self) -> int:
        """Returns how many axes, the kernel's first ones; 0 if it is another product."""
        return 1

    def convolution(self, inputs: tf.Tensor, mask: Mask) -> kernels.Convolution | None:
        axes = self.contracted_axes()
        return kernels.product_of(inputs.shape[:-axes], mask) if axes else None

    def compute_sparsely(
        self, inputs: tf.Tensor, kernel: keras.Variable, mask: tf.Tensor
    ) -> tf.Tensor:
        return kernels.sparse_matmul(inputs, kernel, mask, self.contracted_axes())


class SkipsZerosInPointwise(SkipsZeros):
    """Mixin for separable convolutions, whose second half is a product."""

    skipping_weight = "pointwise_kernel"

    def convolution(self, inputs: tf.Tensor, mask: Mask) -> kernels.Convolution | None:
        if self.data_format != "channels_last":
            return None
        return kernels.product_of(self.compute_output_shape(inputs.shape)[:-1], mask)

    def compute_sparsely(
        self, inputs: tf.Tensor, kernel: keras.Variable, mask: tf.Tensor
    ) -> tf.Tensor:
        depthwise = self.depthwise_kernel
        if "depthwise_kernel" in self.sparsity:
            depthwise = self.depthwise_kernel_mask(depthwise.value)
        inputs = ops.depthwise_conv(
            inputs, depthwise, self.strides, self.padding, self.data_format, self.dilation_rate
        )
        return kernels.sparse_matmul(inputs, ops.reshape(kernel, kernel.shape[-2:]), mask)
