"""Training on several replicas, of one process or of several, under a `tf.distribute` strategy."""

import concurrent.futures
import dataclasses
import functools
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import keras
import numpy as np
import tensorflow as tf

from spfde_keras import compat
from spfde_keras.batches import batch_size, known_size, part, with_rows

Made = TypeVar("Made")


def outside_scopes(make: Callable[[], Made]) -> Made:
    """Returns what a function makes where no strategy is in scope: variables of this process."""
    if not tf.distribute.has_strategy():
        return make()
    # Scopes belong to a thread.
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(make).result()


@dataclasses.dataclass(frozen=True)
class Replicas:
    """The replicas of a `tf.distribute` strategy, and the processes they are spread over.

    Every process (worker) must call the methods that sum in the same order.

    Args:
        strategy: the strategy; that of a single replica, too.

    Example:

    >>> replicas = Replicas(tf.distribute.get_strategy())
    >>> replicas.count, replicas.workers, replicas.chief
    (1, 1, True)
    """

    strategy: tf.distribute.Strategy

    @property
    def count(self) -> int:
        """How many there are, over all workers."""
        return self.strategy.num_replicas_in_sync

    @property
    def here(self) -> int:
        """How many this process runs."""
        return len(self.strategy.extended.worker_devices) if self.count > 1 else 1

    @property
    def workers(self) -> int:
        """How many processes there are."""
        return self.count // self.here

    @property
    def worker(self) -> int:
        """The number of this process, the chief's is 0."""
        if self.workers == 1:
            return 0
        resolver = self.strategy.cluster_resolver
        chiefs = len(resolver.cluster_spec().as_dict().get("chief", []))
        return int(resolver.task_id) + (chiefs if resolver.task_type != "chief" else 0)

    @property
    def chief(self) -> bool:
        """Whether this process is the one that writes files."""
        return self.worker == 0

    def summed(self, values: np.ndarray) -> np.ndarray:
        """Returns the sum of an array over all workers, the same on each.

        Args:
            values: int or float array; of the same shape and dtype on all workers.
        """
        if self.workers == 1:
            return values
        return _adding(self.strategy)(tf.constant(values)).numpy()

    def sum(self, parts: Any) -> tf.Tensor:
        """Returns the sum over all replicas of what `strategy.run` returned."""
        return self.strategy.reduce("SUM", parts, axis=None)

    def average(self, variables: Sequence[keras.Variable]) -> None:
        """Gives all replicas the means of variables that each of them has changed on its own.

        Such are the moving statistics of batch normalization, which Keras leaves as they are.
        """
        if self.count == 1:
            return
        apart = [
            variable.value
            for variable in variables
            if isinstance(variable.value, tf.distribute.DistributedValues)
            if variable.value.dtype.is_floating
        ]
        for variable in apart:
            local = np.stack(self.strategy.experimental_local_results(variable))
            # Relative to one of them: what is equal everywhere stays exactly as it is.
            first = self.summed(local[0] if self.chief else np.zeros_like(local[0]))
            variable.assign(first + self.summed((local - first).sum(0)) / self.count)

    def check_same(self, read: Callable[[], Mapping[str, np.ndarray]]) -> None:
        """Raises RuntimeError unless the arrays that are read are the same on all workers.

        Args:
            read: function that returns arrays by name; not called where there is one worker.
        """
        arrays = {} if self.workers == 1 else read()
        if not arrays:
            return
        # 24 bits: the sums of their squares stay whole.
        sums = np.array([zlib.crc32(array.tobytes()) >> 8 for array in arrays.values()], "int64")
        total, squares = self.summed(np.stack([sums, sums**2]))
        # All workers must decide alike: equal numbers have no variance.
        for name, differs in zip(arrays, self.workers * squares != total**2, strict=True):
            if differs:
                raise RuntimeError(f"{name} must be the same on all {self.workers} workers.")

    def distributed(
        self,
        batches: tf.data.Dataset,
        whole: bool = False,
        own: bool = False,
        full: bool = False,
    ) -> Any:
        """Returns a dataset of batches, each of them spread evenly over the replicas.

        TensorFlow fills one replica after the other, which leaves some of an incomplete batch
        without samples.

        Args:
            batches: dataset of batches; the same on all workers.
            whole: bool, whether each worker gets whole batches, for its own replicas.
            own: bool, whether they are this worker's parts of batches already.
            full: bool, whether a batch without a sample for each replica is an error.
        """
        if not own:
            self._check_first(batches)
        first, count = (0, self.here) if whole or own else (self.worker * self.here, self.count)
        shares = range(first, first + self.here)
        return self.strategy.distribute_datasets_from_function(
            lambda context: batches.flat_map(
                lambda *batch: _shares(batch if len(batch) > 1 else batch[0], shares, count, full)
            ).prefetch(tf.data.AUTOTUNE)
        )

    def _check_first(self, batches: tf.data.Dataset) -> None:
        """Raises RuntimeError where workers, which take parts of batches, read others."""

        def read() -> dict[str, np.ndarray]:
            batch = next(iter(batches.take(1)), ())
            leaves = tf.nest.flatten(batch, expand_composites=True)
            arrays = [np.asarray(leaf) for leaf in leaves if leaf is not None]
            texts = [repr(array.tolist()) for array in arrays if array.dtype == object]
            contents = [array.tobytes() for array in arrays if array.dtype != object]
            whole = "".join(texts).encode() + b"".join(contents)
            advice = "shuffle with a seed, or call keras.utils.set_random_seed first"
            return {f"The first batch ({advice})": np.frombuffer(whole, "uint8")}

        self.check_same(read)


