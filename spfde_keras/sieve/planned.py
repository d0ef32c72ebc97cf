"""How many samples are trained on in each epoch, before training starts."""

import numpy as np

from spfde_keras.sieve.data_sieve import DataSieve
from spfde_keras.sieve.policies import SievePolicy, outside
from spfde_keras.timeline import Timeline


def samples_in_training(
    policy: SievePolicy, total: int, removed: int, timeline: Timeline
) -> list[int]:
    """Returns how many samples a policy leaves in training in each epoch.

    Args:
        policy: the policy.
        total: int, all samples.
        removed: int, those that it removes.
        timeline: of the training.

    Returns:
        A list of ints, one for each epoch.

    Example:

    >>> from spfde_keras.sieve.policies import OneTime
    >>> samples_in_training(OneTime(at=0.5), 10, 2, Timeline(epochs=4, interval=1))
    [10, 10, 8, 8]
    """
    if policy.fixed_size or not removed:
        return [total - removed] * timeline.epochs
    rng = np.random.default_rng(0)
    queue, retrieved = policy.start(np.arange(removed)), 0
    member = outside(queue, total)
    found: list[int] = []
    for epoch in range(timeline.epochs):
        if epoch in timeline.boundaries and timeline.data_changes(epoch, policy):
            t = timeline.fraction(epoch)
            queue = policy.exchange(queue, np.flatnonzero(member), retrieved, t, rng)
            before, member = member, outside(queue, total)
            retrieved += int(np.count_nonzero(member & ~before))
        found.append(int(np.count_nonzero(member)))
    return found


def planned_samples(sieve: DataSieve, timeline: Timeline, most_steps: int | None) -> list[int]:
    """Returns how many samples of a sieve are trained on in each epoch.

    Args:
        sieve: the sieve, in whatever state it is.
        timeline: of the training.
        most_steps: None, or int, the most steps of an epoch.
    """
    counts = samples_in_training(sieve.policy, sieve.total, sieve.queue.shape[0], timeline)
    return [sieve.taken(count, most_steps) for count in counts]
