"""Convolutions and products with kernels that are mostly zero."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from spfde_keras import checks
from spfde_keras.kernels import normalization
from spfde_keras.kernels.library import operators

Size: TypeAlias = int | tf.Tensor
Pads: TypeAlias = tuple[Size, Size]
"""Before and after; tensors where they depend on a size that is not known while tracing."""

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
    _check(stride, padding, ("valid", "same"))
    images = tf.convert_to_tensor(images, tf.float32)
    kernel = tf.convert_to_tensor(kernel, tf.float32)
    pads: list[Pads] = [(0, 0), (0, 0)]
    if padding == "same":
        pads = [_same(images, 1 + axis, kernel.shape[axis], stride) for axis in (0, 1)]
    return _convolve(images, kernel, mask, stride, pads)


def sparse_conv1d(
    sequences: tf.Tensor | np.ndarray,
    kernel: tf.Tensor | np.ndarray,
    mask: tf.Tensor | np.ndarray,
    stride: int = 1,
    padding: str = "valid",
    dilation: int = 1,
) -> tf.Tensor:
    """Convolves sequences with the kept weights of a kernel; zeros cost nothing.

    A sequence is an image as wide as the dilation, whose rows follow one another in time: a
    dilated kernel is then one of a single column.

    Args:
        sequences: float32 tensor (batch, length, inputs).
        kernel: float32 tensor (steps, inputs, outputs).
        mask: bool tensor of the kernel's shape; what it does not keep is taken as 0.
        stride: int, 1 or 2.
        padding: "valid", "same" or "causal".
        dilation: int, 1 with a stride of 2.

    Returns:
        Float32 tensor (batch, output length, outputs).

    Raises:
        ValueError: if an argument is wrong.
        RuntimeError: if the kernels are not built.

    Example:

    >>> kernel = np.zeros((2, 4, 8), "float32")
    >>> if spfde_keras.kernels.status().library:
    ...     sequences = np.ones((2, 6, 4), "float32")
    ...     assert sparse_conv1d(sequences, kernel, kernel != 0, dilation=3).shape == (2, 3, 8)
    """
    _check(stride, padding, ("valid", "same", "causal"))
    if checks.whole("dilation", dilation) > 1 and stride > 1:
        raise ValueError(
            "`dilation` must be at least 1, and 1 with a stride of 2. "
            f"Received: dilation={dilation}, stride={stride}"
        )
    sequences = tf.convert_to_tensor(sequences, tf.float32)
    kernel = tf.convert_to_tensor(kernel, tf.float32)
    extent = (kernel.shape[0] - 1) * dilation + 1
    pads: Pads = (extent - 1, 0) if padding == "causal" else (0, 0)
    if padding == "same":
        pads = _same(sequences, 1, extent, stride)
    # No slices: their gradients are copies.
    column, mask = tf.expand_dims(kernel, 1), tf.expand_dims(mask, 1)
    if dilation == 1:
        images = tf.expand_dims(sequences, 2)
        return tf.squeeze(_convolve(images, column, mask, stride, [pads, (0, 0)]), 2)
    length = _size(sequences, 1) + sum(pads) - (extent - 1)
    if pads[0] % dilation:  # not whole rows
        sequences = tf.pad(sequences, [(0, 0), pads, (0, 0)])
        pads = (0, 0)
    missing = -_size(sequences, 1) % dilation
    if not isinstance(missing, int) or missing:
        sequences = tf.pad(sequences, [(0, 0), (0, missing), (0, 0)])
    rows = (pads[0] // dilation, pads[1] // dilation)
    outputs = _convolve(_fold(sequences, dilation), column, mask, 1, [rows, (0, 0)])
    return _unfold(outputs, length)


def sparse_matmul(
    inputs: tf.Tensor | np.ndarray,
    kernel: tf.Tensor | np.ndarray,
    mask: tf.Tensor | np.ndarray,
    axes: int = 1,
) -> tf.Tensor:
    """Multiplies by the kept weights of a matrix; zeros cost nothing.

    Args:
        inputs: float32 tensor (..., inputs).
        kernel: float32 tensor (inputs, outputs).
        mask: bool tensor of the kernel's shape; what it does not keep is taken as 0.
        axes: int, how many axes the inputs are: the last ones of `inputs` and the first ones of
            `kernel`. The outputs have as many as are left of `kernel`.

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
    axes = checks.whole("axes", axes, below=max(2, len(kernel.shape)))
    given = kernel.shape[axes:]
    matrix = (1, 1, math.prod(kernel.shape[:axes]), math.prod(given))
    rows = tf.reshape(inputs, (-1, 1, 1, matrix[2]))
    kernel, mask = tf.reshape(kernel, matrix), tf.reshape(mask, matrix)
    outputs = _convolve(rows, kernel, mask, 1, [(0, 0), (0, 0)])
    leading = tf.shape(inputs)[: len(inputs.shape) - axes]
    outputs = tf.reshape(outputs, tf.concat([leading, given], axis=0))
    outputs.set_shape([*inputs.shape[:-axes], *given])
    return outputs


