"""How kernels move over images, and how one lies in a larger one that phones run sparse."""

import dataclasses
from collections.abc import Iterable

import keras
import numpy as np

from spfde_keras.export.rewriting.graph import CallSite


@dataclasses.dataclass(frozen=True)
class Window:
    """How a kernel moves along one dimension of an image.

    Args:
        size: int, pixels of the image, without padding.
        before: int, zeros before its first pixel.
        kernel: int, pixels under the kernel, gaps of a dilation included.
        stride: int.
        outputs: int, positions.
    """

    size: int
    before: int
    kernel: int
    stride: int
    outputs: int

    @property
    def flipped(self) -> "Window":
        """The same on the image read backwards: the last position comes first.

        >>> Window(size=8, before=0, kernel=3, stride=2, outputs=4).flipped.before
        1
        """
        end = self.stride * (self.outputs - 1) + self.kernel - self.before
        return dataclasses.replace(self, before=end - self.size)

    @property
    def is_padded(self) -> bool:
        """Whether any position looks beyond the image."""
        return self.before > 0 or self.flipped.before > 0

    def offset(self, kernel: int) -> int | None:
        """Returns where this kernel lies in a larger one that is padded by half on both sides.

        None if it does not fit in there. A kernel of 3 that begins at the edge of an image of
        even size, as padding="same" makes it with strides=2, is the end of a kernel of 5:

        >>> Window(size=8, before=0, kernel=3, stride=2, outputs=4).offset(5)
        2

        Args:
            kernel: int, the larger one's size; odd.
        """
        if self.stride == 2 and self.size % 2:
            return None  # The converter makes symmetric padding "same" again.
        padding = kernel // 2
        offset = padding - self.before
        outputs = (self.size + 2 * padding - kernel) // self.stride + 1
        fits = 0 <= offset <= kernel - self.kernel and outputs == self.outputs
        return offset if fits else None


def windows(site: CallSite) -> tuple[keras.KerasTensor, Window, Window] | None:
    """Returns the image that a convolution or pooling reads, and how it moves down and across.

    A ZeroPadding2D that only this call reads counts as its own padding. Where the call makes a
    flipped image, the windows are those on the flipped image it reads.

    Args:
        site: of a layer with strides and padding on images (batch, height, width, channels).

    Returns:
        (tensor, rows, columns); None if the layer's or the image's size is not known here.
    """
    layer, image = site.layer, site.input
    if layer.data_format != "channels_last" or layer.padding not in ("same", "valid"):
        return None
    added = ((0, 0), (0, 0))
    padding = site.padding
    if padding:
        image, added = padding.input, padding.layer.padding
    if None in image.shape[1:3]:
        return None
    sizes = getattr(layer, "kernel_size", None) or layer.pool_size
    dilation = getattr(layer, "dilation_rate", (1, 1))
    found = []
    for i in range(2):
        kernel = (sizes[i] - 1) * dilation[i] + 1
        before, padded = added[i][0], image.shape[i + 1] + sum(added[i])
        stride = layer.strides[i]
        outputs = (padded - kernel) // stride + 1
        if layer.padding == "same":
            outputs = -(-padded // stride)
            before += max((outputs - 1) * stride + kernel - padded, 0) // 2
        window = Window(image.shape[i + 1], before, kernel, stride, outputs)
        found.append(window.flipped if site.is_flipped else window)
    return image, found[0], found[1]


def pads_mean(site: CallSite) -> bool:
    """Returns whether an average pooling pads the image, and leaves that out of its means."""
    found = windows(site)
    is_padded = found is None or any(window.is_padded for window in found[1:])
    return site.layer.padding == "same" and is_padded


def embedding(
    rows: Window, columns: Window, sizes: Iterable[int]
) -> tuple[int, tuple[int, int]] | None:
    """Returns the smallest square kernel that can do the same, and where the kernel lies in it.

    Args:
        rows, columns: how the kernel moves down and across.
        sizes: ints, those to choose from, the smallest first.

    Returns:
        (size, (offset down, offset across)), or None.

    >>> down = Window(size=8, before=0, kernel=1, stride=2, outputs=4)
    >>> embedding(down, down, (3, 5))
    (3, (1, 1))
    """
    if rows.stride != columns.stride or rows.stride > 2:
        return None
    for size in sizes:
        down, across = rows.offset(size), columns.offset(size)
        if down is not None and across is not None:
            return size, (down, across)
    return None


def stays(site: CallSite, size: int, offsets: tuple[int, int]) -> bool:
    """Returns whether a convolution has the form already in which it is embedded.

    Args:
        site: of the convolution.
        size, offsets: as `embedding` returns them.
    """
    layer = site.layer
    is_whole = tuple(layer.kernel_size) == (size, size) and offsets == (0, 0)
    if not is_whole or site.is_flipped:
        return False
    if tuple(layer.strides) == (1, 1):
        return True  # An image that keeps its size is padded by the same on both sides.
    padding, half = site.padding, size // 2
    is_alike = padding is not None and padding.layer.padding == ((half, half), (half, half))
    return is_alike and layer.padding == "valid"


def place(kernel: np.ndarray, size: int, offsets: tuple[int, int]) -> np.ndarray:
    """Returns a kernel inside a square one of zeros.

    Args:
        kernel: array (rows, columns, ...).
        size: int, of the square.
        offsets: where its first row and column come.
    """
    placed = np.zeros((size, size, *kernel.shape[2:]), kernel.dtype)
    rows, columns = (slice(o, o + n) for o, n in zip(offsets, kernel.shape[:2], strict=True))
    placed[rows, columns] = kernel
    return placed


def spread(kernel: np.ndarray, dilation: tuple[int, int]) -> np.ndarray:
    """Returns a dilated kernel as a larger one with zeros in its gaps.

    Args:
        kernel: array (rows, columns, ...).
        dilation: in both dimensions.
    """
    sizes = ((n - 1) * d + 1 for n, d in zip(kernel.shape[:2], dilation, strict=True))
    larger = np.zeros((*sizes, *kernel.shape[2:]), kernel.dtype)
    larger[:: dilation[0], :: dilation[1]] = kernel
    return larger


def oriented(site: CallSite, kernel: np.ndarray) -> np.ndarray:
    """Returns the kernel of a layer, undilated, and flipped where its images are.

    Args:
        site: of the layer.
        kernel: array (rows, columns, ...).
    """
    kernel = spread(kernel, getattr(site.layer, "dilation_rate", (1, 1)))
    return kernel[::-1, ::-1] if site.is_flipped else kernel
