"""A learning rate of its own for each block, in any Keras optimizer."""

from collections.abc import Sequence

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
        self._factors = tf.Variable(tf.ones(len(blocks)), trainable=False)
        self._block = {
            self._optimizer._get_variable_index(variable): block
            for block, variables in enumerate(blocks)
            for variable in variables
        }

    def __enter__(self) -> "BlockwiseLearningRate":
        self.__exit__()
        optimizer = self._optimizer
        update_step = optimizer.update_step

        def scaled_update_step(gradient, variable, learning_rate):
            factor = tf.cast(self._factor(variable), learning_rate.dtype)
            return update_step(gradient, variable, learning_rate * factor)

        def scaled_decay(variables):
            if optimizer.weight_decay is None:
                return
            for variable in filter(optimizer._use_weight_decay, variables):
                rate = optimizer.weight_decay * optimizer.learning_rate * self._factor(variable)
                value = tf.convert_to_tensor(variable)
                optimizer.assign_sub(variable, value * tf.cast(rate, value.dtype))

        # Set on the instance: its class, which is what gets saved, stays the user's.
        optimizer.update_step = scaled_update_step
        optimizer._apply_weight_decay = scaled_decay
        return self

    def __exit__(self, *exception) -> None:
        for name in ("update_step", "_apply_weight_decay"):
            self._optimizer.__dict__.pop(name, None)

    def assign(self, factors: Sequence[float] | np.ndarray) -> None:
        """Sets the factor of each block."""
        self._factors.assign(np.asarray(factors, np.float32))

    def _factor(self, variable) -> tf.Tensor:
        block = self._block.get(self._optimizer._get_variable_index(variable))
        return tf.ones(()) if block is None else self._factors[block]


def inner_optimizer(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Returns the optimizer that updates variables, behind one that scales the loss."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def reset_slots(optimizer: keras.optimizers.Optimizer, mask: Mask, fresh: np.ndarray) -> None:
    """Zeroes every optimizer slot of a kernel where its weights start anew.

    Args:
        optimizer: a built optimizer of any class.
        mask: the `Mask` of the kernel.
        fresh: bool array of the kernel's shape.
    """
    optimizer = inner_optimizer(optimizer)
    index = optimizer._get_variable_index(mask.kernel)
    count = len(optimizer._trainable_variables)
    for slots in vars(optimizer).values():
        # Slots are lists parallel to the variables; a factored one has another shape.
        if (
            not isinstance(slots, list)
            or len(slots) != count
            or slots is optimizer._trainable_variables
        ):
            continue
        slot = slots[index]
        if isinstance(slot, keras.Variable) and tuple(slot.shape) == fresh.shape:
            slot.assign(np.where(fresh, 0, keras.ops.convert_to_numpy(slot)))
