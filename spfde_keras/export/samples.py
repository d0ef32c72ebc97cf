"""The samples on which a file is calibrated and checked."""

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np

from spfde_keras.export.inputs import named_inputs
from spfde_keras.export.naming import input_names

CALIBRATION_SAMPLES = 256  # TensorFlow's guide asks for 100 to 500
VERIFICATION_SAMPLES = 16


def random_samples(model: keras.Model) -> dict[str, np.ndarray]:
    """Returns as many random samples as a file is checked on.

    They are uniform in [0, 1), as scaled images are; integers are 0 or 1, which every table has.

    Args:
        model: a functional model of known input shapes.

    Returns:
        Arrays (samples, *input shape) by the names of the inputs in the file.
    """
    random = np.random.default_rng(0)
    return {
        name: drawn(random, tensor.dtype, (VERIFICATION_SAMPLES, *tensor.shape[1:]))
        for name, tensor in zip(input_names(model), model.inputs, strict=True)
    }


def drawn(random: np.random.Generator, dtype: str, shape: Sequence[int]) -> np.ndarray:
    """Returns random numbers for an input: floats from 0 to 1, integers and bools of 0 and 1.

    Args:
        random: the generator.
        dtype: that of the input.
        shape: samples first.
    """
    numbers = random.uniform(high=1 if "float" in dtype else 2, size=shape)
    return numbers.astype("int64").astype(dtype) if "float" not in dtype else numbers.astype(dtype)


def collect(model: keras.Model, data: Any) -> dict[str, np.ndarray]:
    """Returns the first samples of `data`, as many as a file is calibrated on.

    Args:
        model: a functional model.
        data: `representative_data` as in `export_tflite`.

    Returns:
        Arrays (samples, *input shape) by the names of the inputs in the file.

    Raises:
        ValueError: if there are none, they do not fit the model, or hold NaN or infinity.
    """
    batches = [data] if _is_batch(model, data) else data
    if not isinstance(batches, Iterable):
        raise ValueError(
            "`representative_data` must be an array, or one for each input, or an iterable or "
            f"dataset of batches of x. Received: {type(data).__name__}"
        )
    collected, count = [], 0
    for batch in batches:
        x = batch[0] if isinstance(batch, tuple) and not _is_x(model, batch) else batch
        with np.errstate(over="ignore", invalid="ignore"):  # refused in the next line
            collected.append(named_inputs(model, x, "representative_data"))
        given = [array for array in keras.tree.flatten(x) if array is not None]
        _check_finite([*given, *collected[-1].values()], len(collected) - 1)
        count += len(next(iter(collected[-1].values())))
        if count >= CALIBRATION_SAMPLES:
            break
    if not collected:
        raise ValueError("`representative_data` must hold at least one sample. Received: none")
    if len({tuple(inputs) for inputs in collected}) > 1:
        raise ValueError(
            "`representative_data` must give the same inputs in every batch. Received: "
            f"{[list(inputs) for inputs in collected]}"
        )
    return {
        name: np.concatenate([inputs[name] for inputs in collected])[:CALIBRATION_SAMPLES]
        for name in collected[0]
    }


def _is_batch(model: keras.Model, data: Any) -> bool:
    """Whether this is one batch, x or (x, y), and no iterable of them."""
    if isinstance(data, tuple) and len(data) == 2 and hasattr(data[1], "shape"):
        if isinstance(data[0], dict) or _is_x(model, data[0]):
            return True
    return hasattr(data, "shape") or isinstance(data, dict) or _is_x(model, data)


def _is_x(model: keras.Model, data: Any) -> bool:
    """Whether this is an array for each of several inputs, as the model takes them."""
    return (
        isinstance(data, list | tuple)
        and len(data) == len(model.inputs) > 1
        and all(array is None or hasattr(array, "shape") for array in data)
    )


def _check_finite(arrays: Iterable[Any], batch: int) -> None:
    """Calibration ends the process where a range is infinite."""
    if not all(np.all(np.isfinite(array)) for array in arrays):
        raise ValueError(
            "`representative_data` must hold finite numbers that fit the inputs' dtypes. "
            f"Received: NaN or infinity in batch {batch}"
        )
