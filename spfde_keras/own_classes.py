"""Models of users' own classes: what they override is kept, or refused by name."""

import functools
from typing import Any

import keras

from spfde_keras.training import SparseModel

# What a class may override that a model made of its graph alone would lose.
_OVERRIDES = (
    "call",
    "compute_loss",
    "compute_metrics",
    "train_step",
    "test_step",
    "predict_step",
    "compile",
    "fit",
    "evaluate",
    "predict",
    "train_on_batch",
    "test_on_batch",
    "predict_on_batch",
    "make_train_function",
    "make_test_function",
    "make_predict_function",
    "metrics",
)


def overrides(cls: type[keras.Model]) -> list[str]:
    """Returns what a class overrides of `keras.Model`, below Keras' and our own classes.

    Example:

    >>> class Doubled(keras.Model):
    ...     __module__ = "mine"
    ...     def call(self, inputs):
    ...         return 2 * super().call(inputs)
    >>> overrides(Doubled), overrides(keras.Model)
    (['call'], [])
    """
    return [name for name in _OVERRIDES if any(name in vars(one) for one in _own(cls))]


def check_class(model: keras.Model) -> None:
    """Raises ValueError if a model's class cannot be kept, naming what would be lost."""
    lost = overrides(type(model))
    if not isinstance(model, (keras.Function, keras.Sequential)):
        lost = [name for name in lost if name != "call"]  # it is called as it is
    if lost and isinstance(model, keras.Sequential):
        raise ValueError(
            "`model` must be of a class of keras.Model, not of keras.Sequential, where the class "
            "overrides methods, which a model made of its layers would lose. Received: "
            f"{type(model).__name__}, which overrides {', '.join(lost)}; derive it from "
            f"keras.Model and build it as {type(model).__name__}(inputs, outputs)"
        )
    if lost and any("__init__" in vars(one) for one in _own(type(model))):
        raise ValueError(
            "`model` must be of a class without its own `__init__` where the class overrides "
            f"methods, which a model made of its layers would lose. Received: "
            f"{type(model).__name__}, which overrides {', '.join(lost)}; build it as "
            f"{type(model).__name__}(inputs, outputs), or pass what it computes without them, "
            "keras.Model(inputs, outputs)"
        )


def sparse_class(model: keras.Model) -> type[SparseModel]:
    """Returns the class of what is made of `model` to be trained: a `SparseModel` like it."""
    cls = type(model)
    if not _keeps(model) or isinstance(model, SparseModel):
        return SparseModel
    return _combined(cls)  # type: ignore[arg-type]


def plain_class(model: keras.Model) -> type[keras.Model]:
    """Returns the class of a model without what `sparse_class` added."""
    own = [one for one in type(model).__mro__ if one in _own(type(model))]
    return own[0] if own and _keeps(model) else keras.Model


def _keeps(model: keras.Model) -> bool:
    """Whether what is made of a model must be of its class."""
    return isinstance(model, keras.Function) and bool(overrides(type(model)))


@functools.cache
def _combined(cls: Any) -> type[SparseModel]:
    made = type(f"Sparse{cls.__name__}", (SparseModel, cls), {"__module__": cls.__module__})
    keras.saving.register_keras_serializable(cls.__module__.partition(".")[0])(made)
    return made


def _own(cls: type[keras.Model]) -> list[type]:
    """The classes of users among those that a class is derived from."""
    ours = ("keras.", "spfde_keras.")
    return [
        one
        for one in cls.__mro__
        if issubclass(one, keras.Model)
        and not one.__module__.startswith(ours)
        and not issubclass(one, SparseModel)
    ]
