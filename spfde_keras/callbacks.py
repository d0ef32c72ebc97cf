"""SpFDE as a Keras callback."""

import keras

from spfde_keras.freezing.plan import Freezing
from spfde_keras.sieve.data_sieve import DataSieve
from spfde_keras.sparse_training import SparseTraining
from spfde_keras.updaters.base import UpdaterLike


class SpFDE(SparseTraining):
    """Trains a `SparseModel` sparse, freezes its blocks front to back and sieves its data.

    Each part can be left out: `updater="static"` keeps the masks, without `freeze` no block is
    frozen and the optimizer's learning rate stays the user's, without `sieve` all data is used.
    With `freeze`, each block's learning rate follows a cosine over its own active epochs, which
    multiplies the optimizer's rate or schedule; BatchNormalization of frozen blocks runs in
    inference mode.

    Keras' logs gain `sparsity` and `target_sparsity` (what it ends with; while a soft bound is
    open, training is denser), `model_sparsity` (of all weights), `frozen_blocks`,
    `active_samples` and `flops_share` (training FLOPs so far as a share of dense training on all
    data). A line says when blocks freeze, since the next step is traced anew.

    `Resume` makes a killed run go on exactly where it was.

    Args:
        epochs: int, the length of training, as given to `fit`; None takes what `fit` is given.
        updater: an `Updater`, or its name, one of `spfde_keras.updaters.names()`.
        interval: int, epochs between updates of masks and data; None for one that follows the
            length of training: 5 of 160 epochs, as in the paper. A sieve ranks samples by their
            visits in an interval: below 3 epochs there is little to rank by.
        freeze: None, the share of training FLOPs that freezing is to save, or a `Freezing`; True
            for a share of 0.2, or as much as a short run allows.
        sieve: None, or the `DataSieve` whose batches are given to `fit`.
        log_dir: None, or a folder for TensorBoard: the logs' scalars, and for each kernel
            the share of kept weights that the last update left in place.
        seed: int, seed of random growth and data exchange.
        data_stop: None, or float in [0, 1], fraction of training after which samples are no
            longer exchanged. None: when masks rest (the updater's `stop`), which is the paper's
            rule (section 3.3); where no mask ever changes, at the end.
        update_steps: None, or int, steps between two updates of masks within an interval, as
            RigL counts them (100 there); data and frozen blocks change at its ends alone.

    Raises:
        ValueError: on arguments out of range, or, when `fit` starts, on a model not made by
            `sparsify` or `wrap`, or a freeze target out of reach.

    Example:

    >>> mlp = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16),
    ...                         keras.layers.Dense(16), keras.layers.Dense(2)])
    >>> model = sparsify(mlp, sparsity=0.75)
    >>> model.compile("sgd", "mse")
    >>> history = model.fit(np.zeros((4, 8)), np.zeros((4, 2)), epochs=4, verbose=0,
    ...                     callbacks=[SpFDE(epochs=4, updater="set", interval=1)])
    >>> history.history["sparsity"][-1]
    0.75

    Source: SpFDE (Yuan et al., NeurIPS 2022), Algorithms 1 and 2.
    """

    def __init__(
        self,
        epochs: int | None = None,
        updater: UpdaterLike = "mest_ems",
        interval: int | None = None,
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

    def _check(self, model: keras.Model) -> None:
        super()._check(model)
        if len(model.subnets) > 1:
            raise ValueError(
                "The SpFDE callback trains one sub-net. Received: a model of "
                f"{len(model.subnets)}; use spfde_keras.AlternatingSparseTraining"
            )
