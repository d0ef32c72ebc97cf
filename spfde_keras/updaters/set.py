"""Sparse evolutionary training."""

import keras

from spfde_keras import checks, schedules
from spfde_keras.updaters.base import Updater, register


@register("set")
class SET(Updater):
    """Drops the smallest weights and grows as many at random.

    Args:
        fraction: float or `Schedule` over training, the share of kept weights exchanged.
        stop: float in (0, 1], fraction of training after which masks rest.

    Raises:
        ValueError: if `fraction` or `stop` is out of range.

    Example:

    >>> SET(fraction=0.5).densities(0.0, 0.1)
    (0.05, 0.1)

    Source: Mocanu et al., Nature Communications 2018.
    """

    def __init__(self, fraction: schedules.ScheduleLike = 0.3, stop: float = 0.75):
        self.fraction = schedules.share("fraction", fraction)
        self.stop = checks.number("stop", stop, above=0, most=1)

    def densities(self, t: float, density: float) -> tuple[float, float]:
        return density * (1 - self.fraction(t)), density

    def get_config(self) -> dict:
        fraction = keras.saving.serialize_keras_object(self.fraction)
        return {"fraction": fraction, "stop": self.stop}
