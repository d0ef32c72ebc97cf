"""Each 3x3 kernel keeps one of a few patterns of 4 positions, or nothing."""

import numpy as np

from spfde_keras.layout import KernelLayout
from spfde_keras.schemes.base import (
    DoesNotFit,
    Scheme,
    Shape,
    register,
    root,
    squares,
    top_along,
    top_within,
)

PATTERNS = np.array(
    [
        # The centre and three positions next to it.
        [[0, 1, 0], [1, 1, 1], [0, 0, 0]],
        [[0, 0, 0], [1, 1, 1], [0, 1, 0]],
        [[0, 1, 0], [1, 1, 0], [0, 1, 0]],
        [[0, 1, 0], [0, 1, 1], [0, 1, 0]],
        # A square with the centre in one corner.
        [[1, 1, 0], [1, 1, 0], [0, 0, 0]],
        [[0, 1, 1], [0, 1, 1], [0, 0, 0]],
        [[0, 0, 0], [1, 1, 0], [1, 1, 0]],
        [[0, 0, 0], [0, 1, 1], [0, 1, 1]],
    ],
    np.float32,
).reshape(8, 9)
"""The dictionary, (patterns, positions): 4 Ts and 4 squares, all of which hold the centre."""


@register("pattern")
class Pattern(Scheme):
    """Keeps 4 of the 9 positions of a 3x3 kernel in a fixed pattern, or none of them.

    Every (input, output) pair has its own kernel, which keeps at most one of the patterns
    of `PATTERNS`: the one with the largest norm. Whole kernels are removed beyond that, the
    same number of each output's, and each output keeps at least one. 1x1 kernels and dense
    layers only have whole kernels removed. Units are an array of shape (patterns, inputs,
    outputs), with 8 patterns for 3x3 kernels and 1 for 1x1.

    A 3x3 kernel can thus be no denser than 4/9: `validate` refuses a larger target; `count`,
    which is asked for more between updates of a growing mask, gives the maximum.

    Source: MEST (Yuan et al., NeurIPS 2021, arXiv 2110.14032), pattern-based sparsity, after
    PatDNN (Niu et al., ASPLOS 2020, arXiv 2001.00138), from which kernels of 4 entries that
    hold the centre come.

    Example:

    >>> kernel = np.array([[9, 9, 0], [9, 9, 0], [0, 0, 1]], float).reshape(9, 1, 1)
    >>> scheme = Pattern()
    >>> rng = np.random.default_rng(0)
    >>> units = scheme.select(scheme.scores(kernel), count=1, shape=kernel.shape, rng=rng)
    >>> scheme.expand(units, kernel.shape).reshape(3, 3).astype(int)
    array([[1, 1, 0],
           [1, 1, 0],
           [0, 0, 0]])
    """

    def validate(self, layout: KernelLayout, path: str, density: float) -> None:
        positions, inputs, _ = layout.canonical_shape
        if positions > 1 and layout.spatial_shape != (3, 3):
            raise DoesNotFit(
                self,
                path,
                rule="3x3 or 1x1 kernels",
                received="x".join(map(str, layout.spatial_shape)) + " positions",
                remedy="Use another scheme",
            )
        if positions == 1 and inputs == 1:
            raise DoesNotFit(
                self,
                path,
                rule="at least 2 inputs where kernels are 1x1",
                received="1 input",
                remedy="Use another scheme",
            )
        if positions > 1 and density > 4 / 9 + 1e-6:
            raise DoesNotFit(
                self,
                path,
                rule="a sparsity of at least 5/9 (0.556) for 3x3 kernels",
                received=f"sparsity {1 - density:.4g}",
                remedy="Raise `sparsity`, use another scheme",
            )

    def scores(self, elements: np.ndarray) -> np.ndarray:
        return root(np.tensordot(_patterns(len(elements)), squares(elements), axes=1))

    def reduce(self, mask: np.ndarray) -> np.ndarray:
        patterns = _patterns(len(mask))
        kept = np.tensordot(patterns, mask.astype(np.float32), axes=1)
        return kept == patterns.sum(axis=1)[:, None, None]

    def expand(self, units: np.ndarray, shape: Shape) -> np.ndarray:
        return np.tensordot(_patterns(shape[0]).T, units.astype(np.float32), axes=1) > 0

    def units(self, layout: KernelLayout) -> int:
        _, inputs, outputs = layout.canonical_shape
        return inputs * outputs

    def count(self, layout: KernelLayout, density: float) -> int:
        """Returns the kernels that make up `density`: as many for each output, at least one."""
        positions, inputs, outputs = layout.canonical_shape
        kept = _patterns(positions)[0].sum()
        return outputs * min(inputs, max(1, round(density * inputs * positions / kept)))

    def select(
        self, unit_scores: np.ndarray, count: int, shape: Shape, rng: np.random.Generator
    ) -> np.ndarray:
        """Returns the best pattern of each of the `count` best kernels, shared among outputs."""
        kernels = top_within(unit_scores.max(axis=0), count, least=1, axis=0, rng=rng)
        # Of a dense mask, a kernel that is kept holds them all: one is enough.
        finite = np.minimum(unit_scores, np.finfo(np.float32).max)
        return top_along(finite, 1, axis=0, rng=rng) & kernels


def _patterns(positions: int) -> np.ndarray:
    """Returns the dictionary for kernels of so many positions: (patterns, positions)."""
    return np.ones((1, 1), np.float32) if positions == 1 else PATTERNS
