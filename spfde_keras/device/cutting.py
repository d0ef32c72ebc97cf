"""A model in two parts: a frozen one in front, and one that is trained."""

from typing import NamedTuple

import keras

from spfde_keras import checks


class Parts(NamedTuple):
    """Two models that make up one.

    Args:
        prefix: what is frozen, from the model's input to its features; None for no layers.
        tail: what is trained, from features to the model's output.
    """

    prefix: keras.Model | None
    tail: keras.Model


def check_cut(model: keras.Model, cut: str | None) -> None:
    """Raises ValueError unless `cut` is None or the name of a layer."""
    inputs = keras.layers.InputLayer
    names = [layer.name for layer in model.layers if not isinstance(layer, inputs)]
    checks.optional(checks.one_of, "cut", cut, names)


def parts_of(model: keras.Model, cut: str | None) -> Parts:
    """Returns the parts of a model, which have its layers.

    Args:
        model: a functional model of one input and one output.
        cut: the name of the last frozen layer, of those in `check_cut`; None to train them all.

    Raises:
        ValueError: if not all that follows depends on it alone.
    """
    if cut is None:
        return Parts(None, model)
    features = model.get_layer(cut).output
    try:
        parts = Parts(
            keras.Model(model.inputs[0], features), keras.Model(features, model.outputs[0])
        )
    except ValueError:
        parts = None
    if parts is None or _in_both(parts) or not parts.tail.trainable_variables:
        checks.refuse(
            "cut",
            "the name of a layer that everything passes through, and after which layers of their "
            "own are trained",
            cut,
        )
    return parts


def _in_both(parts: Parts) -> bool:
    assert parts.prefix is not None
    return bool({id(v) for v in parts.prefix.variables} & {id(v) for v in parts.tail.variables})
