"""Says whether a .tflite file runs sparse on phones, and correctly; if not, what to change.

    spfde inspect model.tflite [--json]

The file may be of any converter.
"""

import dataclasses
import json
import sys
from collections.abc import Sequence

from . import program


@dataclasses.dataclass(frozen=True)
class Options(program.Options):
    """The options of the program."""

    file: str | None = program.option(None, "the .tflite file", positional=True, read=True)
    json: bool = program.option(False, "print one JSON object")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.file is None:
            raise ValueError("One .tflite file is needed. Received: none")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status, as of `program.run`."""
    return program.run(_inspect, Options, __doc__, arguments)


def _inspect(options: Options) -> None:
    from spfde_keras.export import inspect_tflite  # with TensorFlow, as in `train`

    assert options.file is not None
    report = inspect_tflite(options.file)
    print(json.dumps(report.to_json(), indent=2) if options.json else report)


if __name__ == "__main__":
    sys.exit(main())
