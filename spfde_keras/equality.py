"""Whether two models compute the same, seen on a random batch."""

from typing import Any

import keras
import numpy as np

from spfde_keras import compat
from spfde_keras.rebuilding import as_functional

# Where an input has no fixed size, sizes are tried until the model takes one.
_SIZES = (8, 32, 64, 224)
_TOLERANCES = {"float16": 3e-2, "bfloat16": 1e-1}


def check_same_outputs(made: keras.Model, model: keras.Model) -> None:
    """Raises an error if a model made of another one does not compute the same.

    What cannot be called on a random batch, or is random itself, is not compared.

    Args:
        made: the new model.
        model: the model it was made of.

    Raises:
        RuntimeError: if the outputs on one random sample differ.
    """
    for size in _SIZES:
        batch = _random_batch(model, size)
        try:
            expected = _outputs(model, batch)
            again = _outputs(model, batch)
        except Exception:
            continue  # a size, or a kind of input, that the model itself does not take
        if _error(again, expected) == 0:
            error = _error(_outputs(made, batch), expected)
            if not error <= _tolerance(model):
                raise RuntimeError(
                    f"The model made of {model.name!r} does not compute the same: on a random "
                    f"sample its outputs differ by {error:.1e} of their scale. A layer keeps "
                    "state that is not in its weights, or changes when it is called; please "
                    "report it with the model."
                )
        return


def _random_batch(model: keras.Model, size: int) -> Any:
    rng = np.random.default_rng(0)

    def values(tensor: keras.KerasTensor) -> np.ndarray:
        shape = [1 if tensor.shape[0] is None else tensor.shape[0]]
        shape += [size if extent is None else extent for extent in tensor.shape[1:]]
        if tensor.dtype == "string":
            return np.full(shape, "a")
        high = 1.0 if "float" in tensor.dtype else 2.0
        return rng.uniform(high=high, size=shape).astype(tensor.dtype)

    return keras.tree.map_structure(values, as_functional(model).input)


def _outputs(model: keras.Model, batch: Any) -> list[np.ndarray]:
    batch = keras.tree.map_structure(keras.ops.convert_to_tensor, batch)
    outputs = keras.tree.flatten(model(batch, training=False))
    return [np.asarray(keras.ops.convert_to_numpy(x), "float64") for x in outputs]


def _error(got: list[np.ndarray], expected: list[np.ndarray]) -> float:
    errors = [0.0]
    for one, other in zip(got, expected, strict=True):
        if one.shape != other.shape or (np.isnan(one) != np.isnan(other)).any():
            return float("inf")
        known = ~np.isnan(other)
        scale = np.abs(other[known]).max(initial=1e-12)
        with np.errstate(invalid="ignore"):
            differences = np.where(one[known] == other[known], 0, one[known] - other[known])
        errors.append(float(np.abs(differences).max(initial=0.0) / scale))
    return max(errors)


def _tolerance(model: keras.Model) -> float:
    dtypes = {layer.compute_dtype for layer in compat.all_layers(model)}
    return max((_TOLERANCES.get(dtype, 1e-3) for dtype in dtypes), default=1e-3)
