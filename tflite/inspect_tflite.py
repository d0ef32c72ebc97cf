"""Says whether a .tflite file runs sparse on phones, and correctly; if not, what to change.

python tflite/inspect_tflite.py model.tflite [--json]
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from apps import quiet  # noqa: F401  before TensorFlow is imported

# isort: split
from absl import app, flags

from spfde_keras.export import inspect_tflite

_JSON = flags.DEFINE_boolean("json", False, "print one JSON object")


def main(argv: list[str]) -> None:
    """Runs the command; a bad file ends it with one line and exit code 1.

    Args:
        argv: the program's name and the .tflite file, of any converter.
    """
    if len(argv) != 2:
        raise app.UsageError(f"One .tflite file is needed. Received: {argv[1:]}")
    try:
        report = inspect_tflite(argv[1])
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(json.dumps(report.to_json(), indent=2) if _JSON.value else report)


if __name__ == "__main__":
    app.run(main)
