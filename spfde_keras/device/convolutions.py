"""Convolutions whose kernels change, and their gradients, in operators that LiteRT has.

They are products of matrices: XNNPACK multiplies two operands that both change, but computes no
CONV_2D or FULLY_CONNECTED whose weights do.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from spfde_keras.device.windows import Phase, Windows, added, every, in_turns, placed

_CACHED = 2**18  # numbers that a processor's cache takes

_OF_VOLUMES = tf.nn.convolution, tf.nn.conv_transpose  # whose gradients LiteRT lacks


def convolution(
    x: tf.Tensor,
    kernel: tf.Tensor,
    strides: Any = 1,
    padding: str = "VALID",
    data_format: str | None = None,
    dilations: Any = 1,
) -> tf.Tensor:
    """Does what `tf.nn.convolution` does, of sequences and images."""
    axes = len(x.shape) - 2
    if axes > 2:
        return _OF_VOLUMES[0](x, kernel, strides, padding, data_format, dilations)
    x, kernel = _as_image(x, data_format), _of_images(kernel)
    windows = _windows(x, kernel, strides, padding, dilations, axes)
    groups = x.shape[3] // kernel.shape[2]
    if groups == 1:
        y = _convolution(x, kernel, windows)
    else:
        parts = zip(tf.split(x, groups, 3), tf.split(kernel, groups, 3), strict=True)
        y = tf.concat([_convolution(*part, windows) for part in parts], 3)
    return _from_image(y, axes, data_format)


def depthwise_convolution(
    x: tf.Tensor,
    kernel: tf.Tensor,
    strides: Sequence[int],
    padding: str,
    data_format: str | None = None,
    dilations: Any = None,
) -> tf.Tensor:
    """Does what `tf.nn.depthwise_conv2d` does, channels last, as Keras calls it on CPUs."""
    windows = _windows(x, kernel, strides[1:3], padding, dilations or 1, 2)

    @tf.custom_gradient
    def compute(x: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Any]:
        y = _depthwise(windows.pad(x), kernel, windows.strides, windows.dilations)
        return y, lambda g: _depthwise_gradients(x, kernel, g, windows)

    return compute(x, kernel)


def separable_convolution(
    x: tf.Tensor,
    depthwise: tf.Tensor,
    pointwise: tf.Tensor,
    strides: Sequence[int],
    padding: str,
    data_format: str | None = None,
    dilations: Any = None,
) -> tf.Tensor:
    """Does what `tf.nn.separable_conv2d` does, channels last, as Keras calls it on CPUs."""
    y = depthwise_convolution(x, depthwise, strides, padding, data_format, dilations)
    return convolution(y, pointwise)


def transposed_convolution(
    x: tf.Tensor,
    kernel: tf.Tensor,
    output_shape: Sequence[int],
    strides: Any = 1,
    padding: str = "SAME",
    data_format: str | None = None,
    dilations: Any = None,
) -> tf.Tensor:
    """Does what `tf.nn.conv_transpose` does, of sequences and images."""
    axes = len(x.shape) - 2
    if axes > 2:
        return _OF_VOLUMES[1](x, kernel, output_shape, strides, padding, data_format, dilations)
    x, kernel = _as_image(x, data_format), _of_images(kernel)
    output = _as_image(tf.zeros(output_shape), data_format)
    windows = _windows(output, kernel, strides, padding, dilations or 1, axes)

    @tf.custom_gradient
    def compute(x: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Any]:
        # It is the gradient of a convolution's input, which is linear in both.
        return _of_input(kernel, x, windows), lambda g: (
            _correlation(windows.pad(g), kernel, windows),
            _of_kernel(g, kernel, x, windows),
        )

    return _from_image(compute(x, kernel), axes, data_format)


def _windows(
    image: tf.Tensor, kernel: tf.Tensor, strides: Any, padding: str, dilations: Any, axes: int
) -> Windows:
    strides, dilations = _each(strides, axes), _each(dilations, axes)
    size, window = _sizes(image.shape[1:3]), _sizes(kernel.shape[:2])
    return Windows(size, window, strides, dilations, padding == "SAME")


def _as_image(x: tf.Tensor, data_format: str | None) -> tf.Tensor:
    """A sequence as an image of one row; channels last."""
    if _channels_first(data_format):
        x = tf.transpose(x, [0, *range(2, len(x.shape)), 1])
    return tf.expand_dims(x, 1) if len(x.shape) == 3 else x


def _of_images(kernel: tf.Tensor) -> tf.Tensor:
    return tf.expand_dims(kernel, 0) if len(kernel.shape) == 3 else kernel


def _from_image(y: tf.Tensor, axes: int, data_format: str | None) -> tf.Tensor:
    y = tf.squeeze(y, 1) if axes == 1 else y
    if _channels_first(data_format):
        return tf.transpose(y, [0, axes + 1, *range(1, axes + 1)])
    return y


def _channels_first(data_format: str | None) -> bool:
    return data_format is not None and data_format.startswith("NC")


def _convolution(x: tf.Tensor, kernel: tf.Tensor, windows: Windows) -> tf.Tensor:
    channels, filters = kernel.shape[2:]

    @tf.custom_gradient
    def compute(x: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Any]:
        def forward(x: tf.Tensor) -> tf.Tensor:
            return _correlation(windows.pad(x), kernel, windows)

        def of_input(g: tf.Tensor) -> tf.Tensor:
            return _of_input(kernel, g, windows)

        def of_kernel(x: tf.Tensor, g: tf.Tensor) -> tf.Tensor:
            return _of_kernel(x, kernel, g, windows)

        small, large = _few(x, windows, channels), _few(x, windows, max(channels, filters))
        return _joined(small(forward, x)), lambda g: (
            _joined(large(of_input, g)),
            added(small(of_kernel, x, g)),
        )

    return compute(x, kernel)


def _few(x: tf.Tensor, windows: Windows, channels: int) -> Callable[..., list[tf.Tensor]]:
    """Returns what computes from as few samples at a time as a processor's cache takes."""
    samples = x.shape[0]
    held = math.prod(windows.padded_size) * windows.window[1] * channels
    most = max(1, _CACHED // held)
    parts = next(n for n in range(1, samples + 1) if samples % n == 0 and samples // n <= most)

    def compute(function: Callable, *tensors: tf.Tensor) -> list[tf.Tensor]:
        if parts == 1:
            return [function(*tensors)]
        pieces = (tf.split(tensor, parts) for tensor in tensors)
        return [function(*piece) for piece in zip(*pieces, strict=True)]

    return compute


def _joined(parts: Sequence[tf.Tensor]) -> tf.Tensor:
    return tf.concat(parts, 0) if len(parts) > 1 else parts[0]


def _correlation(padded: tf.Tensor, kernel: tf.Tensor, windows: Windows) -> tf.Tensor:
    """Products of images shifted by the columns of the kernel with each of its rows."""
    height, width, channels, filters = kernel.shape
    (step, _), (rows, columns) = windows.strides, windows.count
    wide, by_row = _wide(padded, windows), tf.reshape(kernel, [height, width * channels, filters])
    taken = [(r * windows.dilations[0], step, rows) for r in range(height)]
    if step > 1:
        parts = [
            _product_of_channels(every(wide, {1: spot}), weights)
            for spot, weights in zip(taken, tf.unstack(by_row), strict=True)
        ]
        return added(parts)
    # With all rows at once: shifting what comes out moves less than shifting what is wide.
    side_by_side = tf.reshape(tf.transpose(by_row, [1, 0, 2]), [width * channels, height * filters])
    found = _product_of_channels(wide, side_by_side)
    sizes = [padded.shape[0], rows, columns, filters]
    return added(
        [tf.slice(found, [0, at, 0, r * filters], sizes) for r, (at, *_) in enumerate(taken)]
    )


def _wide(padded: tf.Tensor, windows: Windows) -> tf.Tensor:
    """Images with what all columns of a window see beside each other as channels."""
    step, count = windows.strides[1], windows.count[1]
    starts = range(0, windows.extent[1], windows.dilations[1])
    shifted = [every(padded, {2: (start, step, count)}) for start in starts]
    return tf.concat(shifted, 3) if len(shifted) > 1 else shifted[0]


def _product_of_channels(x: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    flat = product(tf.reshape(x, [-1, x.shape[-1]]), weights)
    return tf.reshape(flat, [*x.shape[:-1], weights.shape[1]])


def _of_input(kernel: tf.Tensor, g: tf.Tensor, windows: Windows) -> tf.Tensor:
    """The gradient of the input: the output's, correlated with the kernel turned around."""

    def of_phase(placed: tf.Tensor, part: tf.Tensor, dilations: tuple[int, int]) -> tf.Tensor:
        around = Windows(_sizes(placed.shape[1:3]), _sizes(part.shape[:2]), dilations=dilations)
        return _correlation(placed, part, around)

    return _back(tf.transpose(kernel, [0, 1, 3, 2]), g, windows, of_phase)


def _back(
    kernel: tf.Tensor,
    g: tf.Tensor,
    windows: Windows,
    correlate: Callable[[tf.Tensor, tf.Tensor, tuple[int, int]], tf.Tensor],
) -> tf.Tensor:
    """What comes back from windows to an image, phase by phase: no zero is put between windows.

    Args:
        kernel: (rows, columns, ...), weights of the positions of a window.
        g: values of windows, (samples, rows, columns, ...).
        windows: over the image.
        correlate: (values with what is around them, part of the kernel, dilations) -> entries.
    """

    def of_phase(row: Phase, column: Phase) -> tf.Tensor | None:
        if not row.count or not column.count:
            return None
        spread = placed(g, {1: (row.start, row.size), 2: (column.start, column.size)})
        part = every(kernel, {i: (p.first, p.step, p.count) for i, p in enumerate((row, column))})
        return correlate(spread, tf.reverse(part, [0, 1]), (row.dilation, column.dilation))

    found = [[of_phase(row, column) for column in windows.phases(1)] for row in windows.phases(0)]
    nothing = tf.zeros_like(next(x for row in found for x in row if x is not None))
    rows = [in_turns([nothing if x is None else x for x in row], 2) for row in found]
    return placed(in_turns(rows, 1), {1: (0, windows.size[0]), 2: (0, windows.size[1])})


def _of_kernel(x: tf.Tensor, kernel: tf.Tensor, g: tf.Tensor, windows: Windows) -> tf.Tensor:
    wide, flat = _wide(windows.pad(x), windows), tf.reshape(g, [-1, g.shape[-1]])
    step, rows = windows.strides[0], windows.count[0]
    seen = [
        every(wide, {1: (at, step, rows)})
        for at in range(0, windows.extent[0], windows.dilations[0])
    ]
    parts = [product(tf.reshape(x, [-1, x.shape[-1]]), flat, transpose_a=True) for x in seen]
    return tf.reshape(tf.concat(parts, 0) if len(parts) > 1 else parts[0], kernel.shape)


def _depthwise(
    x: tf.Tensor, kernel: tf.Tensor, strides: Sequence[int], dilations: Sequence[int]
) -> tf.Tensor:
    return tf.raw_ops.DepthwiseConv2dNative(
        input=x,
        filter=kernel,
        strides=[1, *strides, 1],
        padding="VALID",
        dilations=[1, *dilations, 1],
    )


def _depthwise_gradients(
    x: tf.Tensor, kernel: tf.Tensor, g: tf.Tensor, windows: Windows
) -> tuple[tf.Tensor, tf.Tensor]:
    height, width, channels, multiplier = kernel.shape
    padded = windows.pad(x)
    by_channel = tf.reshape(g, [-1, channels, multiplier])
    sums = [
        tf.reduce_sum(tf.reshape(windows.seen(padded, at), [-1, channels, 1]) * by_channel, 0)
        for at in windows.positions
    ]

    def of_phase(placed: tf.Tensor, part: tf.Tensor, dilations: tuple[int, int]) -> tf.Tensor:
        single = tf.reshape(part, [*part.shape[:2], channels * multiplier, 1])
        return _depthwise(placed, single, (1, 1), dilations)

    back = _back(kernel, g, windows, of_phase)
    if multiplier > 1:
        back = tf.reduce_sum(tf.reshape(back, [-1, channels, multiplier]), 2)
    return tf.reshape(back, x.shape), tf.reshape(tf.stack(sums), kernel.shape)


def product(a: tf.Tensor, b: tf.Tensor, transpose_a: bool = False) -> tf.Tensor:
    """Returns a product of matrices, as BATCH_MATMUL: of rank 2 it is FULLY_CONNECTED, slow."""
    y = tf.raw_ops.BatchMatMulV2(
        x=tf.reshape(a, [1, *a.shape]), y=tf.reshape(b, [1, *b.shape]), adj_x=transpose_a
    )
    return tf.reshape(y, y.shape[1:])


def _each(value: Any, axes: int) -> tuple[int, ...]:
    values = (value,) * axes if isinstance(value, int) else tuple(value)
    return (1,) * (2 - axes) + values  # a sequence is an image of one row


def _sizes(shape: Any) -> tuple[int, ...]:
    return tuple(int(size) for size in shape)
