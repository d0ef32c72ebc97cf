"""Runs a TFLite file in LiteRT and compares it with the Keras model it was made from."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from spfde_keras import checks
from spfde_keras.export.inputs import as_structured, file_inputs, named_inputs
from spfde_keras.export.interpreting import Interpreted, InterpretedApart, each_sample
from spfde_keras.export.naming import named_outputs
from spfde_keras.training import SparseModel

Interpreting = Callable[[str | os.PathLike[str]], Interpreted | InterpretedApart]
"""What loads a file."""


def run_tflite(
    path: str | os.PathLike[str], x: Any, signature: str | None = None
) -> np.ndarray | dict[str, np.ndarray]:
    """Runs a file on samples, one after the other, as a phone does.

    A file keeps its batch of 1: resizing it to run whole batches gains nothing on a CPU and
    fails where a reshape has its shape written into the file.

    Args:
        path: the .tflite file.
        x: array (samples, *input shape), or for several inputs a dictionary of them by the
            name of the input in the file.
        signature: the name of the sub-net to run, in a file of several.

    Returns:
        The outputs, (samples, *output shape); for several outputs a dictionary by name.

    Raises:
        ValueError: if the file does not exist, does not have the signature, or has several and
            none is chosen, or `x` does not fit its inputs.
        RuntimeError: if LiteRT cannot load the file.

    Example:

    >>> _ = export_tflite(model, "model.tflite")
    >>> run_tflite("model.tflite", np.zeros((5, 8, 8, 1))).shape
    (5, 10)
    """
    return _run(InterpretedApart, path, x, signature)


def verify_tflite(
    path: str | os.PathLike[str],
    model: keras.Model,
    samples: Any,
    tolerance: float,
    signature: str | None = None,
) -> float:
    """Compares a file with the Keras model it was made from.

    The error of an output is its largest absolute difference, divided by the largest magnitude
    that the Keras model gives for that output on these samples.

    Args:
        path: the .tflite file.
        model: the functional or Sequential model.
        samples: a batch as the model takes it, (samples, *input shape); both run it whole.
        tolerance: float, the largest error accepted.
        signature: the name of the sub-net to run, in a file of several; the model runs as its
            own sub-net of that name, where it has one.

    Returns:
        The largest error over all outputs.

    Raises:
        ValueError: if the samples do not fit, the Keras model gives NaN or infinity, or
            `signature` does not fit, as in `run_tflite`.
        RuntimeError: if the file cannot be loaded or its error is above `tolerance` or NaN.

    Example:

    >>> _ = export_tflite(model, "model.tflite")
    >>> verify_tflite("model.tflite", model, np.ones((5, 8, 8, 1)), tolerance=1e-4) <= 1e-4
    True
    """
    checks.instance("model", model, keras.Model, "a keras.Model")
    checks.number("tolerance", tolerance, above=0)
    checks.optional(checks.instance, "signature", signature, str, "None or a name")
    inputs = named_inputs(model, samples, "samples")
    expected = reference(model, inputs, signature)
    return compare(path, inputs, expected, tolerance, signature, InterpretedApart)


def evaluate_tflite(
    path: str | os.PathLike[str], x: Any, y: Any, signature: str | None = None
) -> float:
    """Returns the accuracy of a classifier's file.

    Args:
        path: the .tflite file, with one output: (samples, classes), or (samples, 1) for the
            probability of class 1.
        x: array (samples, *input shape).
        y: labels, integers (samples,) or (samples, 1), or one-hot (samples, classes).
        signature: the name of the sub-net to run, in a file of several.

    Returns:
        The share of samples whose label the file gives, from 0 to 1.

    Raises:
        ValueError: if `x` or `y` do not fit, or `signature` does not, as in `run_tflite`, or if
            outputs are NaN.

    Example:

    >>> _ = export_tflite(model, "model.tflite")
    >>> 0 <= evaluate_tflite("model.tflite", np.ones((5, 8, 8, 1)), np.zeros(5)) <= 1
    True
    """
    outputs, y = run_tflite(path, x, signature), np.asarray(y)
    if isinstance(outputs, dict):
        raise ValueError(f"{path} must have one output. Received: {sorted(outputs)}")
    if np.isnan(outputs).any():
        raise ValueError(f"{path} must give numbers for `x`. Received: NaN among its outputs")
    if outputs.shape[-1] == 1:
        if outputs.min() < 0 or outputs.max() > 1:
            raise ValueError(
                f"{path} must give probabilities where it has one output. Received: "
                f"{outputs.max() if outputs.max() > 1 else outputs.min():.4g} among its outputs; "
                "put a sigmoid behind a logit"
            )
        predictions = outputs[..., 0] > 0.5
    else:
        predictions = outputs.argmax(-1)
        y = y.argmax(-1) if y.shape == outputs.shape else y
    if y.size != predictions.size:
        raise ValueError(f"`y` must hold {predictions.size} labels. Received: shape {y.shape}")
    return float(np.mean(predictions == y.reshape(predictions.shape)))


def reference(
    model: keras.Model, inputs: Mapping[str, np.ndarray], signature: str | None = None
) -> dict[str, np.ndarray]:
    """Returns what the Keras model gives in inference, by the names of outputs in a file.

    Args:
        model: the functional or Sequential model.
        inputs: as `named_inputs` returns them.
        signature: the name of the sub-net to run, where the model has one of that name.

    Returns:
        Arrays (samples, *output shape).

    Raises:
        ValueError: if one of them holds NaN or infinity.
    """
    with _as_subnet(model, signature):
        if _fixes_batch(model):
            singly = [run_keras(model, one) for one in each_sample(inputs)]
            outputs = {name: np.concatenate([one[name] for one in singly]) for name in singly[0]}
        else:
            outputs = run_keras(model, inputs)
    for name, output in outputs.items():
        if not np.all(np.isfinite(output.astype("float32"))):
            raise ValueError(
                f"The Keras model itself gives NaN or infinity (output {name!r}): check its "
                "weights, or pass `representative_data` if random samples do not suit it."
            )
    return outputs


def run_keras(model: keras.Model, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns what the Keras model gives in inference, by the names of outputs in a file.

    Args:
        model: the functional or Sequential model.
        inputs: as `named_inputs` returns them.
    """
    outputs = named_outputs(model(as_structured(model, inputs), training=False))
    return {name: keras.ops.convert_to_numpy(output) for name, output in outputs.items()}


