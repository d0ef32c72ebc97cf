"""Gradual magnitude pruning."""

import keras

from spfde_keras import schedules
from spfde_keras.updaters.base import Updater


@keras.saving.register_keras_serializable("spfde_keras")
class Magnitude(Updater):
    """Starts dense and drops the smallest weights on a cubic ramp; nothing grows.

    Args:
        begin: float, fraction of training at which pruning starts.
        stop: float, fraction of training at which the final density is reached.

    Raises:
        ValueError: if `begin` is not before `stop`.

    Example:

    >>> Magnitude(stop=1.0).densities(0.5, 0.2)
    (0.3, 0.3)

    Source: Zhu & Gupta, "To prune, or not to prune", 2017.
    """

    initial = "dense"

    def __init__(self, begin: float = 0.0, stop: float = 0.75):
        self.begin, self.stop = begin, stop
        self._ramp = schedules.Cubic(1.0, 0.0, begin, stop)

    def densities(self, t: float, density: float) -> tuple[float, float]:
        kept = density + (1 - density) * self._ramp(t)
        return kept, kept

    def get_config(self) -> dict:
        return {"begin": self.begin, "stop": self.stop}
