"""What a training books, at the sizes that its batches had."""

import functools
import warnings
from collections.abc import Sequence

from spfde_keras import cost
from spfde_keras.freezing.blocks import Pattern
from spfde_keras.freezing.plan import Freezing
from spfde_keras.monitor import Monitor
from spfde_keras.open_sizes import OpenSizes
from spfde_keras.training import SparseModel


class Booking:
    """The ledger of a training, and what of an epoch is in it already.

    Args:
        model: the compiled model.
        freezing: None, or how it is frozen.
        passes: int, how many sub-nets a step trains.
    """

    def __init__(self, model: SparseModel, freezing: Freezing | None, passes: int):
        self._model, self._passes, self._booked = model, passes, 0
        patterns = freezing.blocks if freezing else None
        self.open_sizes = OpenSizes(model)
        self._costs_at = functools.lru_cache(functools.partial(self._profile, patterns))
        costs = cost.profile(model, patterns, freezing.input_shape if freezing else None)
        self.ledger = cost.Ledger(costs)
        if freezing and costs.unknown:
            warnings.warn(
                "Inputs of unknown size count as one position: freezing is planned by the weights "
                f"of layers such as {costs.unknown[0]!r}. To plan with a size: "
                "freeze=Freezing(reduction, input_shape=shape), the shape of one sample.",
                stacklevel=3,
            )

    def _profile(self, patterns: Sequence[Pattern] | None, sizes: tuple) -> cost.ModelCost:
        with self._model.as_set():  # what is frozen now will train, or has, and dense training all
            return cost.profile(self._model, patterns, sizes)

    def restore(self) -> None:
        """Goes on from what the model remembers of earlier epochs."""
        self.ledger.spent, self.ledger.dense = self._monitor.totals.numpy().tolist()

    def start_epoch(self) -> None:
        """Nothing of the epoch is booked yet."""
        self._booked = 0

    def book(self, frozen: int) -> None:
        """Books the samples trained on since the last call, with the masks as they are."""
        monitor, replicas, before = self._monitor, self._model.replicas, self._booked
        self._booked = monitor.total(replicas)
        self.ledger.costs = self._of_mean_size(monitor.mean_sizes(replicas))
        self.ledger.book_training((self._booked - before) * self._passes, frozen)

    @property
    def _monitor(self) -> Monitor:
        monitor = self._model.monitor
        assert monitor is not None
        return monitor

    def _of_mean_size(self, means: Sequence[float]) -> cost.ModelCost:
        """Of a sample of the mean size, in this epoch so far, where the model leaves it open."""
        # Not each model takes each size: those that halve images take multiples only.
        for step in (1, 2, 4, 8, 16, 32, 64) if means else ():
            try:
                return self._costs_at(tuple(self.open_sizes.of_mean(means, step)))
            except Exception:
                continue
        return self.ledger.costs
