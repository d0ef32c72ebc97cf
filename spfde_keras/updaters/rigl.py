"""RigL: growth where the dense gradient is largest."""

import numpy as np

from spfde_keras import checks, schedules
from spfde_keras.updaters.base import register
from spfde_keras.updaters.set import SET


@register("rigl")
class RigL(SET):
    """Drops the smallest weights and grows where the dense gradient is largest.

    The dense gradient is that of the epoch's last full batch, taken at updates only.

    Args:
        fraction: float or `Schedule`; by default a cosine from 0.3 to 0 at `stop`.
        stop: float in (0, 1], fraction of training after which masks rest.

    Raises:
        ValueError: if `fraction` or `stop` is out of range.

    Example:

    >>> RigL().densities(0.0, 0.5)
    (0.35, 0.5)

    Source: Evci et al., "Rigging the Lottery", ICML 2020.
    """

    gradient = "dense"

    def __init__(self, fraction: schedules.ScheduleLike | None = None, stop: float = 0.75):
        stop = checks.number("stop", stop, above=0, most=1)
        default = schedules.Cosine(0.3, end=stop)
        super().__init__(default if fraction is None else fraction, stop)

    def grow_scores(
        self, kernel: np.ndarray, gradient: np.ndarray | None, rng: np.random.Generator
    ) -> np.ndarray:
        assert gradient is not None  # `self.gradient` asks for it
        return np.abs(gradient)
