"""Where a `DataSieve` finds the samples in training: in arrays, datasets, files of records."""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from spfde_keras.sieve.damage import first_failure, naming
from spfde_keras.sieve.inputs import Samples, as_dataset, as_tensors, carries_ids
from spfde_keras.sieve.sizes import MOST_IN_BLOCK, Sizes

# Files read at a time.
_FILES = 16


@dataclasses.dataclass(frozen=True)
class Order:
    """The order of one epoch, which depends on these numbers alone.

    Args:
        seed: int, of the sieve.
        iteration: scalar int64 tensor, number of the epoch.
        shuffle: bool, or int, the size of the shuffle buffer. True leaves it to the source.
    """

    seed: int
    iteration: tf.Tensor
    shuffle: bool | int

    def shuffled(self, values: tf.Tensor) -> tf.Tensor:
        """Returns all of a tensor's entries, shuffled."""
        seed = tf.stack([tf.constant(self.seed % 2**63, tf.int64), self.iteration])
        return tf.random.experimental.stateless_shuffle(values, seed)

    def buffered(self, dataset: tf.data.Dataset, usual: int) -> tf.data.Dataset:
        """Returns a dataset shuffled by a buffer, of `usual` samples by default."""
        size = usual if self.shuffle is True else int(self.shuffle)
        if not size:
            return dataset
        # The seed of this function's graph only, which TensorFlow combines with that of the
        # shuffle. It must not be 0: TensorFlow would test the other, a tensor, for 0.
        tf.random.set_seed(self.seed % (2**63 - 1) + 1)
        return dataset.shuffle(size, seed=self.iteration, reshuffle_each_iteration=False)


class Source:
    """Samples with stable ids, of which those in training are read."""

    total: int
    """Number of samples."""
    read: Callable[..., tuple] | None = None
    """What makes a sample of what `chosen` finds: reading, decoding."""

    def in_order(self) -> Any:
        """Returns all samples in the order of their ids: a dataset, or arrays.

        Where samples bring their ids, the order is that of the dataset.
        """
        raise NotImplementedError

    def chosen(self, member: tf.Tensor, order: Order) -> tf.data.Dataset:
        """Returns the samples in training, as (sample_id, sample); called in a graph.

        Args:
            member: bool tensor (total,), which samples are in training.
            order: the order of the epoch.
        """
        raise NotImplementedError

    def damaged(self) -> str | None:
        """Reads all that is in files; names the first that cannot be read, None if all can."""
        return None

    def naming_damage(self) -> contextlib.AbstractContextManager:
        """Returns a context in which errors of reading samples name the file."""
        return naming(self.damaged)

    def batched(
        self, member: tf.Tensor, order: Order, batch_size: int, drop_remainder: bool
    ) -> tf.data.Dataset:
        """Returns batches of what `chosen` returns."""
        return self.chosen(member, order).batch(batch_size, drop_remainder=drop_remainder)


class Arrays(Source):
    """Samples held in memory: their ids are shuffled, and only those in training are gathered.

    Args:
        tensors: nested tensors, samples first.
        read: None, or a function of one entry of each that returns a sample.
    """

    def __init__(self, tensors: Any, read: Callable[..., tuple] | None = None):
        self._tensors = tensors
        self.read = read
        self.total = int(tf.data.Dataset.from_tensor_slices(tensors).cardinality())

    def in_order(self) -> tuple:
        return self._tensors

    def chosen(self, member: tf.Tensor, order: Order) -> tf.data.Dataset:
        return self.batched(member, order, MOST_IN_BLOCK, False).unbatch()

    def batched(
        self, member: tf.Tensor, order: Order, batch_size: int, drop_remainder: bool
    ) -> tf.data.Dataset:
        kind = tf.int32 if self.total < tf.int32.max else tf.int64
        ids = tf.cast(tf.where(member)[:, 0], kind)
        if order.shuffle is True:
            ids = order.shuffled(ids)
        if isinstance(order.shuffle, bool):
            batches = _batches_of(ids, batch_size, drop_remainder)
        else:
            one_by_one = order.buffered(tf.data.Dataset.from_tensor_slices(ids), self.total)
            batches = one_by_one.batch(batch_size, drop_remainder)
        return batches.map(self._gather, tf.data.AUTOTUNE)

    def damaged(self) -> str | None:
        entries = tf.data.Dataset.from_tensor_slices(self._tensors)
        place = None if self.read is None else first_failure(entries, self.read)
        if place is None:
            return None
        entry = tf.nest.flatten(self._tensors)[0][place].numpy()
        name = f"{os.fsdecode(entry)}, " if isinstance(entry, bytes) else ""
        return f"{name}sample id {place}"

    def _gather(self, ids: tf.Tensor) -> tuple:
        picked = tf.nest.map_structure(
            lambda values: None if values is None else tf.gather(values, ids), self._tensors
        )
        return tf.cast(ids, tf.int64), picked


