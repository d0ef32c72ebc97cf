"""Sizes of inputs that a model leaves open, and what they are."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from spfde_keras import checks, compat

Shape = Sequence[int | None]
"""Of a tensor; None is an open size."""

InputShape = Shape | Sequence[Shape] | Mapping[str, Shape]
"""Of one sample, as for `keras.Input`; of several inputs a list, or a dictionary by name."""


_LISTS = (list, tuple, tf.TensorShape)


def check_shape(name: str, given: Any) -> InputShape:
    """Returns shapes of one sample if any model could take them, raises ValueError otherwise."""
    if isinstance(given, Mapping):
        shapes = list(given.values())
    else:
        nested = isinstance(given, _LISTS) and any(isinstance(part, _LISTS) for part in given)
        shapes = list(given) if nested else [given]
    if not all(isinstance(shape, _LISTS) and all(map(_is_size, shape)) for shape in shapes):
        rule = "the shape of one sample, or a list or dictionary of such of several inputs"
        checks.refuse(name, rule, given)
    return given


def _is_size(size: Any) -> bool:
    whole = isinstance(size, int | np.integer) and not isinstance(size, bool)
    return size is None or (whole and size > 0)


def input_shapes(model: keras.Model, given: InputShape) -> list[tuple[int | None, ...]]:
    """Returns the shape of each input of `model`, batch axis first, with sizes that are given.

    Args:
        model: a functional or Sequential model.
        given: the shape of one sample, without the batch axis, as for `keras.Input`; for several
            inputs a list of shapes in the order of `model.inputs`, or a dictionary by name.

    Raises:
        ValueError: if it is not such a shape for each input.

    Example:

    >>> model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(4, 3)])
    >>> input_shapes(model, (32, 24, 3))
    [(None, 32, 24, 3)]
    """
    check_shape("input_shape", given)
    names = [x.name for x in model.inputs]
    shapes: Any = given
    if isinstance(given, Mapping):
        shapes = [given.get(name) for name in names] if set(given) == set(names) else None
    elif len(names) == 1 and not any(isinstance(part, _LISTS) for part in given):
        shapes = [given]
    if shapes is None or len(shapes) != len(names) or not all(map(_fits, shapes, model.inputs)):
        expected = {x.name: tuple(x.shape[1:]) for x in model.inputs}
        raise ValueError(
            "`input_shape` must be the shape of one sample, without the batch axis, with a size "
            "for each None; of several inputs a list of shapes, or a dictionary by name. "
            f"Received: {given}; the inputs are {expected}"
        )
    return [(x.shape[0], *shape) for x, shape in zip(model.inputs, shapes, strict=True)]


def _fits(shape: Any, x: keras.KerasTensor) -> bool:
    return len(shape) == len(x.shape) - 1 and all(
        size is not None and expected in (None, size)
        for size, expected in zip(shape, x.shape[1:], strict=True)
    )


class OpenSizes:
    """The sizes that a model leaves open in its inputs, such as a sequence's length.

    Args:
        model: a functional model.

    Attributes:
        axes: list of (input, axis), those of unknown size, without the batch axis.

    Example:

    >>> sizes = OpenSizes(keras.Sequential([keras.Input((None, 2)), keras.layers.Dense(4)]))
    >>> sizes.axes
    [(0, 1)]
    >>> sizes.of_mean([5.4])
    [(5, 2)]
    """

    def __init__(self, model: keras.Model):
        self._model = model
        self.axes = [
            (index, axis)
            for index, x in enumerate(model.inputs)
            for axis, size in enumerate(x.shape)
            if axis and size is None
        ]

    def measure(self, x: Any) -> tf.Tensor:
        """Returns the sizes of a batch along `axes`, a float64 tensor; 0 where an input is None.

        Args:
            x: inputs in any form that the model takes.
        """
        inputs = compat.standardized_inputs(self._model, x)
        return tf.stack([_size(inputs[index], axis) for index, axis in self.axes])

    def of_mean(self, means: Sequence[float], step: int = 1) -> list[tuple[int | None, ...]]:
        """Returns the shape of one sample of each input, with means rounded to whole steps."""
        shapes = [list(x.shape) for x in self._model.inputs]
        for (index, axis), mean in zip(self.axes, means, strict=True):
            shapes[index][axis] = max(1, round(mean / step)) * step
        return [tuple(shape[1:]) for shape in shapes]


def _size(x: Any, axis: int) -> tf.Tensor:
    if x is None:
        return tf.zeros((), tf.float64)
    if isinstance(x, tf.RaggedTensor) and axis == 1:
        return tf.reduce_mean(tf.cast(x.row_lengths(), tf.float64))
    if isinstance(x, tf.RaggedTensor):
        return tf.cast(x.bounding_shape(axis), tf.float64)
    return tf.cast(keras.ops.shape(x)[axis], tf.float64)
