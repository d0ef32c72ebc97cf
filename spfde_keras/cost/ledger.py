"""What a run has spent on training so far."""

from spfde_keras import checks
from spfde_keras.cost.model import Densities, ModelCost


class Ledger:
    """Adds up what a run really spends on training, and what a dense run would have spent.

    Args:
        costs: the `ModelCost` of the model, whose masks' current densities count at each booking.
            Where the sizes of inputs are open, set `costs` to those at the sizes of what is booked.

    Example:

    >>> mlp = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4), keras.layers.Dense(2)])
    >>> ledger = Ledger(profile(mlp))
    >>> ledger.book_training(samples=8, frozen=0)
    >>> ledger.book_dense(samples=10)
    >>> ledger.share
    0.8
    """

    def __init__(self, costs: ModelCost):
        self.costs = checks.instance("costs", costs, ModelCost, "a ModelCost, as of `profile`")
        self.spent = 0.0
        self.dense = 0.0

    def book_training(self, samples: int, frozen: int) -> None:
        """Books training on `samples`, with `frozen` front blocks and the masks as they are."""
        self.spent += samples * self.costs.training(frozen=frozen)

    def book_dense(self, samples: int) -> None:
        """Books what dense training on `samples` would take."""
        self.dense += samples * self.costs.training({})

    def book_gradient(
        self, gradient: str, samples: int, frozen: int, densities: Densities | None = None
    ) -> None:
        """Books the extra pass of a mask update, "masked" or "dense", over one batch."""
        self.spent += samples * self.costs.update_gradient(gradient, densities, frozen)

    @property
    def share(self) -> float:
        """Training FLOPs so far as a share of dense training on all data; 0 at first.

        NaN where the costs depend on sizes that are not known.
        """
        if self.costs.unknown:
            return float("nan")
        return self.spent / self.dense if self.dense else 0.0
