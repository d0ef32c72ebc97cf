"""A separate learning rate for each block, in any Keras optimizer."""

from collections import defaultdict
from collections.abc import Sequence
from functools import partial

import keras
import numpy as np
import tensorflow as tf

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
            self._optimizer._get_variable_index(variable): block
            for block, variables in enumerate(blocks)
            for variable in variables
        }

    def __enter__(self) -> "BlockwiseLearningRate":
        self.__exit__()
        optimizer = self._optimizer
        update_step, apply_decay = optimizer.update_step, optimizer._apply_weight_decay
        current_rate = optimizer._get_current_learning_rate

        def scaled_rate(factor: tf.Tensor) -> tf.Tensor:
            return current_rate() * factor

        def scaled_update_step(
            gradient: tf.Tensor, variable: keras.Variable, learning_rate: tf.Tensor
        ) -> None:
            factor = tf.cast(self._factor(self._block_of(variable)), learning_rate.dtype)
            update_step(gradient, variable, learning_rate * factor)

        def scaled_decay(variables: Sequence[keras.Variable]) -> None:
            blocks = defaultdict(list)
            for variable in variables:
                blocks[self._block_of(variable)].append(variable)
            for block, members in blocks.items():
                # Optimizers decay in different ways, but all of them ask for the rate.
                optimizer._get_current_learning_rate = partial(scaled_rate, self._factor(block))
                apply_decay(members)
            optimizer.__dict__.pop("_get_current_learning_rate", None)

        # Set on the instance: the class, which is what gets saved, stays the user's.
        optimizer.update_step = scaled_update_step
        optimizer._apply_weight_decay = scaled_decay
        return self

    def __exit__(self, *exception: object) -> None:
        for name in ("update_step", "_apply_weight_decay"):
            self._optimizer.__dict__.pop(name, None)

    def assign(self, factors: Sequence[float] | np.ndarray) -> None:
        """Sets the factor of each block."""
        for variable, factor in zip(self._factors, factors, strict=True):
            variable.assign(factor)

    def _block_of(self, variable: keras.Variable) -> int | None:
        return self._block.get(self._optimizer._get_variable_index(variable))

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
    optimizer = inner_optimizer(optimizer)
    index = optimizer._get_variable_index(mask.kernel)
    count = len(optimizer._trainable_variables)
    for name, slots in vars(optimizer).items():
        # Slots are lists parallel to the variables; a factored one has another shape.
        if not isinstance(slots, list) or len(slots) != count or name == "_trainable_variables":
            continue
        slot = slots[index]
        if isinstance(slot, keras.Variable) and tuple(slot.shape) == fresh.shape:
            # From 0, Adagrad's first step would be too large, and Ftrl's NaN.
            initial = optimizer.initial_accumulator_value if name == "_accumulators" else 0
            slot.assign(np.where(fresh, initial, keras.ops.convert_to_numpy(slot)))
