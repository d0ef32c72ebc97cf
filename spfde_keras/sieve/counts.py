"""What several workers have counted, brought together."""

import numpy as np

from spfde_keras.replicas import Replicas
from spfde_keras.sieve.data_sieve import DataSieve


class WorkerCounts:
    """Adds up what each worker counts in an epoch, in which it sees a part of the samples.

    Args:
        sieve: the `DataSieve`, the same on all workers now.
        replicas: the `Replicas` of the strategy.

    Example:

    >>> sieve = DataSieve((np.zeros((4, 2)), np.arange(4) % 2))
    >>> counts = WorkerCounts(sieve, Replicas(tf.distribute.get_strategy()))
    >>> sieve.count(tf.constant([0]), tf.constant([True]))
    >>> counts.share()
    >>> sieve.learned.numpy().tolist()
    [True, False, False, False]
    """

    def __init__(self, sieve: DataSieve, replicas: Replicas):
        self._sieve = sieve
        self._replicas = replicas
        self._before = self._packed() if replicas.workers > 1 else None

    def share(self) -> None:
        """Gives each worker the counts of all."""
        if self._before is None:
            return
        # Nobody but the worker that saw a sample has changed anything about it.
        packed = self._before + self._replicas.summed(self._packed() - self._before)
        self._sieve.forgets.assign(packed >> 3)
        self._sieve.visited.assign((packed & 4) > 0)
        self._sieve.learned.assign((packed & 2) > 0)
        self._sieve.was_correct.assign((packed & 1) > 0)

    def _packed(self) -> np.ndarray:
        sieve = self._sieve
        flags = sieve.visited.numpy() * 4 + sieve.learned.numpy() * 2 + sieve.was_correct.numpy()
        return (sieve.forgets.numpy() << 3) + flags
