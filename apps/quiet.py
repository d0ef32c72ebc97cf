"""Keeps TensorFlow's log off the console; to be imported before anything that imports TensorFlow.

`import apps` does so. An error of a program is then the only line on stderr.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# While it is imported, TensorFlow logs to file 2 whatever its log level.
_console = os.dup(2)
_nowhere = os.open(os.devnull, os.O_WRONLY)
os.dup2(_nowhere, 2)
try:
    import tensorflow  # noqa: F401
finally:
    os.dup2(_console, 2)
    os.close(_console)
    os.close(_nowhere)
