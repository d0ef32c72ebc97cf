"""The last training batch, kept for gradients at a boundary."""

from typing import Any

import tensorflow as tf

from spfde_keras.replicas import index_here, outside_scopes


class LastBatch:
    """Keeps a batch of any structure that Keras takes: nested, sparse or ragged.

    Each replica of this process keeps its own.

    Example:

    >>> kept = LastBatch()
    >>> kept.assign(({"a": tf.ones((2, 3))}, {"label": tf.constant([1, 0])}))
    >>> x, y = kept.read()
    >>> x["a"].shape, y["label"].numpy().tolist()
    (TensorShape([2, 3]), [1, 0])
    """

    def __init__(self) -> None:
        self._structure: Any = None
        self._variables: dict[int, list[tf.Variable]] = {}

    def assign(self, batch: Any) -> None:
        """Keeps `batch`; it may be called while a step is traced."""
        leaves = [leaf for leaf in tf.nest.flatten(batch) if leaf is not None]
        replica = index_here()
        if replica not in self._variables:
            self._structure = batch
            self._variables[replica] = outside_scopes(lambda: _variables(leaves))
        components = [component for leaf in leaves for component in _components(leaf)]
        for variable, component in zip(self._variables[replica], components, strict=True):
            variable.assign(component)

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
