"""Which axes of a kernel are positions, inputs and outputs."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class KernelLayout:
    """The axes of a kernel, so that schemes see every kernel as (positions, inputs, outputs).

    Args:
        shape: tuple of ints, the kernel's shape.
        spatial: tuple of ints, its axes over kernel positions (empty for dense layers).
        inputs: tuple of ints, its axes over inputs.
        outputs: tuple of ints, its axes over outputs.

    Raises:
        ValueError: if the three do not name each axis exactly once.

    Example:

    >>> layout = KernelLayout((3, 3, 16, 32), spatial=(0, 1), inputs=(2,), outputs=(3,))
    >>> layout.canonical_shape
    (9, 16, 32)
    """

    shape: tuple[int, ...]
    spatial: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def __post_init__(self) -> None:
        axes = self.spatial + self.inputs + self.outputs
        if sorted(axes) != list(range(len(self.shape))):
            raise ValueError(
                "`spatial`, `inputs` and `outputs` must name each axis of `shape` once. "
                f"Received: shape={self.shape}, axes={axes}"
            )

    @classmethod
    def positions_first(cls, shape: Sequence[int]) -> "KernelLayout":
        """Returns the layout of a kernel (*positions, inputs, outputs), as most layers have it.

        Example:

        >>> KernelLayout.positions_first((16, 32)).canonical_shape
        (1, 16, 32)
        """
        rank = len(shape) - 2
        return cls(tuple(shape), tuple(range(rank)), inputs=(rank,), outputs=(rank + 1,))

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Size of each axis over kernel positions, e.g. (3, 3)."""
        return tuple(self.shape[axis] for axis in self.spatial)

    @property
    def canonical_shape(self) -> tuple[int, int, int]:
        """(positions, inputs, outputs)."""
        return (
            math.prod(self.spatial_shape),
            math.prod(self.shape[axis] for axis in self.inputs),
            math.prod(self.shape[axis] for axis in self.outputs),
        )

    @property
    def size(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)

    def to_canonical(self, array: np.ndarray) -> np.ndarray:
        """Returns `array` (of `shape`) as (positions, inputs, outputs); a view where possible."""
        order = self.spatial + self.inputs + self.outputs
        return np.transpose(array, order).reshape(self.canonical_shape)

    def from_canonical(self, array: np.ndarray) -> np.ndarray:
        """Returns a (positions, inputs, outputs) array in the kernel's own `shape`."""
        order = self.spatial + self.inputs + self.outputs
        transposed = array.reshape([self.shape[axis] for axis in order])
        return np.transpose(transposed, np.argsort(order))
