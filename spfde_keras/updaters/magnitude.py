"""Gradual magnitude pruning."""

from spfde_keras import checks, schedules
from spfde_keras.updaters.base import Updater, register


@register("magnitude")
class Magnitude(Updater):
    """Starts dense and drops the smallest weights on a cubic ramp; nothing grows.

    The ramp of a kernel whose block freezes lies in the time until then, not in all of training.

    Args:
        begin: float, fraction of training, or of the time until a block freezes, at which pruning
            starts.
        stop: float, the same for the time at which the final density is reached.

    Raises:
        ValueError: if `begin` is not before `stop`, or `stop` out of range.

    Example:

    >>> Magnitude(stop=1.0).densities(0.5, 0.5)
    (0.5625, 0.5625)

    Source: Zhu & Gupta, "To prune, or not to prune", 2017.
    """

    initial = "dense"
    follows_block = True

    def __init__(self, begin: float = 0.0, stop: float = 0.75):
        self.stop = checks.number("stop", stop, above=0, most=1)
        self.begin = checks.number("begin", begin, least=0, below=self.stop)
        self._ramp = schedules.Cubic(1.0, 0.0, self.begin, self.stop)

    def densities(self, t: float, density: float) -> tuple[float, float]:
        kept = density + (1 - density) * self._ramp(t)
        return kept, kept

    def get_config(self) -> dict:
        return {"begin": self.begin, "stop": self.stop}