def _convolve(
    images: tf.Tensor, kernel: tf.Tensor, mask: tf.Tensor, stride: int, pads: Sequence[Pads]
) -> tf.Tensor:
    """Convolves images that are padded by `pads`, of rows and of columns."""
    module = operators()
    if not all(isinstance(pad, int) for pair in pads for pad in pair):
        images = tf.pad(images, [(0, 0), *pads, (0, 0)])
        pads = [(0, 0), (0, 0)]
    pad = [size for pair in pads for size in pair]
    read, options = normalization.fold_into_images(images)
    outputs = module.spfde_sparse_conv2d(
        images=read, kernel=kernel, mask=mask, stride=stride, pad=pad, **options
    )
    outputs.set_shape(_output_shape(images.shape, kernel.shape, stride, pad))
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


def _check(stride: int, padding: str, paddings: Sequence[str]) -> None:
    if checks.whole("stride", stride) not in _STRIDES:
        checks.refuse("stride", "1 or 2", stride)
    checks.one_of("padding", padding, paddings)


def _size(tensor: tf.Tensor, axis: int) -> Size:
    """The size of an axis, a number where it is known."""
    known = tensor.shape[axis]
    return tf.shape(tensor)[axis] if known is None else known


def _same(images: tf.Tensor, axis: int, extent: int, stride: int) -> Pads:
    """TensorFlow's padding before and after; only strides make it depend on the size."""
    total = _padding(images, axis, extent, stride)
    return total // 2, total - total // 2


def _padding(images: tf.Tensor, axis: int, extent: int, stride: int) -> Size:
    # No local variable has a type of its own: AutoGraph, in a user's own step, cannot take it.
    if stride == 1:
        return extent - 1
    size = _size(images, axis)
    total = (-(-size // stride) - 1) * stride + extent - size
    return max(total, 0) if isinstance(total, int) else tf.maximum(total, 0)


def _fold(sequences: tf.Tensor, width: int) -> tf.Tensor:
    """Sequences (batch, length, channels) as images (batch, length / width, width, channels)."""
    batch, length, channels = sequences.shape
    rows = _size(sequences, 1) // width
    images = tf.reshape(sequences, tf.stack([_size(sequences, 0), rows, width, channels]))
    images.set_shape([batch, None if length is None else rows, width, channels])
    return images


def _unfold(images: tf.Tensor, length: Size) -> tf.Tensor:
    """The inverse of `_fold`, for sequences of a shorter length."""
    batch, rows, width, channels = images.shape
    whole = _size(images, 1) * width
    sequences = tf.reshape(images, tf.stack([_size(images, 0), whole, channels]))
    sequences.set_shape([batch, None if rows is None else whole, channels])
    return sequences if sequences.shape[1] == length else sequences[:, :length]


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
