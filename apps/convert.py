"""Writes a saved Keras model as a TFLite file.

    spfde convert model.keras model.tflite --precision=float16
    spfde convert model.keras model.tflite --mobile  # must run sparse on phones

A file is written only if it loads and agrees with the model.
"""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from . import program

if TYPE_CHECKING:
    import keras  # otherwise imported with TensorFlow, for which `--help` need not wait

PRECISIONS = ("float32", "float16", "int8_dynamic", "int8_full")
"""The names of those of the library."""


@dataclasses.dataclass(frozen=True)
class Options(program.Options):
    """The options of the program."""

    source: str | None = program.option(None, "the .keras file", positional=True, read=True)
    target: str | None = program.option(
        None, "the .tflite file", positional=True, written=True, ending=".tflite"
    )
    precision: str = program.option("float32", "how numbers are stored", choices=PRECISIONS)
    sparse: bool | None = program.option(
        None, "store weights sparse; if unset, where the precision allows it"
    )
    mobile: bool = program.option(
        False, "rewrite the model to an equal one that runs sparse on phones, or fail"
    )
    representative_data: str | None = program.option(
        None, ".npy file of samples, which int8_full needs", read=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.target is None:
            received = self.source or "none"
            raise ValueError(f"A .keras and a .tflite file are needed. Received: {received}")
        if self.precision == "int8_full" and self.representative_data is None:
            raise ValueError("`representative_data` must be given with --precision=int8_full.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status, as of `program.run`."""
    return program.run(_convert, Options, __doc__, arguments)


def _convert(options: Options) -> None:
    import numpy as np

    arguments = dataclasses.asdict(options)
    source, target = arguments.pop("source"), arguments.pop("target")
    data = arguments["representative_data"]
    if data is not None:
        arguments["representative_data"] = _read(data, np.load, "a .npy file of numbers")
    from spfde_keras.export import export_tflite  # with TensorFlow, which takes seconds

    model = _read(source, _load_model, "a .keras file of this version")
    print(export_tflite(model, target, **arguments))


def _load_model(path: str) -> "keras.Model":
    import spfde_keras

    return spfde_keras.load_model(path, compile=False)


def _read(path: str, load: Callable[[str], Any], kind: str) -> Any:
    try:
        return load(path)
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path} is not {kind}: {reason}") from error


if __name__ == "__main__":
    sys.exit(main())
