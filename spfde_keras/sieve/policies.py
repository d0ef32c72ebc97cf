"""Sieve policies: which samples leave the training data, which come back, and when."""

import math

import numpy as np

from spfde_keras import checks
from spfde_keras.configurable import Configurable
from spfde_keras.registry import Registry
from spfde_keras.schedules import reached


class SievePolicy(Configurable):
    """Rule by which a `DataSieve` exchanges samples; subclasses define `start` and `exchange`.

    A policy sees one array, the queue of removed samples: everything not in it is trained on.
    Plans of a training ask it, too, with samples of no meaning: how many leave must not depend
    on which are easy.

    Attributes:
        fixed_size: bool, whether the number of removed samples stays the same from the start.
        restarts: bool, whether counting of forgetting restarts after each update.
        begin: float in [0, 1], fraction of training before which it exchanges nothing.
        rests_with_masks: bool, whether it exchanges nothing once masks rest, unless `data_stop`
            says until when it does.
    """

    fixed_size: bool
    restarts: bool
    begin: float = 0.0
    rests_with_masks: bool = True

    def start(self, removed: np.ndarray) -> np.ndarray:
        """Returns the queue when training starts.

        Args:
            removed: int64 array, ids drawn at random, as many as the policy removes.

        Returns:
            Int64 array of the shape of `removed`: ids, or -1 where no sample is removed yet.
        """
        raise NotImplementedError

    def exchange(
        self,
        queue: np.ndarray,
        easiest: np.ndarray,
        retrieved: int,
        t: float,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Returns the queue after an update.

        Args:
            queue: int64 array (removed,), removed ids, first in first, -1 for none.
            easiest: int64 array, all ids in training, the easiest first.
            retrieved: int, how many samples have come back so far.
            t: float in [0, 1], fraction of training done.
            rng: generator to draw from.

        Returns:
            Int64 array of the shape of `queue`.
        """
        raise NotImplementedError


def outside(queue: np.ndarray, total: int) -> np.ndarray:
    """Returns which of `total` samples a queue leaves in training, a bool array (total,)."""
    member = np.ones(total, bool)
    member[queue[queue >= 0]] = False
    return member


REGISTRY = Registry("policy", SievePolicy)
get, names, register = REGISTRY.get, REGISTRY.names, REGISTRY.register


@register("circular")
class Circular(SievePolicy):
    """Removed samples come back in turn, in exchange for the easiest ones in training.

    Training starts without a random share of the samples. At each update the easiest samples
    in training join the tail of the removed ones, and as many return from the head. Once all
    samples removed at the start have returned, the removed ones are shuffled after each update.
    So every sample is trained on, and the number of samples in training never changes.

    Args:
        exchange: float in (0, 1], the share of the removed samples that returns at an update
            (rounded up). 1 exchanges them all, in the paper's words: of N samples p % are
            removed, and at each update p % of N join the tail and as many leave from the head.
            Which were removed first then does not matter; it does with less than 1, when a
            sample stays out for about 1 / `exchange` updates.

    Raises:
        ValueError: if `exchange` is out of range.

    Example:

    >>> rng = np.random.default_rng(0)
    >>> Circular(exchange=0.5).exchange(np.array([5, 2]), np.array([0, 3, 1, 4]), 0, 0.5, rng)
    array([2, 0])

    Source: SpFDE (Yuan et al., NeurIPS 2022), section 3.3, "circular data sieving".
    """

    fixed_size = True
    restarts = True

    def __init__(self, exchange: float = 1.0):
        self.share = checks.number("exchange", exchange, above=0, most=1)

    def start(self, removed: np.ndarray) -> np.ndarray:
        return removed

    def exchange(
        self,
        queue: np.ndarray,
        easiest: np.ndarray,
        retrieved: int,
        t: float,
        rng: np.random.Generator,
    ) -> np.ndarray:
        count = min(math.ceil(self.share * queue.size), easiest.size)
        queue = np.concatenate([queue, self._first_to_leave(easiest, rng)[:count]])[count:]
        return rng.permutation(queue) if retrieved + count >= queue.size else queue

    def _first_to_leave(self, easiest: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """All ids in training, in the order in which they would leave."""
        return easiest

    def get_config(self) -> dict:
        return {"exchange": self.share}


@register("random")
class Random(Circular):
    """Samples leave at random, and come back as those of "circular" do: the control of a ranking.

    Args:
        exchange: float in (0, 1], as of `Circular`.

    Example:

    >>> rng = np.random.default_rng(0)
    >>> Random().exchange(np.array([5, 2]), np.array([0, 3, 1, 4]), 0, 0.5, rng)
    array([0, 1])
    """

    restarts = False  # nothing is ranked

    def _first_to_leave(self, easiest: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return rng.permutation(easiest)


@register("one_time")
class OneTime(SievePolicy):
    """The easiest samples leave once, for good, after all have been trained on for a while.

    Forgetting is counted from the first epoch on.

    Args:
        at: float in [0, 1], fraction of training from which the next update removes them,
            whether masks still change then or rest.

    Raises:
        ValueError: if `at` is out of range.

    Example:

    >>> OneTime(at=0.5).exchange(np.array([-1, -1]), np.array([3, 0, 1, 2]), 0, 0.5, None)
    array([3, 0])

    Source: MEST (Yuan et al., NeurIPS 2021), section 3.4, "data efficiency": 12 000 of 50 000
    samples at epoch 70 of 160.
    """

    fixed_size = False
    restarts = False
    rests_with_masks = False

    def __init__(self, at: float = 70 / 160):
        self.at = self.begin = checks.number("at", at, least=0, most=1)

    def start(self, removed: np.ndarray) -> np.ndarray:
        return np.full_like(removed, -1)

    def exchange(
        self,
        queue: np.ndarray,
        easiest: np.ndarray,
        retrieved: int,
        t: float,
        rng: np.random.Generator,
    ) -> np.ndarray:
        waiting = not reached(t, self.at) or (queue >= 0).all()
        return queue if waiting else easiest[: queue.size]

    def get_config(self) -> dict:
        return {"at": self.at}
