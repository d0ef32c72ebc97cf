"""TensorFlow's converter: from a SavedModel to the content of a TFLite file.

Calibration ends the whole process where it does not know an operator, such as the loops of
recurrent layers. It therefore runs in a process of its own, which runs this file and must import
nothing but TensorFlow.
"""

import dataclasses
import json
import pathlib
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from os import environ, pathsep
from typing import Any

import numpy as np
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Precision:
    """How a file stores and computes, and how far it may be from the Keras model.

    Args:
        tolerance: float, the largest accepted error as a share of the output's scale.
        sparse: bool, whether weights can be stored sparse.
        instead: names of precisions to use when this one fails.
        optimizations: of the TFLite converter.
        target: dict, attributes of the converter's `target_spec`.
    """

    tolerance: float
    sparse: bool
    instead: tuple[str, ...]
    optimizations: tuple[Any, ...] = (tf.lite.Optimize.DEFAULT,)
    target: dict[str, Any] = dataclasses.field(default_factory=dict)


# The tolerances tell a broken file, which is off by its whole scale, from rounding:
# - float32: sums taken in another order and folded batch normalisation, ~1e-6 a layer;
# - float16: weights rounded to 11 bits, 5e-4 each, growing with the root of the depth;
# - int8_dynamic: weights, and the inputs of each layer, rounded to 8 bits, up to 4e-3 each;
# - int8_full: every activation as well, in ranges seen in calibration, which clip.
# For int8, one sample near a decision boundary moves a softmax by several per cent.
PRECISIONS = {
    "float32": Precision(1e-4, True, (), optimizations=()),
    "float16": Precision(1e-2, True, ("float32",), target={"supported_types": [tf.float16]}),
    "int8_dynamic": Precision(0.2, False, ("float16", "float32")),
    "int8_full": Precision(
        0.3,
        False,
        ("int8_dynamic", "float16", "float32"),
        target={"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]},
    ),
}

_SAMPLES, _CONTENT, _FAILURE = "samples.npz", "model.tflite", "failure.txt"


class Died(RuntimeError):
    """The process of a conversion ended without an answer."""


def convert(
    folder: str,
    signatures: Iterable[str],
    precision: str,
    sparse: bool,
    samples: Mapping[str, np.ndarray],
) -> bytes:
    """Returns the content of a file, not run yet.

    Args:
        folder: of the SavedModel.
        signatures: their names in it.
        precision: one of `PRECISIONS`.
        sparse: bool, whether to store weights sparse where that is smaller.
        samples: arrays (samples, *input shape) by the names of the inputs in the file; they
            give the ranges of activations in "int8_full".
    """
    names = list(signatures)
    converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=names)
    # As Keras' own LiteRT export does.
    converter.experimental_enable_resource_variables = True
    converter.target_spec.supported_ops = [
        tf.lite.OpsSet.TFLITE_BUILTINS,
        tf.lite.OpsSet.SELECT_TF_OPS,
    ]
    for attribute, value in PRECISIONS[precision].target.items():
        setattr(converter.target_spec, attribute, value)
    sparsity = (tf.lite.Optimize.EXPERIMENTAL_SPARSITY,) if sparse else ()
    converter.optimizations = [*PRECISIONS[precision].optimizations, *sparsity]
    if precision == "int8_full":
        converter.representative_dataset = lambda: _calibration(names, samples)
    return converter.convert()


def convert_apart(
    folder: str,
    signatures: Iterable[str],
    precision: str,
    sparse: bool,
    samples: Mapping[str, np.ndarray],
) -> bytes:
    """Does what `convert` does in a process of its own, which may die.

    Args:
        folder: of the SavedModel; it also takes what the processes tell each other.
        signatures: as in `convert`.
        precision: as in `convert`.
        sparse: as in `convert`.
        samples: as in `convert`.

    Raises:
        Died: if the process ended without an answer.
        RuntimeError: if the conversion fails, with the converter's reason.
    """
    place, names = pathlib.Path(folder), list(samples)
    np.savez(place / _SAMPLES, *samples.values())
    asked = json.dumps([folder, list(signatures), precision, sparse, names])
    # It finds what this process finds, and leaves the accelerator to it.
    surroundings = {"PYTHONPATH": pathsep.join(sys.path), "CUDA_VISIBLE_DEVICES": "-1"}
    status = subprocess.run(
        [sys.executable, "-P", __file__, asked],
        env={**environ, **surroundings},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    ).returncode
    if status == 0:
        return (place / _CONTENT).read_bytes()
    if (place / _FAILURE).exists():
        raise RuntimeError((place / _FAILURE).read_text())
    raise Died(f"the converter ended its process (status {status})")


def _calibration(
    names: Iterable[str], samples: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Each sample by itself, for each of the signatures, whose activations differ."""
    for name in names:
        for i in range(len(next(iter(samples.values())))):
            yield name, {key: array[i : i + 1] for key, array in samples.items()}


def _answer(
    folder: str, signatures: list[str], precision: str, sparse: bool, names: list[str]
) -> None:
    """Writes into the folder what `convert_apart` reads."""
    place = pathlib.Path(folder)
    with np.load(place / _SAMPLES) as stored:
        samples = {name: stored[f"arr_{i}"] for i, name in enumerate(names)}
    try:
        content = convert(folder, signatures, precision, sparse, samples)
    except Exception as failure:
        (place / _FAILURE).write_text(str(failure) or type(failure).__name__)
        raise
    (place / _CONTENT).write_bytes(content)


if __name__ == "__main__":
    _answer(*json.loads(sys.argv[1]))
