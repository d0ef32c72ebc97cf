"""When masks and data change and when they rest, and the instants of sub-nets."""

import dataclasses
from typing import TYPE_CHECKING

from spfde_keras import checks
from spfde_keras.schedules import reached

if TYPE_CHECKING:
    from spfde_keras.sieve.policies import SievePolicy

_INTERVALS = 32  # 160 epochs in intervals of 5, as in the paper


def usual_interval(epochs: int) -> int:
    """Returns the epochs between two boundaries of a run of that length.

    Example:

    >>> [usual_interval(epochs) for epochs in (6, 60, 160)]
    [1, 2, 5]

    Source: SpFDE (Yuan et al., NeurIPS 2022), section 4: 5 of 160 epochs.
    """
    return max(1, round(epochs / _INTERVALS))


@dataclasses.dataclass(frozen=True)
class Timeline:
    """The calendar of one training, asked by callbacks, freezing, AST and the cost plan.

    After every `interval` epochs, and at the end, there is a boundary. Times are counted in
    epochs done, `fraction` turns them into shares of training.

    Args:
        epochs: int >= 1, the length of training.
        interval: int >= 1, epochs between two boundaries.
        masks_stop: float in [0, 1], fraction of training after which masks rest. 0: they never
            change.
        data_stop: None, or float in [0, 1], fraction of training after which data rests. None:
            when masks rest, or, where these never change, or the sieve policy does not ask
            whether they do, at the end.
        update_steps: None, or int >= 1, steps between two updates of masks within an interval,
            counted from its start. None: masks change once an interval.

    Raises:
        ValueError: if an argument is out of range.

    Example:

    >>> timeline = Timeline(epochs=10, interval=2, masks_stop=0.5)
    >>> [done for done in range(1, 11) if timeline.masks_change(done)]
    [1, 2, 3, 4, 5, 6]
    >>> from spfde_keras.sieve.policies import Circular
    >>> [done for done in timeline.boundaries if timeline.data_changes(done, Circular())]
    [2, 4]

    Source: SpFDE (Yuan et al., NeurIPS 2022), section 3.3: sieving stops when masks rest.
    """

    epochs: int
    interval: int
    masks_stop: float = 1.0
    data_stop: float | None = None
    update_steps: int | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "interval"):
            object.__setattr__(self, name, checks.whole(name, getattr(self, name)))
        for name in ("masks_stop", "data_stop"):
            value = checks.optional(checks.number, name, getattr(self, name), least=0, most=1)
            object.__setattr__(self, name, value)
        checks.optional(checks.whole, "update_steps", self.update_steps)

    def fraction(self, done: float) -> float:
        """Returns how much of training is over after `done` epochs, from 0 to 1."""
        return done / self.epochs

    @property
    def boundaries(self) -> range:
        """The boundaries within training, as epochs done; its end is one more."""
        return range(self.interval, self.epochs, self.interval)

    def is_boundary(self, done: int) -> bool:
        """Returns whether masks, data and frozen blocks may change after `done` epochs."""
        return done % self.interval == 0 or done == self.epochs

    def interval_start(self, epoch: int) -> int:
        """Returns the first epoch of the interval that `epoch` is in."""
        return epoch // self.interval * self.interval

    def masks_change(self, done: int) -> bool:
        """Returns whether masks change at the boundary after `done` epochs.

        Masks come to rest at the first boundary that is not before `masks_stop`: there, they
        change once more.
        """
        return not self._at_rest(self.interval_start(done - 1))

    def masks_rest(self, subnets: int) -> int:
        """Returns the epochs done when no masks of any sub-net change any more; 0: they never do.

        Args:
            subnets: int, number of sub-nets.
        """
        changes = [done for done in (*self.boundaries, self.epochs) if self.masks_change(done)]
        # Those of other sub-nets change for the last time in the interval that follows.
        after = self.interval if changes and subnets > 1 else 0
        return min(max(changes, default=0) + after, self.epochs)

    def data_changes(self, done: int, policy: "SievePolicy") -> bool:
        """Returns whether a policy exchanges samples at the boundary after `done` epochs."""
        t = self.fraction(done)
        in_time = reached(t, policy.begin) and reached(self.data_rests(policy), t)
        return done < self.epochs and in_time

    def data_rests(self, policy: "SievePolicy") -> float:
        """Returns the fraction of training after which a policy exchanges no samples."""
        if self.data_stop is not None:
            return self.data_stop
        return (self.masks_stop if policy.rests_with_masks else 0.0) or 1.0

    @property
    def within(self) -> list[float]:
        """The middles of epochs in which masks change at some step, in epochs done."""
        if self.update_steps is None:
            return []
        return [e + 0.5 for e in range(self.epochs) if not self._at_rest(e)]

    def updates_within(self, epoch: int, steps: int) -> int:
        """Returns how often the masks of a sub-net change in an epoch, boundaries left out.

        Args:
            epoch: int, the epoch.
            steps: int, steps in an epoch.
        """
        if self.update_steps is None:
            return 0
        every, start = self.update_steps, (epoch - self.interval_start(epoch)) * steps
        instants = range(every - start % every, steps + 1, every)
        return sum(len(self.turns(epoch, at - 1, at, 1, steps)) for at in instants)

    def period(self, steps: int) -> int:
        """Returns the steps between two updates of a sub-net's masks.

        Args:
            steps: int, steps in an epoch.
        """
        return self.update_steps or self.interval * steps

    def instants(self, subnets: int, steps: int) -> list[int]:
        """Returns when in a period each sub-net's masks change, so that never two do at once.

        Args:
            subnets: int, number of sub-nets.
            steps: int, steps in an epoch.

        Returns:
            Steps since the start of the interval. The first sub-net has the boundary itself, 0.

        Source: AST (Yang et al., NeurIPS 2022), section 4.1: instants are offset.
        """
        spread = [round(subnet * self.period(steps) / subnets) for subnet in range(subnets)]
        return [0, *(max(1, instant) for instant in spread[1:])]

    def turns(self, epoch: int, after: int, until: int, subnets: int, steps: int) -> list[int]:
        """Returns the sub-nets whose masks change within an epoch, between two of its steps.

        Args:
            epoch: int, the epoch.
            after: int, steps of the epoch at which the question was last asked.
            until: int, steps of the epoch done now.
            subnets: int, number of sub-nets.
            steps: int, steps in an epoch.
        """
        now, period = epoch + until / steps, self.period(steps)
        # At the end all settle.
        if reached(self.fraction(now), 1.0):
            return []
        start = (epoch - self.interval_start(epoch)) * steps
        first, last = start + after, start + until
        # The first sub-net changes at boundaries, once more at that where masks come to rest; each
        # other one has its last update at the first of its instants from then on.
        rests = [now, *[now - period / steps] * (subnets - 1)]
        return [
            subnet
            for subnet, instant in enumerate(self.instants(subnets, steps))
            if (last - instant) // period > (first - instant) // period
            and not self._at_rest(rests[subnet])
            and (subnet or last < self.interval * steps)
        ]

    def _at_rest(self, last: float) -> bool:
        """Whether masks that changed after `last` epochs rest from then on."""
        return reached(self.fraction(last), self.masks_stop)