class InOrder(Source):
    """A dataset that is the same at each reading: a sample's position is its id.

    Args:
        dataset: samples, not batched.
    """

    def __init__(self, dataset: tf.data.Dataset):
        self._dataset = dataset
        self.total = int(dataset.cardinality())
        self._sizes = Sizes(dataset)

    def in_order(self) -> tf.data.Dataset:
        return self._dataset

    def chosen(self, member: tf.Tensor, order: Order) -> tf.data.Dataset:
        block = self._sizes.block
        if block > 1:

            def members(index: tf.Tensor, samples: Any) -> tuple:
                ids = index * block + tf.range(_length(samples))
                return _members(member, ids, samples)

            blocks = self._dataset.batch(block).enumerate()
            chosen = blocks.map(members).unbatch()
        else:
            # Samples first, so that their last is followed by what checks their number.
            members_in_order = tf.data.Dataset.from_tensor_slices(member)
            marked = tf.data.Dataset.zip(self._dataset.enumerate(), members_in_order)
            chosen = _marked(marked)
        return order.buffered(chosen, self._sizes.buffer)


class WithIds(Source):
    """A dataset in any order, whose samples bring their ids.

    Args:
        dataset: samples whose inputs are `Identified`, not batched.
        total: int, their number.
    """

    def __init__(self, dataset: tf.data.Dataset, total: int):
        self.total = total
        self._sizes = Sizes(dataset)
        self._numbered = dataset.map(
            lambda x, *rest: (tf.cast(x.sample_id, tf.int64), (x.inputs, *rest))
        )

    def in_order(self) -> tf.data.Dataset:
        return self._numbered.map(lambda _, sample: sample)

    def chosen(self, member: tf.Tensor, order: Order) -> tf.data.Dataset:
        if self._sizes.block > 1:
            blocks = self._checked(self._numbered.batch(self._sizes.block))
            chosen = blocks.map(lambda ids, sample: _members(member, ids, sample)).unbatch()
        else:
            marked = self._checked(self._numbered).map(
                lambda sample_id, sample: ((sample_id, sample), tf.gather(member, sample_id))
            )
            chosen = _marked(marked)
        return order.buffered(chosen, self._sizes.buffer)

    def _checked(self, numbered: tf.data.Dataset) -> tf.data.Dataset:
        """Fails where an id is out of range, comes again or, in the end, has not come."""
        # A last element, of which only its mark counts, tells when all have been read.
        marked = numbered.map(lambda *element: (element, False))
        end = numbered.take(1).map(lambda *element: (element, True))

        def look(seen: tf.Tensor, marked: tuple) -> tuple:
            element, is_end = marked
            ids = tf.reshape(element[0], [-1])
            seen = tf.cond(is_end, lambda: self._all(seen), lambda: self._with(seen, ids))
            return seen, (element, is_end)

        checked = marked.concatenate(end).scan(tf.zeros(self.total, tf.bool), look)
        return checked.filter(lambda _, is_end: ~is_end).map(lambda element, _: element)

    def _with(self, seen: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
        rule = f"Sample ids must be in [0, {self.total}), each once in an epoch."
        outside = (ids < 0) | (ids >= self.total)
        with tf.control_dependencies([_refuse(ids, outside, f"{rule} Received:")]):
            unique, _, counts = tf.unique_with_counts(ids)
        again = (counts > 1) | tf.gather(seen, unique)
        with tf.control_dependencies([_refuse(unique, again, f"{rule} Received again:")]):
            return tf.tensor_scatter_nd_update(seen, unique[:, None], tf.ones_like(unique, "bool"))

    def _all(self, seen: tf.Tensor) -> tf.Tensor:
        rule = f"All ids in [0, {self.total}) must come in an epoch. Missing:"
        with tf.control_dependencies([_refuse(tf.range(self.total), ~seen, rule)]):
            return tf.identity(seen)


@dataclasses.dataclass(frozen=True)
class Part:
    """A file of records, or a part of it.

    Args:
        path: str, the file.
        count: int, its records.
        skip: int, records at its start that are left out.
        whole: bool, whether nothing follows.
    """

    path: str
    count: int
    skip: int = 0
    whole: bool = True


class Records(Source):
    """Files of records (TFRecord), several read at a time; ids count through them all.

    Args:
        parts: `Part`s, in the order of ids.
        read: function of a record, a scalar string tensor, that returns a sample.
    """

    def __init__(self, parts: Sequence[Part], read: Callable[[Any], tuple]):
        self.total = sum(part.count for part in parts)
        self.read = read
        counts = np.array([part.count for part in parts], np.int64)
        takes = [part.count if not part.whole else -1 for part in parts]
        self._parts = tuple(
            map(
                tf.constant,
                (
                    [part.path for part in parts],
                    np.cumsum(counts) - counts,
                    counts,
                    np.array([part.skip for part in parts], np.int64),
                    np.array(takes, np.int64),
                ),
            )
        )
        self._all = tf.data.TFRecordDataset([part.path for part in parts if part.count])
        with self.naming_damage():
            self._sizes = Sizes(self._all)

    def in_order(self) -> tf.data.Dataset:
        return self._all.map(self.read)

    def damaged(self) -> str | None:
        paths, _, _, skips, takes = (part.numpy().tolist() for part in self._parts)
        for path, skip, take in zip(paths, skips, takes, strict=True):
            records = tf.data.TFRecordDataset(path).skip(skip).take(take)
            place = first_failure(records, self.read)
            if place is not None:
                return f"{os.fsdecode(path)}, record {skip + place} counted from 0"
        return None

    def chosen(self, member: tf.Tensor, order: Order) -> tf.data.Dataset:
        parts, at_a_time = self._parts, 1
        if order.shuffle is not False:
            at_a_time = min(_FILES, len(parts[0]))
            places = order.shuffled(tf.range(len(parts[0])))
            parts = tuple(tf.gather(part, places) for part in parts)

        def members(path: tf.Tensor, start: Any, count: Any, skip: Any, take: Any) -> Any:
            blocks = tf.data.TFRecordDataset(path).skip(skip).take(take).batch(self._sizes.block)
            end = tf.data.Dataset.from_tensors(tf.zeros(0, tf.string))

            def numbered(before: tf.Tensor, records: tf.Tensor) -> tuple:
                size = tf.size(records, tf.int64)
                now = before + size
                fits = tf.where(size > 0, now <= count, now == count)
                rule = ["A file must hold as many records as stated:", count, "in", path]
                found = tf.debugging.Assert(fits, [*rule, "Received:", now])
                with tf.control_dependencies([found]):
                    ids = start + tf.range(before, now)
                return now, _members(member, ids, (records,))

            return blocks.concatenate(end).scan(tf.zeros((), tf.int64), numbered)

        blocks = tf.data.Dataset.from_tensor_slices(parts).interleave(
            members, at_a_time, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )
        return order.buffered(blocks.unbatch(), self._sizes.buffer)


def as_source(samples: Samples, size: int | None = None) -> Source:
    """Returns where a sieve finds its samples, whatever they were given as.

    Args:
        samples, size: as of `DataSieve`.

    Raises:
        ValueError: as `as_dataset`.

    Example:

    >>> as_source((np.zeros((4, 2)), np.array([0, 1, 1, 0]))).total
    4
    """
    dataset = as_dataset(samples, size)
    leaves = tf.nest.flatten(dataset.element_spec)
    # Rows of sparse tensors cannot be gathered.
    dense = all(isinstance(leaf, (tf.TensorSpec, tf.NoneTensorSpec)) for leaf in leaves)
    if isinstance(samples, tuple) and dense:
        del dataset  # a copy of all
        return Arrays(as_tensors(samples))
    if not carries_ids(dataset):
        return InOrder(dataset)
    # As it was given: what checks its number only would not name the ids.
    given = samples if isinstance(samples, tf.data.Dataset) else dataset
    return WithIds(given, int(dataset.cardinality()))


def _length(samples: Any) -> tf.Tensor:
    return tf.shape(tf.nest.flatten(samples)[0], tf.int64)[0]


def _marked(marked: tf.data.Dataset) -> tf.data.Dataset:
    """Returns the first parts of a dataset's elements whose second is True."""
    # tf.data filters and picks components without calling a function for each element.
    return marked.filter(lambda _, member: member).map(lambda numbered, _: numbered)


def _members(member: tf.Tensor, ids: tf.Tensor, samples: Any) -> tuple:
    """Returns the ids that are members, and their samples."""
    places = tf.where(tf.gather(member, ids))[:, 0]
    return tf.nest.map_structure(lambda values: tf.gather(values, places), (ids, samples))


def _batches_of(ids: tf.Tensor, batch_size: int, drop_remainder: bool) -> tf.data.Dataset:
    """Returns batches of ids; many times faster than batching them one by one."""
    whole = tf.size(ids) // batch_size * batch_size
    batches = tf.data.Dataset.from_tensor_slices(tf.reshape(ids[:whole], (-1, batch_size)))
    if drop_remainder:
        return batches
    rest = tf.data.Dataset.from_tensors(ids[whole:]).filter(lambda ids: tf.size(ids) > 0)
    return batches.concatenate(rest)


def _refuse(ids: tf.Tensor, wrong: tf.Tensor, rule: str) -> tf.Operation:
    return tf.debugging.Assert(~tf.reduce_any(wrong), [rule, ids[wrong]], summarize=10)
