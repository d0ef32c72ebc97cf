"""Whole inputs or whole outputs of a kernel are units."""

import numpy as np

from spfde_keras.layout import KernelLayout
from spfde_keras.schemes.base import DoesNotFit, Scheme, Shape, l2_norm, register


class _Whole(Scheme):
    """Keeps or drops everything at one index of one axis of (positions, inputs, outputs)."""

    axis: int
    kind: str

    def validate(self, layout: KernelLayout, path: str, density: float) -> None:
        if self.units(layout) == 1:
            raise DoesNotFit(
                self,
                path,
                rule=f"at least 2 {self.kind}s to choose from",
                received=f"1 {self.kind}",
                remedy="Use another scheme",
            )

    def scores(self, elements: np.ndarray) -> np.ndarray:
        return l2_norm(elements, self._others)

    def reduce(self, mask: np.ndarray) -> np.ndarray:
        return np.any(mask, axis=self._others)

    def expand(self, units: np.ndarray, shape: Shape) -> np.ndarray:
        return np.broadcast_to(np.expand_dims(units, self._others), shape).copy()

    def units(self, layout: KernelLayout) -> int:
        return layout.canonical_shape[self.axis]

    @property
    def _others(self) -> tuple[int, ...]:
        return tuple(axis for axis in range(3) if axis != self.axis)


@register("channel")
class Channel(_Whole):
    """Keeps or drops whole inputs: all weights that read one input channel.

    Units are an array of shape (inputs,).

    Source: MEST (Yuan et al., NeurIPS 2021, arXiv 2110.14032), channel sparsity.

    Example:

    >>> Channel().scores(np.array([[[3.0, 4.0], [0.0, 1.0]]])).tolist()
    [5.0, 1.0]
    """

    axis = 1
    kind = "input"


@register("filter")
class Filter(_Whole):
    """Keeps or drops whole outputs: all weights that make one output channel.

    Units are an array of shape (outputs,).

    Source: filter pruning, Li et al., "Pruning filters for efficient ConvNets", ICLR 2017,
    arXiv 1608.08710 (by L2 norm here, as all schemes).

    Example:

    >>> Filter().scores(np.array([[[3.0, 0.0], [4.0, 1.0]]])).tolist()
    [5.0, 1.0]
    """

    axis = 2
    kind = "output"
