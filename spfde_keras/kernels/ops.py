"""Convolutions and products with kernels that are mostly zero."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from spfde_keras.kernels import normalization
from spfde_keras.kernels.library import operators

_STRIDES = (1, 2)
# The inputs of operators, without those of a batch normalization that may be folded in.
_INPUTS = {
    "SpfdeSparseConv2DInputGradient": ("sizes", "kernel", "mask", "gradient"),
    "SpfdeSparseConv2DKernelGradient": ("images", "mask", "gradient"),
    "SpfdeSparseConv2DGradients": ("images", "kernel", "mask", "gradient"),
}


def sparse_conv2d(
    images: tf.Tensor | np.ndarray,
    kernel: tf.Tensor | np.ndarray,
    mask: tf.Tensor | np.ndarray,
    stride: int = 1,
    padding: str = "valid",
) -> tf.Tensor:
    """Convolves images with the kept weights of a kernel; zeros cost nothing.

    Gradients, too, are computed only for what is kept: that of the kernel is 0 elsewhere.
    The weights that `mask` keeps are found again whenever it changes; nothing is retraced.

    Args:
        images: float32 tensor (batch, height, width, inputs).
        kernel: float32 tensor (rows, columns, inputs, outputs).
        mask: bool tensor of the kernel's shape; what it does not keep is taken as 0.
        stride: int, 1 or 2, in both dimensions.
        padding: "valid" or "same".

    Returns:
        Float32 tensor (batch, output height, output width, outputs).

    Raises:
        ValueError: if an argument is wrong.
        RuntimeError: if the kernels are not built.

    Example:

    >>> kernel = np.zeros((3, 3, 4, 8), "float32")
    >>> if spfde_keras.kernels.status().library:
    ...     images = np.ones((2, 6, 6, 4), "float32")
    ...     assert sparse_conv2d(images, kernel, kernel != 0).shape == (2, 4, 4, 8)
    """
    module = operators()
    if stride not in _STRIDES:
        raise ValueError(f"`stride` must be 1 or 2. Received: {stride}")
    if padding not in ("valid", "same"):
        raise ValueError(f'`padding` must be "valid" or "same". Received: {padding!r}')
    images = tf.convert_to_tensor(images, tf.float32)
    kernel = tf.convert_to_tensor(kernel, tf.float32)
    pads = [0, 0, 0, 0]
    if padding == "same":
        if None in images.shape[1:3]:
            raise ValueError(
                '`images` must have a known height and width with padding="same". '
                f"Received: shape {images.shape}"
            )
        pads = [
            p for axis in (0, 1) for p in _same(images.shape[1 + axis], kernel.shape[axis], stride)
        ]
    read, options = normalization.fold_into_images(images)
    outputs = module.spfde_sparse_conv2d(
        images=read, kernel=kernel, mask=mask, stride=stride, pad=pads, **options
    )
    outputs.set_shape(_output_shape(images.shape, kernel.shape, stride, pads))
    return outputs


def sparse_matmul(
    inputs: tf.Tensor | np.ndarray,
    kernel: tf.Tensor | np.ndarray,
    mask: tf.Tensor | np.ndarray,
) -> tf.Tensor:
    """Multiplies by the kept weights of a matrix; zeros cost nothing.

    Args:
        inputs: float32 tensor (..., inputs).
        kernel: float32 tensor (inputs, outputs).
        mask: bool tensor of the kernel's shape; what it does not keep is taken as 0.

    Returns:
        Float32 tensor (..., outputs).

    Raises:
        RuntimeError: if the kernels are not built.

    Example:

    >>> kernel = np.zeros((16, 8), "float32")
    >>> if spfde_keras.kernels.status().library:
    ...     assert sparse_matmul(np.ones((2, 16)), kernel, kernel != 0).shape == (2, 8)
    """
    inputs = tf.convert_to_tensor(inputs, tf.float32)
    kernel = tf.convert_to_tensor(kernel, tf.float32)
    rows = tf.reshape(inputs, (-1, 1, 1, kernel.shape[0]))
    outputs = sparse_conv2d(rows, kernel[None, None], mask[None, None])
    leading = tf.shape(inputs)[:-1]
    outputs = tf.reshape(outputs, tf.concat([leading, [kernel.shape[1]]], axis=0))
    outputs.set_shape([*inputs.shape[:-1], kernel.shape[1]])
    return outputs


@tf.RegisterGradient("SpfdeSparseConv2D")
def _gradient(op: tf.Operation, gradient: tf.Tensor) -> tuple[tf.Tensor | None, ...]:
    images, kernel, mask, *normalized = op.inputs
    gradient, derived = normalization.fold_into_gradient(gradient)
    options = {"mask": mask, "gradient": gradient} | derived | _attributes(op)
    reading = {"normalization": normalized} | normalization.statistics_settings(op)
    # The tape knows what nothing asks for: images that are data, kernels that are frozen.
    skipped = set(op.skip_input_indices or ())
    module = operators()
    of_images = of_kernel = None
    if skipped >= ({0, 5, 6} if normalized else {0}):
        of_kernel = module.spfde_sparse_conv2d_kernel_gradient(images=images, **reading, **options)
    elif 1 in skipped:
        of_images = module.spfde_sparse_conv2d_input_gradient(
            sizes=tf.shape(images), kernel=kernel, **options
        )
    else:
        both = module.spfde_sparse_conv2d_gradients(
            images=images, kernel=kernel, **reading, **options
        )
        of_images, of_kernel = both.of_images, both.of_kernel
    of_normalized = [None] * len(normalized)
    if normalized and of_images is not None:
        of_images, *of_normalized = normalization.gradients(
            of_images, [images, *normalized], relu=True, **normalization.statistics_settings(op)
        )
    return of_images, of_kernel, None, *of_normalized


# Outputs and both gradients are linear in images, kernel and the outputs' gradient, so every
# further derivative is one of the same three operators.


def _derives_parts(function: Callable) -> Callable:
    """Decorator: an operator with batch normalization folded in is derived as several without."""

    @functools.wraps(function)
    def gradient(op: tf.Operation, *of_outputs: tf.Tensor) -> Any:
        names = _INPUTS[op.type]
        if len(op.inputs) == len(names):
            return function(op, *of_outputs)

        def compute(*inputs: tf.Tensor) -> Any:
            arguments = dict(zip(names, inputs, strict=False)) | _attributes(op)
            rest = list(inputs[len(names) :])
            if "images" in arguments:
                arguments["normalization"] = []
                if op.get_attr("normalized"):
                    x = normalization.normalize(
                        arguments["images"], *rest[:4], **normalization.statistics_settings(op)
                    )
                    arguments["images"] = normalization.relu(x)
                    rest = rest[4:]
            if rest:
                arguments["gradient"] = operators().spfde_derive(
                    arguments["gradient"], *rest, passing=op.get_attr("passing")
                )
            return getattr(operators(), op.type)(**arguments, derivation=[])

        return normalization.through_tape(compute, op.inputs, of_outputs)

    return gradient


@tf.RegisterGradient("SpfdeSparseConv2DInputGradient")
@_derives_parts
def _gradient_of_input_gradient(op: tf.Operation, of_images: tf.Tensor) -> tuple:
    _, kernel, mask, gradient = op.inputs
    module, options = operators(), {"mask": mask} | _attributes(op)
    return (
        None,
        module.spfde_sparse_conv2d_kernel_gradient(
            images=of_images, gradient=gradient, normalization=[], derivation=[], **options
        ),
        None,
        module.spfde_sparse_conv2d(images=of_images, kernel=kernel, normalization=[], **options),
    )


@tf.RegisterGradient("SpfdeSparseConv2DKernelGradient")
@_derives_parts
def _gradient_of_kernel_gradient(op: tf.Operation, of_kernel: tf.Tensor) -> tuple:
    images, mask, gradient = op.inputs
    module, options = operators(), {"mask": mask} | _attributes(op)
    return (
        module.spfde_sparse_conv2d_input_gradient(
            sizes=tf.shape(images), kernel=of_kernel, gradient=gradient, derivation=[], **options
        ),
        None,
        module.spfde_sparse_conv2d(images=images, kernel=of_kernel, normalization=[], **options),
    )


@tf.RegisterGradient("SpfdeSparseConv2DGradients")
@_derives_parts
def _gradient_of_gradients(op: tf.Operation, of_images: tf.Tensor, of_kernel: tf.Tensor) -> tuple:
    images, kernel, mask, gradient = op.inputs
    module, options = operators(), {"mask": mask} | _attributes(op)
    plain = {"normalization": []} | options
    return (
        module.spfde_sparse_conv2d_input_gradient(
            sizes=tf.shape(images), kernel=of_kernel, gradient=gradient, derivation=[], **options
        ),
        module.spfde_sparse_conv2d_kernel_gradient(
            images=of_images, gradient=gradient, derivation=[], **plain
        ),
        None,
        module.spfde_sparse_conv2d(images=of_images, kernel=kernel, **plain)
        + module.spfde_sparse_conv2d(images=images, kernel=of_kernel, **plain),
    )


def _attributes(op: tf.Operation) -> dict[str, Any]:
    return {name: op.get_attr(name) for name in ("stride", "pad", "isa")}


def _same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's padding before and after."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _output_shape(
    images: tf.TensorShape, kernel: tf.TensorShape, stride: int, pads: list[int]
) -> list[int | None]:
    spatial = [
        None
        if size is None
        else (size + pads[2 * axis] + pads[2 * axis + 1] - extent) // stride + 1
        for axis, (size, extent) in enumerate(zip(images[1:3], kernel[:2], strict=True))
    ]
    return [images[0], *spatial, kernel[3]]
