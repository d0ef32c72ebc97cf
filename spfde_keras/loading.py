"""Saved models, loaded with the classes of this package known."""

import os
from collections.abc import Mapping
from typing import Any

import keras

from spfde_keras import checks


def load_model(
    filepath: str | os.PathLike[str],
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = True,
    safe_mode: bool = True,
) -> keras.Model:
    """Loads a model saved by `model.save`: `keras.models.load_model`, with our classes known.

    `import spfde_keras` makes them known, so that `keras.models.load_model` does as well after it.
    Where nothing has imported the package, Keras says "Could not locate class 'SparseModel'",
    or names a masked layer.

    Args:
        filepath: the .keras file.
        custom_objects: dictionary, classes or functions of your own by name, where they are not
            registered.
        compile: bool, whether to compile the model as it was when it was saved.
        safe_mode: bool, whether to refuse files with Python code (Lambda layers).

    Returns:
        The model, with its masks.

    Raises:
        ValueError: if the file is missing or not a model, as in Keras.

    Example:

    >>> model.save("model.keras")
    >>> loaded = load_model("model.keras")
    >>> x = np.ones((2, 8, 8, 1))
    >>> np.array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    True
    """
    checks.path("filepath", filepath, "the path of a .keras file")
    if custom_objects is not None:
        checks.instance("custom_objects", custom_objects, Mapping, "None or a dictionary")
    compile, safe_mode = checks.switch("compile", compile), checks.switch("safe_mode", safe_mode)
    return keras.saving.load_model(filepath, custom_objects, compile, safe_mode)