ALONE = Replicas(outside_scopes(tf.distribute.get_strategy))
"""The single replica of a model made in no scope."""


@functools.cache
def _adding(strategy: tf.distribute.Strategy) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function that adds what each worker gives it. Traced: eagerly, collectives are slow."""

    @tf.function(reduce_retracing=True)
    def add(values: tf.Tensor) -> tf.Tensor:
        parts = strategy.run(lambda: values if index_here() == 0 else tf.zeros_like(values))
        return strategy.reduce("SUM", parts, axis=None)

    return add


def index_here() -> int:
    """Returns, in a replica, its number among those of its process."""
    context = tf.distribute.get_replica_context()
    here = Replicas(context.strategy).here
    return 0 if here == 1 else int(tf.get_static_value(context.replica_id_in_sync_group)) % here


def distributed_loss(loss: tf.Tensor, batch: Any, training: bool) -> tf.Tensor:
    """Returns a replica's mean loss, with gradients that add up to those of the whole batch.

    Keras adds up the mean losses of all replicas, as if all had the same number of samples. The
    mean of none is 0.

    Args:
        loss: scalar, the mean over the replica's samples, divided by the number of replicas.
        batch: anything with an entry for each of the replica's samples.
        training: bool, whether gradients are taken.
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return loss
    samples = batch_size(batch)
    loss = tf.where(samples > 0, loss, tf.zeros_like(loss))
    return _weighted(loss, samples, context) if training else loss


def _weighted(
    loss: tf.Tensor, samples: tf.Tensor, context: tf.distribute.ReplicaContext
) -> tf.Tensor:
    count = context.num_replicas_in_sync
    total = context.all_reduce(tf.distribute.ReduceOp.SUM, samples)
    weight = tf.cast(samples * count / total, loss.dtype)  # in half precision counts overflow

    # The value of one, the gradient of the other; `tf.custom_gradient` would keep the graph.
    weighted = loss * weight
    return weighted + tf.stop_gradient(loss - weighted)


def never_empty(call: Callable[[Any], Any], inputs: Any) -> Any:
    """Returns `call(inputs)`, in a replica that may have no samples, which not all layers take.

    Such are evaluated or predicted where fewer samples than replicas are left.
    """
    samples = batch_size(inputs)
    outputs = call(with_rows(inputs, tf.cast(samples == 0, tf.int32)))
    return tf.nest.map_structure(lambda output: compat.first_rows(output, samples), outputs)


def in_common(parts: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Returns, in a replica, the sums of tensors, such as gradients, over all replicas."""
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1 or not parts:
        return list(parts)
    return list(context.all_reduce(tf.distribute.ReduceOp.SUM, list(parts)))


def too_small(count: int, choose: str, received: str) -> ValueError:
    """Returns the error of a batch that does not have a sample for each of `count` replicas."""
    return ValueError(f"{_rule(count)}{choose}. Received: {received}")


def of_too_small(error: Exception) -> ValueError | None:
    """Returns that error in one line, if it is what TensorFlow says at length; otherwise None."""
    found = re.search(r"\[(\d+)\] \[ devices get a batch of \] \[(\d+)\]", str(error))
    if found is None:
        return None
    return too_small(int(found[1]), "drop or enlarge the smaller ones", f"one of {found[2]}")


def _rule(count: int) -> str:
    return f"Each batch must have a sample for each of the {count} devices: "


def _shares(batch: Any, shares: Sequence[int], count: int, full: bool) -> tf.data.Dataset:
    """Those of `count` even parts of a batch that are in `shares`, as a dataset."""
    samples, known = batch_size(batch), known_size(batch)
    if full:
        # Before any layer gets none: not all take that.
        enough = tf.debugging.Assert(
            samples >= count, [tf.constant(count), " devices get a batch of ", samples]
        )
        with tf.control_dependencies([enough]):
            samples = tf.identity(samples)
    size = known // count if known is not None and known % count == 0 else None

    def share(index: tf.Tensor) -> Any:
        return part(batch, index * samples // count, (index + 1) * samples // count, size)

    return tf.data.Dataset.range(shares[0], shares[-1] + 1).map(share)
