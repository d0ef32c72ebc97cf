"""Tells whether a .tflite file runs sparse on phones, and right; if not, what to change.

python tflite/inspect.py model.tflite [--json]
"""

import os
import sys

# A script's own folder comes first on the path, where this file would hide the standard library's
# `inspect`; the repository's root belongs there instead.
_FOLDER = os.path.dirname(os.path.abspath(__file__))
if os.path.abspath(sys.path[0]) == _FOLDER:
    sys.path[0] = os.path.dirname(_FOLDER)

# TensorFlow logs to file 2 while it is imported, whatever its log level: an error of this
# program is one line there.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
_console = os.dup(2)
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
try:
    import argparse
    import json

    from spfde_keras.export import inspect_tflite
finally:
    os.dup2(_console, 2)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command; a bad file ends it with one line and exit code 1.

    Args:
        arguments: those of the command line by default.
    """
    parser = argparse.ArgumentParser(prog="python tflite/inspect.py", description=__doc__)
    parser.add_argument("file", help="the .tflite file, of any converter")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    try:
        report = inspect_tflite(options.file)
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(json.dumps(report.to_json(), indent=2) if options.json else report)


if __name__ == "__main__":
    main()
