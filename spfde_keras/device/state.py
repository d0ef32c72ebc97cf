"""The variables of a file that trains, and the vector in which an app saves them."""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

_MARKS = 2


class State(tf.Module):
    """The variables of a file, in the order in which they are saved.

    Args:
        initial: arrays by name.
        about: whatever tells one file from another, as JSON takes it.
    """

    def __init__(self, initial: Mapping[str, np.ndarray], about: Any):
        super().__init__(name="state")
        self._variables = {
            name: tf.Variable(value, trainable=False, name=f"v{i}")
            for i, (name, value) in enumerate(initial.items())
        }
        self._marks = marks([about, [[name, value.shape] for name, value in initial.items()]])

    @property
    def size(self) -> int:
        """How many numbers are saved."""
        return _MARKS + sum(math.prod(v.shape) for v in self._variables.values())

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
        sizes = [math.prod(v.shape) for v in self._variables.values()]
        own, *values = tf.split(state, [_MARKS, *sizes])
        finite = tf.reduce_all(tf.abs(state) < tf.float32.max)
        valid = tf.logical_and(finite, tf.reduce_all(tf.equal(own, tf.constant(self._marks))))
        self.assign(dict(zip(self._variables, values, strict=True)), valid)
        return {"restored": tf.reshape(tf.cast(valid, tf.int32), [1])}

    def take_apart(self, state: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the values in a saved state by name, of the variables' shapes, as float32."""
        shapes = [tuple(v.shape) for v in self._variables.values()]
        ends = np.cumsum([_MARKS, *map(math.prod, shapes)])
        parts = np.split(state, ends[:-1])[1:]
        return {
            name: part.reshape(shape)
            for name, part, shape in zip(self._variables, parts, shapes, strict=True)
        }


def marks(about: Any) -> np.ndarray:
    """Returns numbers that differ wherever `about` does: float32, whole, exact."""
    digest = hashlib.sha256(json.dumps(about, default=str).encode()).digest()
    numbers = [int.from_bytes(digest[3 * i : 3 * i + 3]) for i in range(_MARKS)]
    return np.array(numbers, "float32")


def hash_of(array: np.ndarray) -> str:
    """Returns a hash of an array's content."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
