"""Freezing schemes: how many front blocks are frozen in each epoch, from some epoch on."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from spfde_keras.configurable import Configurable
from spfde_keras.registry import Registry
from spfde_keras.timeline import Timeline


@dataclasses.dataclass(frozen=True)
class Horizon:
    """What a freezing scheme must know: how long, how often, and how far to the back.

    Attributes:
        timeline: the `Timeline`; freezing only changes at its boundaries.
        half: int, number of front blocks that hold half of the share that may be frozen.
        limit: int, number of front blocks that may be frozen.
    """

    timeline: Timeline
    half: int
    limit: int

    def intervals_since(self, start: int) -> np.ndarray:
        """Returns for each epoch how many whole intervals `start` is ago; negative before it."""
        return (np.arange(self.timeline.epochs) - start) // self.timeline.interval


class FreezingScheme(Configurable):
    """Says how many front blocks are frozen in each epoch, if freezing begins at some epoch."""

    needs_reduction: bool = True
    """Whether a share of FLOPs to save must decide where freezing begins."""

    def starts(self, horizon: Horizon) -> Sequence[int]:
        """Returns the epochs to choose the beginning from, in rising order."""
        return horizon.timeline.boundaries

    def frozen(self, horizon: Horizon, start: int) -> np.ndarray:
        """Returns the number of frozen front blocks in each epoch, an int array (epochs,)."""
        raise NotImplementedError


REGISTRY = Registry("scheme", FreezingScheme)
get, names, register = REGISTRY.get, REGISTRY.names, REGISTRY.register


@register("single_shot")
class SingleShot(FreezingScheme):
    """From `start` on, one more block is frozen in every interval, for good.

    Source: SpFDE, section 3.2 and Algorithm 1.
    """

    def frozen(self, horizon: Horizon, start: int) -> np.ndarray:
        return np.clip(horizon.intervals_since(start) + 1, 0, horizon.limit)


@register("single_shot_resume")
class SingleShotResume(SingleShot):
    """As `SingleShot`, but all blocks are thawed for the last t epochs.

    The same reduction then needs each freezing about t epochs earlier. t is a tenth of the epochs,
    rounded to whole intervals and at least one.

    Source: SpFDE, appendix (freezing schemes).
    """

    def starts(self, horizon: Horizon) -> Sequence[int]:
        return [start for start in super().starts(horizon) if start < self._thaw(horizon)]

    def frozen(self, horizon: Horizon, start: int) -> np.ndarray:
        frozen = super().frozen(horizon, start)
        frozen[self._thaw(horizon) :] = 0
        return frozen

    def _thaw(self, horizon: Horizon) -> int:
        """The epoch from which everything trains again."""
        epochs, interval = horizon.timeline.epochs, horizon.timeline.interval
        return interval * (epochs // interval - max(1, round(epochs / 10 / interval)))


@register("delayed_periodic")
class DelayedPeriodic(FreezingScheme):
    """All blocks train until `start`; then the front ones train one interval in 4 or 2.

    The front half of the freezable blocks trains in every fourth interval, the other half in
    every second one, the rest always. The periods are powers of two, so that everything
    before a frozen block is frozen too.

    Source: SpFDE, appendix (freezing schemes).
    """

    def frozen(self, horizon: Horizon, start: int) -> np.ndarray:
        since = horizon.intervals_since(start) + 1
        turns = np.select([since % 4 == 0, since % 2 == 0], [0, horizon.half], horizon.limit)
        return np.where(since > 0, turns, 0)


@register("periodic")
class Periodic(DelayedPeriodic):
    """`DelayedPeriodic` from the first interval on, in which all blocks train.

    Source: SpFDE, appendix (freezing schemes).
    """

    needs_reduction = False

    def starts(self, horizon: Horizon) -> Sequence[int]:
        return horizon.timeline.boundaries[:1]
