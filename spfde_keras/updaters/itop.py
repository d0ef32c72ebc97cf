"""In-time over-parameterization: few updates that explore much."""

from spfde_keras import checks, schedules
from spfde_keras.updaters.base import register
from spfde_keras.updaters.set import SET


@register("itop")
class ITOP(SET):
    """Drops the smallest weights and grows as many at random: half of them at first, to the end.

    Its updates are to be rare, so that what has grown is trained before it is judged: give the
    callback a long `interval`. Which share of all positions was ever active, the exploration
    rate, is what `Analyses` records as `explored`.

    Args:
        fraction: float or `Schedule`; by default a cosine from 0.5 to 0 at `stop`.
        stop: float in (0, 1], fraction of training after which masks rest.

    Raises:
        ValueError: if `fraction` or `stop` is out of range.

    Example:

    >>> ITOP().densities(0.0, 0.5)
    (0.25, 0.5)

    Source: Liu et al., "Do We Actually Need Dense Over-Parameterization?", ICML 2021, section 3,
    and its public code: SET-ITOP.
    """

    def __init__(self, fraction: schedules.ScheduleLike | None = None, stop: float = 1.0):
        stop = checks.number("stop", stop, above=0, most=1)
        default = schedules.Cosine(0.5, end=stop)
        super().__init__(default if fraction is None else fraction, stop)
