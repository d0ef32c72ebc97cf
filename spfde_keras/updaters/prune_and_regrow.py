"""Prune and regrow: falling density, and exchange by gradient at the same time."""

import numpy as np

from spfde_keras import checks, schedules
from spfde_keras.updaters.base import register
from spfde_keras.updaters.rigl import RigL


@register("prune_and_regrow")
class PruneAndRegrow(RigL):
    """Falls from a higher density to the final one while exchanging weights.

    At an update the smallest weights are dropped, `fraction` more of them than the falling
    density asks for; as many grow back where the dense gradient is largest.

    Args:
        initial_density: float in (0, 1], the density training starts with; kernels whose final
            density is larger start with that.
        fraction: float or `Schedule` over training, the share of kept weights exchanged; by
            default a cosine from 0.5 to 0.005.
        end: float in (0, 1], fraction of training at which the final density is reached; by
            default 110/160. It falls on a cubic curve.
        stop: float in (0, 1], fraction of training after which masks rest.

    Raises:
        ValueError: if an argument is out of range.

    Example:

    >>> updater = PruneAndRegrow(initial_density=0.5)
    >>> updater.densities(0.0, 0.1), round(updater.densities(0.9, 0.1)[1], 3)
    ((0.25, 0.5), 0.1)

    Source: AST (Yang et al., NeurIPS 2022), section 4.1; Liu et al., "Sparse training via
    boosting pruning plasticity with neuroregeneration", NeurIPS 2021.
    """

    def __init__(
        self,
        initial_density: float = 0.5,
        fraction: schedules.ScheduleLike | None = None,
        end: float = 110 / 160,
        stop: float = 1.0,
    ):
        super().__init__(schedules.Cosine(0.5, 0.005) if fraction is None else fraction, stop)
        self.initial_density = checks.number("initial_density", initial_density, above=0, most=1)
        self.end = checks.number("end", end, above=0, most=1)
        if self.stop < self.end:
            checks.refuse("stop", f"at least `end`, {self.end:g}", stop)

    def densities(self, t: float, density: float) -> tuple[float, float]:
        ramp = schedules.Cubic(max(self.initial_density, density), density, end=self.end)
        return ramp(t) * (1 - self.fraction(t)), ramp(t)

    def grow_scores(
        self, kernel: np.ndarray, gradient: np.ndarray | None, rng: np.random.Generator
    ) -> np.ndarray:
        if gradient is None:  # at the start, before there is any
            return rng.random(kernel.shape, np.float32)
        return super().grow_scores(kernel, gradient, rng)

    def get_config(self) -> dict:
        return super().get_config() | {
            "initial_density": self.initial_density,
            "end": self.end,
        }
