"""What `fit` does with the callbacks it is given, before work starts."""

import inspect
from collections.abc import Sequence
from typing import Any

import keras

from spfde_keras import compat


def bound_fit(model: keras.Model, args: tuple, kwargs: dict) -> inspect.BoundArguments:
    """Returns the arguments of `fit` by name, with its callbacks arranged."""
    bound = inspect.signature(keras.Model.fit).bind(model, *args, **kwargs)
    callbacks = bound.arguments.get("callbacks")
    if callbacks is not None and not isinstance(callbacks, keras.callbacks.CallbackList):
        callbacks = arranged(keras.tree.flatten(callbacks))
        bound.arguments["callbacks"] = callbacks
        sieving = [one for one in callbacks if leads(one) and one.sieve is not None]
        for callback in sieving:
            # Given to Keras, an iteration would go on over several epochs, past updates.
            callback.most_steps = bound.arguments.get("steps_per_epoch")
            bound.arguments["steps_per_epoch"] = None
    return bound


def arranged(callbacks: Sequence[keras.callbacks.Callback]) -> list[keras.callbacks.Callback]:
    """Returns callbacks in an order that works, those of sparse training first.

    What saves, logs or stops must see masks as a boundary left them. What keeps the state of a run
    comes last, so that it keeps what others have changed.

    Raises:
        ValueError: if one of them could not do its work when its time comes.

    Example:

    >>> stop = keras.callbacks.EarlyStopping()
    >>> [type(one).__name__ for one in arranged([stop, spfde_keras.SpFDE(2)])]
    ['SpFDE', 'EarlyStopping']
    """
    for callback in callbacks:
        if isinstance(callback, keras.callbacks.ModelCheckpoint):
            check_file(callback.filepath)
        elif isinstance(callback, keras.callbacks.TensorBoard):
            compat.draw_booleans(callback)
    return sorted(callbacks, key=lambda callback: (keeps(callback), not leads(callback)))


def leads(callback: Any) -> bool:
    """Returns whether a callback trains the model, and so comes first."""
    return getattr(callback, "trains_sparse", False)


def keeps(callback: Any) -> bool:
    """Returns whether a callback keeps the state of a run, and so comes last."""
    return getattr(callback, "keeps_states", False)


def check_file(path: Any) -> None:
    """Raises ValueError for a file of a format that cannot hold masks."""
    name = str(path)
    if name.endswith((".h5", ".hdf5", ".keras.h5")) and not name.endswith(".weights.h5"):
        raise ValueError(
            "Models with masks are saved to .keras files, their weights also to .weights.h5. "
            f"Received: {name}"
        )
