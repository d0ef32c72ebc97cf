"""The variables of a file that trains, and the vector in which an app saves them."""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

LARGEST = 2**24
"""Up to here float32 holds all whole numbers."""

_MARKS = 2  # whole numbers below LARGEST that tell one file from another
_SIZE = 2  # and those that say how many numbers there are


class State(tf.Module):
    """The variables of a file.

    They are saved as float32 numbers: marks of the model, how many numbers there are, marks of its
    training, then what is stored of the model, then the slots of the optimizer.

    Args:
        of_model: what is stored of the model at first, arrays by name.
        about_model: whatever tells it from other models, as JSON takes it.
        of_training: the slots of the optimizer, arrays by name.
        about_training: whatever tells it from other trainings.
    """

    def __init__(
        self,
        of_model: Mapping[str, np.ndarray],
        about_model: Any,
        of_training: Mapping[str, np.ndarray],
        about_training: Any,
    ):
        super().__init__(name="state")
        self._variables = {
            name: tf.Variable(value, trainable=False, name=f"v{i}")
            for i, (name, value) in enumerate({**of_model, **of_training}.items())
        }
        count = 2 * _MARKS + _SIZE + sum(self.sizes)
        size = np.array(divmod(count, LARGEST), "float32")
        self._marks = np.concatenate([marks(about_model), size, marks(about_training)])

    @property
    def sizes(self) -> list[int]:
        """How many numbers the variables have."""
        return [math.prod(v.shape) for v in self._variables.values()]

    @property
    def size(self) -> int:
        """How many numbers are saved."""
        return self._marks.size + sum(self.sizes)

    def read(self) -> dict[str, tf.Tensor]:
        """Returns the values of all variables by name."""
        return {name: tf.identity(v) for name, v in self._variables.items()}

    def assign(self, values: Mapping[str, tf.Tensor], valid: tf.Tensor) -> None:
        """Assigns to variables by name, or, where `valid` is False, leaves them as they are."""
        for name, value in values.items():
            variable = self._variables[name]
            value = tf.cast(tf.reshape(value, variable.shape), variable.dtype)
            variable.assign(tf.where(valid, value, tf.identity(variable)))

    def save(self) -> dict[str, tf.Tensor]:
        """Returns all of them: "state", float32 (size,)."""
        flat = [tf.reshape(tf.cast(v, tf.float32), [-1]) for v in self.read().values()]
        return {"state": tf.concat([tf.constant(self._marks), *flat], 0)}

    def restore(self, state: tf.Tensor) -> dict[str, tf.Tensor]:
        """Takes back what `save` gave, if it is of such a file and finite.

        Args:
            state: float32 (size,).

        Returns:
            "restored", int32 (1,): 1, or 0 if nothing was changed.
        """
        own, *values = tf.split(state, [self._marks.size, *self.sizes])
        finite = tf.reduce_all(tf.abs(state) < tf.float32.max)
        valid = tf.logical_and(finite, tf.reduce_all(tf.equal(own, tf.constant(self._marks))))
        self.assign(dict(zip(self._variables, values, strict=True)), valid)
        return {"restored": tf.reshape(tf.cast(valid, tf.int32), [1])}

    def take_apart(self, state: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the values in a saved state by name, of the variables' shapes, as float32."""
        shapes = {name: tuple(v.shape) for name, v in self._variables.items()}
        return split(state[self._marks.size :], shapes)


def is_of(state: np.ndarray, about_model: Any) -> bool:
    """Whether a saved state is of a model like one; see `State`."""
    return np.array_equal(state[:_MARKS], marks(about_model))


def is_whole(state: np.ndarray) -> bool:
    """Whether a saved state has as many numbers as it says."""
    said = state[_MARKS : _MARKS + _SIZE].astype("int64")
    return said.size == _SIZE and bool(said @ [LARGEST, 1] == state.size)


def of_model(state: np.ndarray, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Returns what a whole state has of a model, by name.

    Args:
        state: float32 (numbers,).
        shapes: of what is stored of the model.
    """
    return split(state[2 * _MARKS + _SIZE :], shapes)


def split(flat: np.ndarray, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Returns arrays of some shapes that follow each other in a flat one."""
    ends = np.cumsum([math.prod(shape) for shape in shapes.values()])
    parts = np.split(flat, ends)
    return {
        name: part.reshape(shape)
        for (name, shape), part in zip(shapes.items(), parts, strict=False)
    }


def marks(about: Any) -> np.ndarray:
    """Returns numbers that differ wherever `about` does: float32, whole, exact."""
    digest = hashlib.sha256(json.dumps(about, default=str).encode()).digest()
    numbers = [int.from_bytes(digest[3 * i : 3 * i + 3]) for i in range(_MARKS)]
    return np.array(numbers, "float32")


def hash_of(array: np.ndarray) -> str:
    """Returns a hash of an array's content."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
