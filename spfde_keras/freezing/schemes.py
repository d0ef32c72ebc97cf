"""Freezing schemes: how many front blocks are frozen in each epoch, from some epoch on."""

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Horizon:
    """What a freezing scheme must know: how long, how often, and how far to the back.

    Attributes:
        epochs: int, length of training.
        interval: int, epochs between mask updates; freezing only changes at its multiples.
        half: int, number of front blocks that hold half of the share that may be frozen.
        limit: int, number of front blocks that may be frozen.
    """

    epochs: int
    interval: int
    half: int
    limit: int

    @property
    def starts(self) -> range:
        """The epochs in which freezing can begin."""
        return range(self.interval, self.epochs, self.interval)

    def intervals_since(self, start: int) -> np.ndarray:
        """Returns for each epoch how many whole intervals `start` is ago; negative before it."""
        return (np.arange(self.epochs) - start) // self.interval


class SingleShot:
    """From `start` on one block more is frozen every interval, for good.

    Source: SpFDE, section 3.2 and Algorithm 1.
    """

    def starts(self, horizon: Horizon) -> Sequence[int]:
        """Returns the values of `start` to choose from, in rising order."""
        return horizon.starts

    def frozen(self, horizon: Horizon, start: int) -> np.ndarray:
        """Returns the number of frozen front blocks in each epoch, an int array (epochs,)."""
        return np.clip(horizon.intervals_since(start) + 1, 0, horizon.limit)


class SingleShotResume(SingleShot):
    """As `SingleShot`, but all blocks are thawed for the last t epochs.

    The same reduction then needs each freezing about t epochs earlier. t is a tenth of the epochs,
    rounded to whole intervals and at least one.

    Source: SpFDE, appendix (freezing schemes).
    """

    def starts(self, horizon: Horizon) -> Sequence[int]:
        return range(horizon.interval, self._thaw(horizon), horizon.interval)

    def frozen(self, horizon: Horizon, start: int) -> np.ndarray:
        frozen = super().frozen(horizon, start)
        frozen[self._thaw(horizon) :] = 0
        return frozen

    def _thaw(self, horizon: Horizon) -> int:
        """The epoch from which everything trains again."""
        intervals = max(1, round(horizon.epochs / 10 / horizon.interval))
        return horizon.interval * (horizon.epochs // horizon.interval - intervals)


class DelayedPeriodic:
    """All blocks train until `start`; then the front ones train one interval in 4 or 2.

    The front half of the freezable blocks trains in every fourth interval, the other half in
    every second one, the rest always. The periods are powers of two, so that what is in front
    of a frozen block is frozen too.

    Source: SpFDE, appendix (freezing schemes).
    """

    def starts(self, horizon: Horizon) -> Sequence[int]:
        return horizon.starts

    def frozen(self, horizon: Horizon, start: int) -> np.ndarray:
        since = horizon.intervals_since(start) + 1
        turns = np.select([since % 4 == 0, since % 2 == 0], [0, horizon.half], horizon.limit)
        return np.where(since > 0, turns, 0)


class Periodic(DelayedPeriodic):
    """`DelayedPeriodic` from the first interval on, in which all blocks train.

    Source: SpFDE, appendix (freezing schemes).
    """

    def starts(self, horizon: Horizon) -> Sequence[int]:
        return horizon.starts[:1]


_SCHEMES = {
    "single_shot": SingleShot(),
    "single_shot_resume": SingleShotResume(),
    "periodic": Periodic(),
    "delayed_periodic": DelayedPeriodic(),
}
