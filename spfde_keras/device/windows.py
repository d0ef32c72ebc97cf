"""Where the windows of a convolution or a pooling lie in images of a known size."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Phase:
    """Every so many entries along an axis of an image, and what windows do with them.

    What comes back from windows to these entries is a correlation of its own, without strides: of
    the windows' values, placed at `start` of `size`, with every `step`-th position turned around.

    Args:
        first: int, the first position of a window that sees such entries.
        step: int, from such a position to the next.
        count: int, how many such positions there are; 0 where windows step over these entries.
        dilation: int, of that correlation.
        start: int, where the windows' values are placed; may be negative.
        size: int, of what they are placed in.
    """

    first: int
    step: int
    count: int
    dilation: int
    start: int
    size: int


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

    def phases(self, axis: int) -> list[Phase]:
        """Returns, for rows (0) or columns (1), the phases that take turns along them."""
        stride, dilation, window = self.strides[axis], self.dilations[axis], self.window[axis]
        entries, pad = -(-self.size[axis] // stride), self.pads[axis][0]
        found = []
        for phase in range(stride):
            seen = [w for w in range(window) if (phase + pad - w * dilation) % stride == 0]
            first, count = (seen or [0])[0], len(seen)
            step = seen[1] - first if count > 1 else 1
            apart = step * dilation // stride if count > 1 else 1
            start = (count - 1) * apart - (phase + pad - first * dilation) // stride
            size = entries + (count - 1) * apart
            found.append(Phase(first, step, count, apart, start, size))
        return found

    def pad(self, x: tf.Tensor, value: float = 0.0) -> tf.Tensor:
        """Returns the padded images."""
        sizes = zip(self.pads, self.padded_size, strict=True)
        return placed(x, {axis: (pads[0], s) for axis, (pads, s) in enumerate(sizes, 1)}, value)

    def unpad(self, x: tf.Tensor) -> tf.Tensor:
        """Returns images without what was added."""
        sizes = zip(self.pads, self.size, strict=True)
        return placed(x, {axis: (-pads[0], size) for axis, (pads, size) in enumerate(sizes, 1)})

    def seen(self, padded: tf.Tensor, position: tuple[int, int]) -> tf.Tensor:
        """Returns what one position of all windows sees: (samples, *count, channels)."""
        spots = zip(position, self.strides, self.count, strict=True)
        return every(padded, dict(enumerate(spots, 1)))

    def put_back(self, x: tf.Tensor, position: tuple[int, int]) -> tf.Tensor:
        """Returns padded images, zero but for what one position of all windows is to see."""
        for axis, step in enumerate(self.strides, 1):
            x = apart(x, axis, step)
        starts = zip(position, self.padded_size, strict=True)
        return placed(x, dict(enumerate(starts, 1)))


def every(x: tf.Tensor, spots: Mapping[int, tuple[int, int, int]]) -> tf.Tensor:
    """Returns some entries along axes.

    Args:
        x: tensor.
        spots: by axis, but for the last one: the first entry, the step to the next, how many.
    """
    shape = x.shape.as_list()
    given = {axis: spot for axis, spot in spots.items() if spot != (0, 1, shape[axis])}
    if not given:
        return x
    # LiteRT takes slices with steps entry by entry; of entries in groups, it copies rows.
    groups = {a: max(s // n + c, -(-shape[a] // n)) for a, (s, n, c) in given.items()}
    x = placed(x, {a: (0, groups[a] * step) for a, (_, step, _) in given.items()})
    dims = [[0, size, size] for size in shape]  # of each: where to begin, how many, of how many
    for axis in sorted(given, reverse=True):
        start, step, count = given[axis]
        outside = [start // step, count, groups[axis]]
        begin, taken, whole = dims[axis + 1]
        if step == 1:
            dims[axis] = outside
        elif taken == whole:  # slices have five axes at most
            dims[axis : axis + 2] = [outside, [start % step * whole, whole, step * whole]]
        else:
            dims[axis : axis + 1] = [outside, [start % step, 1, step]]
    begins, counts, sizes = zip(*dims, strict=True)
    found = tf.slice(tf.reshape(x, sizes), begins, counts)
    return tf.reshape(found, [given[a][2] if a in given else size for a, size in enumerate(shape)])


def in_turns(parts: Sequence[tf.Tensor], axis: int) -> tf.Tensor:
    """Returns tensors of one shape with their entries along an axis by turns."""
    if len(parts) == 1:
        return parts[0]
    shape = parts[0].shape.as_list()
    outer, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    rows = [tf.reshape(part, [outer, shape[axis], inner]) for part in parts]
    shape[axis] *= len(parts)
    return tf.reshape(tf.concat(rows, 2), shape)


def apart(x: tf.Tensor, axis: int, step: int) -> tf.Tensor:
    """Puts entry i along an axis at i * step, zeros between and behind."""
    if step == 1:
        return x
    shape = x.shape.as_list()
    flat = tf.reshape(x, [math.prod(shape[: axis + 1]), 1, math.prod(shape[axis + 1 :])])
    shape[axis] *= step
    return tf.reshape(tf.pad(flat, [[0, 0], [0, step - 1], [0, 0]]), shape)


def placed(x: tf.Tensor, spots: Mapping[int, tuple[int, int]], value: float = 0.0) -> tf.Tensor:
    """Places entries along axes, cut to fit.

    Args:
        x: tensor.
        spots: by axis, where its first entry is placed (may be negative), and in how many.
        value: of what is added.
    """
    shape = np.array(x.shape.as_list())
    starts, sizes = np.zeros_like(shape), shape.copy()
    for axis, (start, size) in spots.items():
        starts[axis], sizes[axis] = start, size
    first, last = np.maximum(0, -starts), np.minimum(shape, sizes - starts)
    if np.any(last <= first):
        return tf.fill(sizes, tf.cast(value, x.dtype))
    if np.any(last - first < shape):
        x = tf.slice(x, first, last - first)
    pads = np.stack([starts + first, sizes - starts - last], axis=1)
    return tf.pad(x, pads, constant_values=value) if np.any(pads) else x


def added(parts: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns the sum of tensors."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
