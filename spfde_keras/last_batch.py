"""The last full batch of an epoch, kept for gradients at a boundary."""

from typing import Any

import tensorflow as tf

from spfde_keras.batches import batch_size
from spfde_keras.replicas import in_common, index_here, outside_scopes


class LastBatch:
    """Keeps the last full batch, of any structure that Keras takes: nested, sparse or ragged.

    A batch smaller than the one kept, as an epoch's last may be, does not replace it: of a
    single sample, batch normalization gives no gradients at all. Each replica of this process
    keeps its part, all of them of the same batch.

    Example:

    >>> kept = LastBatch()
    >>> kept.assign(({"a": tf.ones((2, 3))}, {"label": tf.constant([1, 0])}))
    >>> kept.assign(({"a": tf.ones((1, 3))}, {"label": tf.constant([0])}))
    >>> x, y = kept.read()
    >>> x["a"].shape, y["label"].numpy().tolist(), kept.samples
    (TensorShape([2, 3]), [1, 0], 2)
    """

    def __init__(self) -> None:
        self._structure: Any = None
        self._variables: dict[int, list[tf.Variable]] = {}
        self._samples: dict[int, tf.Variable] = {}

    def assign(self, batch: Any) -> None:
        """Keeps `batch`, unless a larger one is kept; may be called while a step is traced."""
        leaves = [leaf for leaf in tf.nest.flatten(batch) if leaf is not None]
        replica = index_here()
        if replica not in self._variables:
            self._structure = batch
            self._variables[replica] = outside_scopes(lambda: _variables(leaves))
            self._samples[replica] = outside_scopes(_counter)
        # Of the whole batch: all replicas must decide alike.
        (samples,) = in_common([batch_size(batch)])
        kept, variables = self._samples[replica], self._variables[replica]

        def keep() -> tf.Tensor:
            components = [component for leaf in leaves for component in _components(leaf)]
            for variable, component in zip(variables, components, strict=True):
                variable.assign(component)
            return kept.assign(samples, read_value=True)

        tf.cond(samples >= kept, keep, kept.read_value)

    def start_epoch(self) -> None:
        """Lets the next batch be kept, however small."""
        for kept in self._samples.values():
            kept.assign(0)

    @property
    def samples(self) -> int:
        """The number of samples in the batch kept, over all replicas."""
        return int(next(iter(self._samples.values())))

    def read(self) -> Any:
        """Returns the batch kept last, in its structure.

        Raises:
            RuntimeError: if there is none.
        """
        if not self._variables:
            raise RuntimeError("No training batch has been seen yet.")
        values = iter([variable.read_value() for variable in self._variables[index_here()]])
        flat = [
            None if leaf is None else _packed(leaf, values)
            for leaf in tf.nest.flatten(self._structure)
        ]
        return tf.nest.pack_sequence_as(self._structure, flat)


def _components(leaf: Any) -> list[tf.Tensor]:
    return tf.nest.flatten(leaf, expand_composites=True)


def _packed(leaf: Any, values: Any) -> Any:
    components = [next(values) for _ in _components(leaf)]
    return tf.nest.pack_sequence_as(leaf, components, expand_composites=True)


def _counter() -> tf.Variable:
    with tf.init_scope():
        return tf.Variable(0, dtype=tf.int64, trainable=False)


def _variables(leaves: list) -> list[tf.Variable]:
    with tf.init_scope():
        return [
            _variable(component, shape)
            for leaf in leaves
            for component, shape in zip(_components(leaf), _shapes(leaf), strict=True)
        ]


def _shapes(leaf: Any) -> list[list[int | None]]:
    """Which extents of each component are the same in all batches."""
    if isinstance(leaf, tf.SparseTensor):
        rank = leaf.shape.rank
        return [[None, rank], [None], [rank]]
    return [[None] * component.shape.rank for component in _components(leaf)]


def _variable(component: tf.Tensor, shape: list[int | None]) -> tf.Variable:
    empty = tf.zeros([extent or 0 for extent in shape], component.dtype)
    return tf.Variable(empty, shape=tf.TensorShape(shape), trainable=False)
