"""Samples as a model or its file takes them: by name, of the right shape and dtype."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from spfde_keras import checks
from spfde_keras.export.interpreting import Takes
from spfde_keras.export.naming import input_names


def named_inputs(model: keras.Model, x: Any, argument: str = "x") -> dict[str, np.ndarray]:
    """Returns a batch by the names that the model's inputs have in a file.

    Args:
        model: the functional or Sequential model.
        x: an array, or a list or dictionary of them, as the model takes it. Of an optional input
            it may be None, or missing from the dictionary.
        argument: str, what messages call `x`.

    Returns:
        Arrays (samples, *input shape), in the inputs' dtypes, of all inputs that are given.

    Raises:
        ValueError: if the number of inputs, a name or a shape does not fit.
    """
    given = _in_order(model, x, argument)
    inputs = {
        name: _of_shape(array, tensor.shape[1:], tensor.dtype, tensor.name, argument)
        for name, tensor, array in zip(input_names(model), model.inputs, given, strict=True)
        if not (array is None and tensor.name in _optional(model))
    }
    _check_counts(inputs, argument)
    return inputs


def _in_order(model: keras.Model, x: Any, argument: str) -> list[Any]:
    """Returns an array for each input of the model; None where an optional one is left out."""
    own = [tensor.name for tensor in model.inputs]
    if isinstance(x, dict):
        for names in (own, input_names(model)):
            missing = {t for t, name in zip(own, names, strict=True) if name not in x}
            if x.keys() <= set(names) and missing <= _optional(model):
                return [x.get(name) for name in names]
        structure = None if isinstance(model, keras.Sequential) else model.input
        if not (isinstance(structure, dict) and structure.keys() == x.keys()):
            raise ValueError(f"`{argument}` must be of the inputs {own}. Received: {sorted(x)}")
    arrays = keras.tree.flatten(x)
    if len(arrays) != len(own):
        raise ValueError(
            f"`{argument}` must have {len(own)} inputs, {own}. Received: {len(arrays)}"
        )
    return arrays


def _optional(model: keras.Model) -> set[str]:
    inputs = [layer for layer in model.layers if isinstance(layer, keras.layers.InputLayer)]
    return {layer.name for layer in inputs if layer.optional}


def as_structured(model: keras.Model, inputs: Mapping[str, Any]) -> Any:
    """Returns inputs as the model takes them, None for those that are left out.

    Args:
        model: the functional or Sequential model.
        inputs: by their names in a file.
    """
    structure = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    return keras.tree.pack_sequence_as(structure, [inputs.get(n) for n in input_names(model)])


def file_inputs(x: Any, takes: Takes, path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Returns a batch by the names of a file's inputs.

    Args:
        x: an array for a file of one input, or a dictionary of them.
        takes: the inputs of the file.
        path: of the file, for messages.

    Returns:
        Arrays (samples, *input shape), in the inputs' dtypes.

    Raises:
        ValueError: if a name, a shape or the number of samples does not fit.
    """
    inputs = x if isinstance(x, dict) else dict.fromkeys(takes, x) if len(takes) == 1 else {}
    if inputs.keys() != takes.keys():
        raise ValueError(
            f"`x` must be a dictionary with the inputs {sorted(takes)} of {path}. "
            f"Received: {sorted(inputs) or type(x).__name__}"
        )
    fitted = {
        name: _of_shape(inputs[name], shape[1:], dtype, name, "x")
        for name, (shape, dtype) in takes.items()
    }
    _check_counts(fitted, "x")
    return fitted


def fitted(array: np.ndarray, dtype: Any, name: str, argument: str) -> np.ndarray:
    """Returns numbers in the dtype of an input, if that changes none but by rounding of floats.

    Args:
        array: numbers of any shape and dtype.
        dtype: that of the input.
        name: of the input.
        argument: str, what messages call `array`.

    Raises:
        ValueError: if it holds no numbers, or, of integers, others than the dtype has.
    """
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        checks.refuse(argument, f"numbers for input {name!r}", array)
    with np.errstate(invalid="ignore"):
        found = array.astype(dtype)
    if np.issubdtype(dtype, np.integer) and (changed := found != array).any():
        raise ValueError(
            f"`{argument}` must hold integers that {np.dtype(dtype).name} has, for input {name!r}. "
            f"Received: {array[changed].flat[0]}"
        )
    return found


def _of_shape(
    array: Any, shape: Sequence[int | None], dtype: Any, name: str, argument: str
) -> np.ndarray:
    array = np.asarray(array)
    if array.ndim != len(shape) + 1 or any(
        size not in (None, given) for size, given in zip(shape, array.shape[1:], strict=True)
    ):
        expected = ", ".join(str(size) for size in ("samples", *shape))
        raise ValueError(
            f"`{argument}` must be ({expected}) for input {name!r}. Received: shape {array.shape}"
        )
    return fitted(array, dtype, name, argument)


def _check_counts(inputs: Mapping[str, np.ndarray], argument: str) -> None:
    counts = {len(array) for array in inputs.values()}
    if len(counts) > 1 or counts == {0}:
        raise ValueError(
            f"`{argument}` must hold the same number of samples for every input, at least one. "
            f"Received: {sorted(counts)}"
        )
