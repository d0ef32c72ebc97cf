"""Refuses, in one line, to go on without TensorFlow as Keras' backend; imported before the rest."""

import importlib.util

if importlib.util.find_spec("tensorflow") is None:
    raise ModuleNotFoundError(
        "spfde_keras needs TensorFlow: pip install tensorflow (tensorflow-cpu is smaller, "
        "tensorflow[and-cuda] is for GPUs)",
        name="tensorflow",
    )

try:
    import keras

    _backend = keras.backend.backend()
except ModuleNotFoundError as error:  # of the backend that is chosen, which Keras imports
    _backend = f"one that needs {error.name}, which is not installed"

if _backend != "tensorflow":
    raise ImportError(
        "spfde_keras works with Keras' backend TensorFlow only: set KERAS_BACKEND=tensorflow "
        f"before Keras is imported. Received: {_backend}"
    )
