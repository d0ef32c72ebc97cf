"""Batches of any structure that Keras takes: nested, sparse or ragged."""

from typing import Any

import tensorflow as tf


def batch_size(batch: Any) -> tf.Tensor:
    """Returns the number of samples in a batch of any structure, an int64 scalar."""
    leaf = _first(batch)
    if isinstance(leaf, tf.SparseTensor):
        return leaf.dense_shape[0]
    if isinstance(leaf, tf.RaggedTensor):
        return tf.cast(leaf.nrows(), tf.int64)
    return tf.shape(leaf, out_type=tf.int64)[0]


def known_size(batch: Any) -> int | None:
    """Returns the number of samples in a batch, if its shape alone tells."""
    return _first(batch).shape[0]


def part(batch: Any, start: tf.Tensor, stop: tf.Tensor, size: int | None = None) -> Any:
    """Returns the samples from `start` up to `stop` of a batch, in its structure.

    Args:
        batch: the batch.
        start, stop: int64 scalars.
        size: None, or int, how many they are, if that is known before.

    Example:

    >>> x, y = part((tf.range(4), {"label": tf.range(4)}), 1, 3)
    >>> x.numpy().tolist(), y["label"].numpy().tolist()
    ([1, 2], [1, 2])
    """

    def of_leaf(leaf: Any) -> Any:
        if leaf is None:
            return None
        if isinstance(leaf, tf.SparseTensor):
            rest = leaf.dense_shape[1:]
            begin = tf.concat([[start], tf.zeros_like(rest)], 0)
            return tf.sparse.slice(leaf, begin, tf.concat([[stop - start], rest], 0))
        sliced = leaf[start:stop]
        if size is not None and isinstance(leaf, tf.Tensor):
            sliced.set_shape([size, *leaf.shape[1:]])
        return sliced

    return tf.nest.map_structure(of_leaf, batch)


def with_rows(batch: Any, count: tf.Tensor) -> Any:
    """Returns a batch with `count` more samples, of zeros or without values; ragged ones as is."""

    def of_leaf(leaf: Any) -> Any:
        if leaf is None or isinstance(leaf, tf.RaggedTensor):
            return leaf
        if isinstance(leaf, tf.SparseTensor):
            shape = leaf.dense_shape
            more = tf.concat([[shape[0] + tf.cast(count, shape.dtype)], shape[1:]], 0)
            return tf.SparseTensor(leaf.indices, leaf.values, more)
        rows = tf.zeros(tf.concat([[count], tf.shape(leaf)[1:]], 0), leaf.dtype)
        return tf.concat([leaf, rows], 0)

    return tf.nest.map_structure(of_leaf, batch)


def _first(batch: Any) -> Any:
    return next(leaf for leaf in tf.nest.flatten(batch) if leaf is not None)
