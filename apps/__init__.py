"""Programs: `python -m apps.train` and `python -m apps.analyze`."""

import os

# Before Keras is imported: the backend in use, and only errors in the log.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
