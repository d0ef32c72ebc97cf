"""Says whether a .tflite file runs sparse on phones, and correctly; if not, what to change.

python tflite/inspect_tflite.py model.tflite [--json]
"""

import os
import sys

# The repository's root takes the place of this folder on the path.
_FOLDER = os.path.dirname(os.path.abspath(__file__))
if os.path.abspath(sys.path[0]) == _FOLDER:
    sys.path[0] = os.path.dirname(_FOLDER)

# At any log level TensorFlow logs to file 2 while it is imported; only errors of this program
# belong there.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
_console = os.dup(2)
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
try:
    import json

    from absl import app, flags

    from spfde_keras.export import inspect_tflite
finally:
    os.dup2(_console, 2)

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
