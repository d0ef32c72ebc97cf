"""Converts a saved Keras model to a TFLite file.

python tflite/convert.py model.keras model.tflite --precision=float16
python tflite/convert.py model.keras model.tflite --mobile  # must run sparse on phones
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from apps import quiet  # noqa: F401  before TensorFlow is imported

# isort: split
import keras
import numpy as np
from absl import app, flags

import spfde_keras  # noqa: F401  registers the classes that .keras files name
from spfde_keras.export import PRECISIONS, export_tflite

_PRECISION = flags.DEFINE_string("precision", "float32", " | ".join(PRECISIONS))
_SPARSE = flags.DEFINE_boolean(
    "sparse", None, "store weights sparse (default: if the precision allows it)"
)
_MOBILE = flags.DEFINE_boolean(
    "mobile", False, "rewrite the model to an equal one that runs sparse on phones, or fail"
)
_REPRESENTATIVE_DATA = flags.DEFINE_string(
    "representative_data", None, ".npy file of samples, which int8_full needs"
)


def convert(source: str, target: str) -> None:
    """Converts `source` to `target` as the flags say, and prints a report.

    Args:
        source: the .keras file.
        target: the .tflite file.

    Raises:
        ValueError: if a file or a flag is wrong.
        RuntimeError: if the file cannot be made; `target` is as it was then.
    """
    data = _REPRESENTATIVE_DATA.value
    samples = None if data is None else _read(data, np.load, "a .npy file of numbers")
    model = _read(source, _load_model, "a .keras file of this version")
    print(
        export_tflite(
            model,
            target,
            precision=_PRECISION.value,
            sparse=_SPARSE.value,
            representative_data=samples,
            mobile=_MOBILE.value,
        )
    )


def _load_model(path: str) -> keras.Model:
    return keras.saving.load_model(path, compile=False)


def _read(path: str, load: Callable[[str], Any], kind: str) -> Any:
    if not os.path.isfile(path):
        raise ValueError(f"{path} does not exist, or is not a file.")
    try:
        return load(path)
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path} is not {kind}: {reason}") from error


def main(argv: list[str]) -> None:
    """Runs the command; a wrong input ends it with one message and exit code 1.

    Args:
        argv: the program's name, the .keras file and the .tflite file.
    """
    if len(argv) != 3:
        raise app.UsageError(f"A .keras and a .tflite file are needed. Received: {argv[1:]}")
    try:
        convert(*argv[1:])
    except (ValueError, RuntimeError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    app.run(main)
