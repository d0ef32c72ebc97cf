"""A separate learning rate for each block, in any Keras optimizer."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from spfde_keras import compat
from spfde_keras.masking import Mask


class BlockwiseLearningRate:
    """Scales an optimizer's learning rate by one factor for each block of variables.

    The factors multiply whatever rate or schedule the optimizer has, decoupled weight decay
    included. Slots are scaled with it as if the optimizer's rate itself had changed.

    Args:
        optimizer: a built `keras.optimizers.Optimizer`.
        blocks: for each block the list of its variables. Others keep the optimizer's rate.

    Example:

    >>> w = keras.Variable([1.0, 1.0])
    >>> sgd = keras.optimizers.SGD(1.0)
    >>> sgd.build([w])
    >>> with BlockwiseLearningRate(sgd, [[w]]) as rate:
    ...     rate.assign([0.5])
    ...     sgd.apply([tf.constant([1.0, 1.0])], [w])
    >>> w.numpy().tolist()
    [0.5, 0.5]

    Source: SpFDE (Yuan et al., NeurIPS 2022), section 3.2.
    """

    def __init__(
        self, optimizer: keras.optimizers.Optimizer, blocks: Sequence[Sequence[keras.Variable]]
    ):
        self._optimizer = inner_optimizer(optimizer)
        # One scalar each: slicing a vector for every variable makes graphs slow to trace.
        self._factors = [tf.Variable(1.0, trainable=False) for _ in blocks]
        self._block = {
            compat.variable_index(self._optimizer, variable): block
            for block, variables in enumerate(blocks)
            for variable in variables
        }

    def __enter__(self) -> "BlockwiseLearningRate":
        compat.scale_updates(self._optimizer, self._block_of, self._factor)
        return self

    def __exit__(self, *exception: object) -> None:
        compat.restore_updates(self._optimizer)

    def assign(self, factors: Sequence[float] | np.ndarray) -> None:
        """Sets the factor of each block."""
        for variable, factor in zip(self._factors, factors, strict=True):
            variable.assign(factor)

    def _block_of(self, variable: keras.Variable) -> int | None:
        return self._block.get(compat.variable_index(self._optimizer, variable))

    def _factor(self, block: int | None) -> tf.Tensor:
        return tf.ones(()) if block is None else self._factors[block].value()


def inner_optimizer(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Returns the optimizer that updates variables, which one that scales the loss may wrap.

    Raises:
        ValueError: for a `keras.optimizers.MultiOptimizer`, which has no slots of its own.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if isinstance(optimizer, keras.optimizers.MultiOptimizer):
        raise ValueError(
            "`optimizer` must be one optimizer for all variables. Received: MultiOptimizer"
        )
    return optimizer


def reset_slots(optimizer: keras.optimizers.Optimizer, mask: Mask, fresh: np.ndarray) -> None:
    """Gives every optimizer slot of a kernel its initial value where weights start over.

    Args:
        optimizer: a built optimizer of any class.
        mask: the `Mask` of the kernel.
        fresh: bool array of the kernel's shape.
    """
    for slot, first in compat.slots(inner_optimizer(optimizer), mask.kernel):
        if tuple(slot.shape) == fresh.shape:  # a factored one has another shape
            slot.assign(keras.ops.where(fresh, keras.ops.cast(first, slot.dtype), slot.value))
