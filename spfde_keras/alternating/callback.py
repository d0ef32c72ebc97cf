"""AST as a Keras callback."""

import keras
import numpy as np

from spfde_keras import checks
from spfde_keras.alternating.alternation import Alternation
from spfde_keras.freezing.plan import Freezing
from spfde_keras.sieve.data_sieve import DataSieve
from spfde_keras.sparse_training import SparseTraining
from spfde_keras.updaters.base import UpdaterLike


class AlternatingSparseTraining(SparseTraining):
    """Trains the sub-nets of a `SparseModel` in turn, one a step: K nets for the cost of one.

    All sub-nets share one set of weights and differ in their masks and batch normalizations.
    Every `interval` epochs the masks of each sub-net are updated, at instants spread evenly
    over the interval, so that never two of them change at once.

    Freezing and sieving work as in `SpFDE`; a sample's forgetting is counted over its visits,
    whichever sub-net they train. With one sub-net this is ordinary sparse training.

    Keras' logs gain `sparsity` and `target_sparsity` (the means of the sub-nets),
    `gradient_corrections` (how often a kernel's gradient was corrected in the epoch), and the
    others of `SpFDE`. Validation in `fit` sees the active sub-net.

    `Resume` makes a killed run go on exactly where it was.

    Args:
        epochs: int, the length of training, as given to `fit`; None takes what `fit` is given.
        updater: an `Updater`, or its name; by default "prune_and_regrow".
        interval: int, epochs between two updates of a sub-net, and of the data; None for one that
            follows the length of training, as in `SpFDE`.
        gradient_correction: bool, whether a sub-net's gradients are corrected against those of
            the sub-net before it.
        freeze: None, the share of training FLOPs that freezing is to save, or a `Freezing`.
        sieve: None, or the `DataSieve` whose batches are given to `fit`.
        log_dir: None, or a folder for TensorBoard.
        seed: int, seed of random growth and data exchange.
        data_stop: None, or float in [0, 1], fraction of training after which samples are no
            longer exchanged. None: when masks rest, as in the paper.
        update_steps: None, or int, steps between two updates of a sub-net within an interval, as
            the paper counts them (999 and 4000 there).

    Raises:
        ValueError: on arguments out of range, or, when `fit` starts, on a model not made by
            `sparsify`, a dataset of unknown length, or a freeze target out of reach.

    Example:

    >>> mlp = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16),
    ...                         keras.layers.Dense(16), keras.layers.Dense(2)])
    >>> model = sparsify(mlp, sparsity=[0.5, 0.75])
    >>> model.compile("sgd", "mse")
    >>> history = model.fit(np.zeros((4, 8)), np.zeros((4, 2)), epochs=2, verbose=0,
    ...     batch_size=1, callbacks=[AlternatingSparseTraining(epochs=2, interval=1)])
    >>> [subnet.density for subnet in find_masks(model)[0].subnets]
    [0.5, 0.25]

    Source: AST (Yang et al., NeurIPS 2022), Algorithm 1.
    """

    def __init__(
        self,
        epochs: int | None = None,
        updater: UpdaterLike = "prune_and_regrow",
        interval: int | None = 3,
        gradient_correction: bool = True,
        freeze: float | bool | Freezing | None = None,
        sieve: DataSieve | None = None,
        log_dir: str | None = None,
        seed: int = 0,
        data_stop: float | None = None,
        update_steps: int | None = None,
    ):
        super().__init__(
            epochs, updater, interval, freeze, sieve, log_dir, seed, data_stop, update_steps
        )
        self.gradient_correction = checks.switch("gradient_correction", gradient_correction)

    def _check(self, model: keras.Model) -> None:
        super()._check(model)
        if not model.subnets:
            raise ValueError(
                f"The {type(self).__name__} callback needs a model with masks, made by "
                "`spfde_keras.sparsify`. Received: one without"
            )

    def _alternation(self) -> Alternation:
        return Alternation(self.model, self.gradient_correction)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        super().on_epoch_begin(epoch, logs)
        self._corrections = self._count_corrections()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if logs is not None:
            logs["gradient_corrections"] = self._count_corrections() - self._corrections
        super().on_epoch_end(epoch, logs)

    def _count_corrections(self) -> int:
        return int(np.asarray(self.model.alternation.corrections))
