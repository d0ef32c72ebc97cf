"""At most N of M consecutive inputs are kept."""

import numpy as np

from spfde_keras import checks
from spfde_keras.layout import KernelLayout
from spfde_keras.schemes.base import (
    DoesNotFit,
    Shape,
    register,
    top_along,
    top_within,
)
from spfde_keras.schemes.unstructured import Unstructured


@register("n_m", pattern="([0-9]+):([0-9]+)")
class NM(Unstructured):
    """Keeps N of each M consecutive inputs of one output at one kernel position.

    Each weight is a unit; the rule is which of them may be kept together. The
    density is always N/M. A mask that holds more between updates spreads the surplus evenly
    over the groups.

    Args:
        n: int, weights kept in each group.
        m: int, weights in each group.

    Raises:
        ValueError: if they are not positive integers with n < m.

    Source: Zhou et al., "Learning N:M fine-grained structured sparse neural networks from
    scratch", ICLR 2021, arXiv 2102.04010; AST (Yang et al., NeurIPS 2022) trains with it.

    Example:

    >>> scores, rng = np.array([1.0, 4.0, 3.0, 2.0]).reshape(1, 4, 1), np.random.default_rng(0)
    >>> NM(2, 4).select(scores, count=2, shape=scores.shape, rng=rng).ravel().tolist()
    [False, True, True, False]
    """

    density: float
    """The share of weights kept, N/M."""

    def __init__(self, n: int, m: int):
        self.n = checks.whole("n", n)
        self.m = checks.whole("m", m)
        if self.n >= self.m:
            raise ValueError(f"`n` must be smaller than `m`. Received: {self.n}:{self.m}")
        self.density = self.n / self.m

    def validate(self, layout: KernelLayout, path: str, density: float) -> None:
        inputs = layout.canonical_shape[1]
        if inputs % self.m:
            raise DoesNotFit(
                self,
                path,
                rule=f"a multiple of {self.m} inputs",
                received=f"{inputs} input{'s' * (inputs > 1)}",
                remedy=f"Use an M that divides {inputs}, another scheme",
            )

    def select(
        self, unit_scores: np.ndarray, count: int, shape: Shape, rng: np.random.Generator
    ) -> np.ndarray:
        """Returns the `count` best weights, at most N (or the even share of `count`) a group."""
        positions, inputs, outputs = shape
        groups = unit_scores.reshape(positions, inputs // self.m, self.m, outputs)
        best = top_along(groups, self.n, axis=2, rng=rng)
        if np.count_nonzero(best) <= count:
            # Each group holds its N: what is dropped later must leave them.
            groups = np.where(best, np.inf, groups)
        return top_within(groups, count, least=self.n, axis=2, rng=rng).reshape(shape)

    def get_config(self) -> dict:
        return {"n": self.n, "m": self.m}
