"""Where the windows of a convolution or a pooling lie in images of a known size."""

import dataclasses
import math
from collections.abc import Sequence

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Windows:
    """Windows over images (samples, height, width, channels); sizes are (rows, columns).

    Args:
        size: of the image.
        window: of the kernel or pool.
        strides: steps from window to window.
        dilations: steps from position to position inside a window.
        same: bool, whether images are padded so that strides alone decide the output's size.
    """

    size: tuple[int, ...]
    window: tuple[int, ...]
    strides: tuple[int, ...] = (1, 1)
    dilations: tuple[int, ...] = (1, 1)
    same: bool = False

    @property
    def extent(self) -> list[int]:
        """Rows and columns between the first and last position of a window, both included."""
        return [(w - 1) * d + 1 for w, d in zip(self.window, self.dilations, strict=True)]

    @property
    def pads(self) -> list[tuple[int, int]]:
        """How many rows and columns are added in front and behind."""
        if not self.same:
            return [(0, 0)] * 2
        totals = [
            max(0, (-(-size // stride) - 1) * stride + extent - size)
            for size, stride, extent in zip(self.size, self.strides, self.extent, strict=True)
        ]
        return [(total // 2, total - total // 2) for total in totals]

    @property
    def padded_size(self) -> list[int]:
        """Of the image with what is added."""
        return [size + sum(pads) for size, pads in zip(self.size, self.pads, strict=True)]

    @property
    def count(self) -> list[int]:
        """How many windows there are: the size of the output."""
        sizes = zip(self.padded_size, self.extent, self.strides, strict=True)
        return [(size - extent) // stride + 1 for size, extent, stride in sizes]

    @property
    def positions(self) -> list[tuple[int, int]]:
        """Where the positions of the first window are in the padded image."""
        rows, columns = (
            range(0, w * d, d) for w, d in zip(self.window, self.dilations, strict=True)
        )
        return [(row, column) for row in rows for column in columns]

    def pad(self, x: tf.Tensor, value: float = 0.0) -> tf.Tensor:
        """Returns the padded images."""
        for axis, (pads, size) in enumerate(zip(self.pads, self.padded_size, strict=True), 1):
            x = placed(x, axis, pads[0], size, value)
        return x

    def unpad(self, x: tf.Tensor) -> tf.Tensor:
        """Returns images without what was added."""
        for axis, (pads, size) in enumerate(zip(self.pads, self.size, strict=True), 1):
            x = placed(x, axis, -pads[0], size)
        return x

    def seen(self, padded: tf.Tensor, position: tuple[int, int]) -> tf.Tensor:
        """Returns what one position of all windows sees: (samples, *count, channels)."""
        for axis, (start, step, count) in enumerate(
            zip(position, self.strides, self.count, strict=True), 1
        ):
            padded = every(padded, axis, start, step, count)
        return padded

    def put_back(self, x: tf.Tensor, position: tuple[int, int]) -> tf.Tensor:
        """Returns padded images, zero but for what one position of all windows is to see."""
        for axis, (start, step, size) in enumerate(
            zip(position, self.strides, self.padded_size, strict=True), 1
        ):
            x = placed(apart(x, axis, step), axis, start, size)
        return x


def every(x: tf.Tensor, axis: int, start: int, step: int, count: int) -> tf.Tensor:
    """Returns `count` entries along an axis, `step` apart."""
    if (start, step, count) == (0, 1, x.shape[axis]):
        return x
    return x[(slice(None),) * axis + (slice(start, start + (count - 1) * step + 1, step),)]


def apart(x: tf.Tensor, axis: int, step: int) -> tf.Tensor:
    """Puts entry i along an axis at i * step, zeros between and behind."""
    if step == 1:
        return x
    shape = x.shape.as_list()
    flat = tf.reshape(x, [math.prod(shape[: axis + 1]), 1, math.prod(shape[axis + 1 :])])
    shape[axis] *= step
    return tf.reshape(tf.pad(flat, [[0, 0], [0, step - 1], [0, 0]]), shape)


def placed(x: tf.Tensor, axis: int, start: int, size: int, value: float = 0.0) -> tf.Tensor:
    """Places entries along an axis at `start` (which may be negative) of `size`, cut to fit."""
    first, last = max(0, -start), min(x.shape[axis], size - start)
    x = every(x, axis, first, 1, last - first)
    pads = [[0, 0]] * len(x.shape)
    pads[axis] = [start + first, size - start - last]
    return tf.pad(x, pads, constant_values=value) if any(pads[axis]) else x


def added(parts: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns the sum of tensors."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
