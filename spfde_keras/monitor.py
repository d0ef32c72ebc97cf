"""What a boundary needs to know about an epoch."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from spfde_keras import compat
from spfde_keras.batches import batch_size
from spfde_keras.finite import Guard
from spfde_keras.last_batch import LastBatch
from spfde_keras.open_sizes import OpenSizes
from spfde_keras.replicas import Replicas
from spfde_keras.sieve.identified import strip_ids
from spfde_keras.state import SavedState


@keras.saving.register_keras_serializable("spfde_keras")
class Monitor(SavedState):
    """Counts the samples of an epoch, and keeps its last full batch and the totals of a run.

    Args:
        keep_batch: bool, whether the last full batch is kept for gradients at a boundary.
        open_sizes: None, or the `OpenSizes` of the model, which are then measured.
    """

    last_batch: LastBatch | None
    guard: Guard
    callback: Any = None
    """That whose training this is."""

    def __init__(
        self, keep_batch: bool = False, open_sizes: OpenSizes | None = None, **kwargs: Any
    ):
        super().__init__(name="monitor", **kwargs)
        self.samples = self.variable("samples", (), "int64")
        self.completed = self.variable("completed_epochs", (), "int64")
        self.totals = self.variable("totals", (2,), "float64")
        self._open_sizes = open_sizes if open_sizes and open_sizes.axes else None
        if self._open_sizes is not None:
            # Of all samples of the epoch, along each open axis.
            self.sizes = self.variable("sizes", (len(self._open_sizes.axes),), "float64")
        # In a dictionary's items Keras would look for layers and variables of its own.
        compat.set_untracked(self, last_batch=None, guard=Guard())
        if keep_batch:
            self.keep_batch()

    def keep_batch(self) -> None:
        """Keeps the last full batch from now on; to be called before a step is traced."""
        if self.last_batch is None:
            compat.set_untracked(self, last_batch=LastBatch())

    def observe(self, data: Any) -> None:
        """Counts and keeps one batch; called while the train step is traced."""
        samples = batch_size(data)
        self.samples.assign_add(samples)
        if self._open_sizes is not None:
            x, *_ = keras.utils.unpack_x_y_sample_weight(data)
            sizes = self._open_sizes.measure(strip_ids(x))
            self.sizes.assign_add(tf.cast(samples, tf.float64) * sizes)
        if self.last_batch is not None:
            self.last_batch.assign(data)

    def start_epoch(self) -> None:
        """Counts from the beginning."""
        self.samples.assign(0)
        if self.last_batch is not None:
            self.last_batch.start_epoch()
        if self._open_sizes is not None:
            self.sizes.assign(np.zeros(self.sizes.shape))

    def total(self, replicas: Replicas) -> int:
        """Returns the number of this epoch's samples, over all replicas."""
        return int(replicas.summed(self.samples.numpy()))

    def mean_sizes(self, replicas: Replicas) -> tuple[float, ...]:
        """Returns the mean size of this epoch's samples along each open axis; () without any."""
        samples = 0 if self._open_sizes is None else self.total(replicas)
        return tuple((replicas.summed(self.sizes.numpy()) / samples).tolist()) if samples else ()
