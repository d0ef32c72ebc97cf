"""Keras epochs that last as long as the samples of a `DataSieve`."""

import keras

from spfde_keras import checks, compat
from spfde_keras.replicas import ALONE
from spfde_keras.sieve.counts import WorkerCounts
from spfde_keras.sieve.data_sieve import DataSieve


class SieveEpochs(keras.callbacks.Callback):
    """Starts and ends each epoch of `fit` with the samples of a `DataSieve`.

    The number of an epoch decides its order of samples, so that a resumed training repeats an
    uninterrupted one. Where the policy changes the number of samples, the epoch ends when they
    are used up: Keras reads the number of steps only once, when `fit` starts, so such a dataset
    leaves it unknown. Without this callback Keras then warns in each epoch that the input ran
    out of data.

    `SpFDE` does this for its own sieve.

    Args:
        sieve: the `DataSieve` whose `batches` are given to `fit`.
        most_steps: None, or int, the most steps of an epoch, as `steps_per_epoch`.

    Example:

    >>> import numpy as np
    >>> from spfde_keras.sieve import without_ids
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> sieve = DataSieve((np.zeros((8, 2)), np.zeros(8)), policy="one_time")
    >>> batches = without_ids(sieve.batches(4))
    >>> history = model.fit(batches, verbose=0, callbacks=[SieveEpochs(sieve)])
    """

    def __init__(self, sieve: DataSieve, most_steps: int | None = None):
        super().__init__()
        self.sieve = checks.instance("sieve", sieve, DataSieve, "a DataSieve")
        self.most_steps = checks.optional(checks.whole, "most_steps", most_steps)
        self._last_start: int | None = None
        self._counts: WorkerCounts | None = None

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.sieve.start_epoch(epoch)
        replicas = getattr(self.model, "replicas", ALONE)
        self._counts = WorkerCounts(self.sieve, replicas)
        if not self.sieve.fixed_size or self.most_steps is not None:
            steps = self.sieve.epoch_steps_of(self.most_steps)
            self._last_start = steps - self.model.steps_per_execution

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        # Before the step, not after it: Keras calls the hook after a step late, or has to wait
        # for the step's results.
        last = self._last_start is not None and batch >= self._last_start
        if last:
            compat.end_epoch(self.model)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        compat.go_on_after_epoch(self.model)
        if self._counts is not None:
            self._counts.share()