def _fixes_batch(model: keras.Model) -> bool:
    """Whether the model itself says how many samples it takes; its file takes one."""
    return any(t.shape[:1] != (None,) for t in [*model.inputs, *model.outputs])


def _as_subnet(model: keras.Model, name: str | None) -> contextlib.AbstractContextManager[None]:
    if isinstance(model, SparseModel) and name in model.subnets:
        return model.at(model.subnets.index(name))
    return contextlib.nullcontext()


def compare(
    path: str | os.PathLike[str],
    inputs: Mapping[str, np.ndarray],
    expected: Mapping[str, np.ndarray],
    tolerance: float,
    signature: str | None = None,
    interpreted: Interpreting = Interpreted,
) -> float:
    """Returns the file's largest error on `inputs`; see `verify_tflite`.

    Args:
        path: the .tflite file.
        inputs: as `named_inputs` returns them.
        expected: as `reference` returns them.
        tolerance: float, the largest error accepted.
        signature: the name of the sub-net to run, in a file of several.
        interpreted: what loads it, in this process by default, as for a file just exported.

    Raises:
        ValueError: if `signature` does not fit, as in `run_tflite`.
        RuntimeError: if the file cannot be loaded or its error is above `tolerance` or NaN.
    """
    outputs = _run(interpreted, path, dict(inputs), signature)
    outputs = outputs if isinstance(outputs, dict) else dict.fromkeys(expected, outputs)
    error = largest_error(outputs, expected)
    if not error <= tolerance:
        of_which = "" if signature is None else f" of {signature}"
        raise RuntimeError(
            f"the outputs{of_which} are off by {error:.2g} of their scale, more than {tolerance:g}"
        )
    return error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps the converter's and LiteRT's C++ log lines, written to file 2, off the console."""
    sys.stderr.flush()
    console = os.dup(2)
    with open(os.devnull, "wb") as log:
        os.dup2(log.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(console, 2)
            os.close(console)


def _run(
    interpreted: Interpreting, path: str | os.PathLike[str], x: Any, signature: str | None
) -> np.ndarray | dict[str, np.ndarray]:
    checks.file("path", path, "a .tflite file")
    checks.optional(checks.instance, "signature", signature, str, "None or a name")
    from spfde_keras.export import litert  # noqa: F401  which says what to install

    try:
        with quiet():
            file = interpreted(path)
    except (ValueError, RuntimeError) as error:  # LiteRT's answer to a file that is no model
        raise RuntimeError(f"LiteRT cannot load {path}: {error}") from error
    with contextlib.closing(file):
        chosen = _signature(file, path, signature)
        inputs = file_inputs(x, file.signatures[chosen], path)
        try:
            outputs = file.run(chosen, inputs)
        except (ValueError, RuntimeError) as error:
            raise RuntimeError(f"LiteRT cannot run {path}: {error}") from error
    return outputs if len(outputs) > 1 else next(iter(outputs.values()))


def _signature(
    file: Interpreted | InterpretedApart, path: str | os.PathLike[str], signature: str | None
) -> str:
    names = list(file.signatures)
    if signature is None and len(names) == 1:
        return names[0]
    if signature is None or signature not in names:
        raise ValueError(
            f"`signature` must be one of those of {path}, {names}. Received: {signature!r}"
        )
    return signature


def largest_error(outputs: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> float:
    """Returns the largest error of any output, a share of its scale.

    Args:
        outputs: arrays (samples, *output shape) by name.
        expected: as `reference` returns them.

    Raises:
        RuntimeError: if the names or the shapes differ.
    """
    if outputs.keys() != expected.keys():
        raise RuntimeError(f"the outputs are {sorted(outputs)}, not {sorted(expected)}")
    # NumPy's: of NaN and a number, Python's `max` may give the number.
    return float(np.max([_relative_error(outputs[name], expected[name]) for name in expected]))


def _relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    if found.shape != expected.shape:
        raise RuntimeError(f"an output has shape {found.shape}, not {expected.shape}")
    expected = expected.astype("float64")
    scale = np.abs(expected).max() or 1.0
    return float(np.abs(found.astype("float64") - expected).max() / scale)
