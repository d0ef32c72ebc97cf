"""How the weights of a model are stored in a file that trains: those of masked kernels packed."""

import dataclasses
import math
from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

from spfde_keras.masking import find_masks

# Types of optimizers that update each weight by its own gradient and slots, or by norms, which
# zeros do not change. Others see whole kernels.
_BY_WEIGHT = {
    getattr(keras.optimizers, name)
    for name in (
        "SGD Adam AdamW Adadelta Adagrad Adamax Ftrl Lamb Lion Nadam RMSprop ScheduleFreeAdamW"
    ).split()
    if hasattr(keras.optimizers, name)
}


@dataclasses.dataclass(frozen=True)
class Stored:
    """A trainable variable, as the file stores it.

    Args:
        variable: of the plain model.
        places: None if it is stored whole; otherwise int32 array (kept,), where in the flat
            kernel the weights are that are stored, in ascending order.
        seen: the variable that the optimizer updates: the kernel, or a vector of what is kept.
    """

    variable: keras.Variable
    places: np.ndarray | None
    seen: keras.Variable

    def entries(self, value: np.ndarray) -> dict[str, np.ndarray]:
        """Returns what is stored of a value, by name: numbers and, if packed, their places."""
        if self.places is None:
            return {self.name: value}
        return {self.name: value.ravel()[self.places], f"{self.name}:places": self.places}

    @property
    def name(self) -> str:
        """That of the values among what is stored."""
        return f"weights:{self.variable.path}"

    @property
    def sees_kept(self) -> bool:
        """Whether the optimizer updates the vector of what is kept."""
        return self.seen is not self.variable

    def kernel(self, read: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Returns the whole variable, from what is stored."""
        return self.unpacked(read[self.name], read)

    def unpacked(self, values: tf.Tensor, read: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Returns values of what is stored in the variable's shape, zero elsewhere."""
        if self.places is None:
            return values
        shape = self.variable.shape
        places = tf.expand_dims(read[f"{self.name}:places"], 1)
        return tf.reshape(tf.scatter_nd(places, values, [math.prod(shape)]), shape)

    def packed(self, whole: tf.Tensor, read: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Returns what is stored of a tensor of the variable's shape."""
        if self.places is None:
            return whole
        return tf.gather(tf.reshape(whole, [-1]), read[f"{self.name}:places"])


def stored_weights(
    model: keras.Model, plain: keras.Model, optimizer: keras.optimizers.Optimizer
) -> list[Stored]:
    """Returns how each trainable variable of a model is stored.

    Args:
        model: with masks, of one sub-net.
        plain: the same as `densify` returns it.
        optimizer: that will update them.
    """
    masks = {mask.kernel_path: mask.read()[1][0] for mask in find_masks(model)}
    found = []
    for variable in plain.trainable_variables:
        mask = masks.get(variable.path)
        if mask is None or mask.all():
            found.append(Stored(variable, None, variable))
            continue
        places = np.flatnonzero(mask).astype("int32")
        by_weight = type(optimizer) in _BY_WEIGHT and variable.constraint is None
        kept = np.asarray(variable).ravel()[places]
        # By the name decoupled decay leaves variables out.
        seen = keras.Variable(kept, name=variable.name) if by_weight else variable
        found.append(Stored(variable, places, seen))
    return found
