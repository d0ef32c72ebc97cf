"""Trainings in which masks or samples never change although they should, or change blindly."""

import dataclasses
import warnings
from collections.abc import Sequence

from spfde_keras.masking import Subnet
from spfde_keras.schedules import reached
from spfde_keras.sieve.data_sieve import DataSieve
from spfde_keras.sieve.policies import SievePolicy
from spfde_keras.timeline import Timeline
from spfde_keras.updaters import Moment, Updater

_DENSITY = 0.5  # any: whether masks change does not depend on it
_VISITS = 3
"""Visits in an interval from which a sample can be forgotten more than once."""


def warn_of_standstill(
    timeline: Timeline, updater: Updater | None, sieve: DataSieve | None
) -> None:
    """Warns where masks, or the samples in training, never change before training ends.

    Args:
        timeline: of the training.
        updater: None if there are no masks.
        sieve: None if all samples are trained on.
    """
    if updater is not None and updater.stop > 0 and not _masks_change(timeline, updater):
        _warn("Masks", timeline, f"the updater's `stop`, {updater.stop:g}")
    if updater is not None and updater.phase is not None:
        _warn_of_long_intervals(timeline, type(updater).__name__, updater.phase)
    # With `data_stop=0` nothing is to be exchanged.
    exchanged = sieve is not None and sieve.queue.shape != (0,) and timeline.data_stop != 0
    if sieve is not None and exchanged and not _exchanges(timeline, sieve):
        _warn("The samples in training", timeline, _limits_of_data(timeline, sieve.policy))


def warn_of_few_units(timeline: Timeline, updater: Updater, subnets: Sequence[Subnet]) -> None:
    """Warns of kernels of so few units that no update changes their masks.

    Args:
        timeline: of the training.
        updater: how masks change.
        subnets: the masked kernels.
    """
    times = [timeline.fraction(done) for done in _updates(timeline)]
    if not updater.stop or not times or not _masks_change(timeline, updater):
        return  # which is meant, or told already
    still = [kernel for kernel in subnets if not _exchanged(updater, kernel, times)]
    if still:
        first = still[0]
        units = first.scheme.units(first.layout)
        warnings.warn(
            f"Masks of {len(still)} of {len(subnets)} kernels never change, such as that of "
            f"{first.kernel_path!r}: by scheme {first.scheme} it has {units} units, and an update "
            "exchanges less than one. Give the updater a larger share, or use finer units.",
            stacklevel=4,
        )


def _exchanged(updater: Updater, kernel: Subnet, times: Sequence[float]) -> bool:
    """Whether there is an update that changes how many units are kept, or which."""
    density = 1 - kernel.sparsity
    start = updater.plan(Moment.START, 0.0, density).density
    before = kernel.count(density if start is None else start)
    for t in times:
        plan = updater.plan(Moment.UPDATE, t, density)
        for share in (plan.drop_to, plan.grow_to):
            if share is not None and kernel.count(share) != before:
                return True
    return False


def _updates(timeline: Timeline) -> list[float]:
    """When masks change in training, in epochs done."""
    return [*filter(timeline.masks_change, timeline.boundaries), *timeline.within]


def _warn_of_long_intervals(timeline: Timeline, name: str, phase: float) -> None:
    every = timeline.fraction(timeline.interval)
    if timeline.update_steps is None and not reached(phase, every):
        warnings.warn(
            f"Updates of masks are {every:.2g} of training apart, and phases of {name} take "
            f"{phase:g}: some are passed over. Give it a longer `phase`, or training more epochs"
            + (", or a shorter `interval`." if timeline.interval > 1 else "."),
            stacklevel=4,
        )


def warn_of_few_visits(timeline: Timeline, sieve: DataSieve) -> None:
    """Warns where samples are ranked by too few visits, in a training with room for more.

    Args:
        timeline: of the training, with an interval that the user has chosen.
        sieve: the sieve.

    Source: Toneva et al., ICLR 2019, count forgetting events over all of training.
    """
    interval = timeline.interval
    longer = dataclasses.replace(timeline, interval=_VISITS)
    # With fewer updates than that there is no better choice.
    if not sieve.policy.restarts or interval >= _VISITS or _exchanges(longer, sieve) < _VISITS:
        return
    often = "once" if interval == 1 else "twice"
    if _exchanges(timeline, sieve):
        warnings.warn(
            f"Each sample is seen {often} between two updates, so that it is forgotten at most "
            "once, and the sieve ranks samples by one bit. `interval` should be at least "
            f"{_VISITS} with a sieve. Received: {interval}",
            stacklevel=3,
        )


def _limits_of_data(timeline: Timeline, policy: SievePolicy) -> str:
    """When samples may be exchanged, in words that follow "before"."""
    stop = timeline.data_rests(policy)
    if stop == 1:
        until = "the end"
    elif timeline.data_stop is None:
        until = f"the updater's `stop`, {stop:g}"
    else:
        until = f"`data_stop`, {stop:g}"
    return until + (f", from {policy.begin:g} of training on" if policy.begin else "")


def _warn(what: str, timeline: Timeline, stop: str) -> None:
    epochs, interval = timeline.epochs, timeline.interval
    length = f"{epochs} epoch{'s' * (epochs > 1)}"
    reason = (
        f"none of the updates, every {interval} of {length} (`interval`), comes before {stop}"
        if timeline.boundaries
        else f"{length} with interval {interval} leave no update before the end"
    )
    shorter = "; a shorter `interval` does" if interval > 1 else ""
    warnings.warn(f"{what} never change: {reason}{shorter}.", stacklevel=4)


def _masks_change(timeline: Timeline, updater: Updater) -> bool:
    at_first = updater.plan(Moment.START, 0.0, _DENSITY).density
    return any(
        plan.drop_to not in (None, at_first) or plan.grow_to not in (None, plan.drop_to)
        for plan in (
            updater.plan(Moment.UPDATE, timeline.fraction(done), _DENSITY)
            for done in _updates(timeline)
        )
    )


def _exchanges(timeline: Timeline, sieve: DataSieve) -> int:
    """How often samples are exchanged, or may be; never where none are set aside."""
    if sieve.queue.shape == (0,):
        return 0
    return sum(timeline.data_changes(done, sieve.policy) for done in timeline.boundaries)
