"""What inputs and outputs of a model are called in its file."""

import keyword
import re
from collections.abc import Iterable
from typing import Any

import keras

TRACED = "model"
"""The outermost scope in a file: no number ends it, as of what is traced in scopes opened twice."""


def input_names(model: keras.Model) -> list[str]:
    """Returns the names of a model's inputs in the file, in the model's order.

    They are the inputs' own, made identifiers that differ in more than case, as TensorFlow asks;
    an unnamed input, which Keras numbers differently in every process, is input_0, input_1, ...

    Args:
        model: the functional or Sequential model.
    """
    own = [tensor.name for tensor in model.inputs]
    wished = [_identifier(name) or f"input_{i}" for i, name in enumerate(own)]
    # A name that needs no change is not taken by another.
    order = sorted(range(len(own)), key=lambda i: (wished[i] != own[i], _is_unnamed(own[i])))
    unique = _unique((wished[i] for i in order), str.lower)
    return [name for _, name in sorted(zip(order, unique, strict=True))]


def named_outputs(outputs: Any) -> dict[str, Any]:
    """Returns what a model gives by the names it has in the file.

    They are the keys of a dictionary, or output_0, output_1, ...; in nested outputs the keys and
    positions on the way there, as in output_1_0.

    Args:
        outputs: a tensor or any structure of them.
    """
    paths, leaves = _flat(outputs)
    return dict(zip(_output_names(paths, isinstance(outputs, dict)), leaves, strict=True))


def renamed(model: keras.Model) -> dict[str, str]:
    """Returns the names in the file of what is called otherwise in the model.

    Args:
        model: the functional or Sequential model.

    Returns:
        Names in the file by the names of inputs, without unnamed ones, and by the ways to nested
        outputs, as in "scores/0".
    """
    own = [tensor.name for tensor in model.inputs]
    inputs = {a: b for a, b in zip(own, input_names(model), strict=True) if not _is_unnamed(a)}
    outputs = model.outputs[0] if isinstance(model, keras.Sequential) else model.output
    paths, _ = _flat(outputs)
    names = _output_names(paths, isinstance(outputs, dict))
    nested = {"/".join(path): name for path, name in zip(paths, names, strict=True) if path[1:]}
    return {was: name for was, name in (inputs | nested).items() if was != name}


def _identifier(name: str) -> str:
    """Returns the name as an argument of a TensorFlow function; "" if nothing is left of it."""
    if _is_unnamed(name):
        return ""
    name = re.sub(r"[^A-Za-z0-9_]", "_", name).lstrip("_")
    return f"{name}_" if keyword.iskeyword(name) or name == "self" else name


def _is_unnamed(name: str) -> bool:
    return re.fullmatch(r"(keras_tensor|input_layer)(_\d+)?", name) is not None


def _flat(outputs: Any) -> tuple[list[tuple[str, ...]], list[Any]]:
    flat = [(p, leaf) for p, leaf in keras.tree.flatten_with_path(outputs) if leaf is not None]
    return [tuple(map(str, path)) for path, _ in flat], [leaf for _, leaf in flat]


def _output_names(paths: Iterable[tuple[str, ...]], by_key: bool) -> list[str]:
    start = () if by_key else ("output",)
    return _unique("_".join([*start, *(path or ("0",))]) for path in paths)


def _unique(names: Iterable[str], key: Any = str) -> list[str]:
    """Numbers those that are there already."""
    found: dict[str, str] = {}
    for name in names:
        free, number = name, 0
        while key(free) in found:
            number += 1
            free = f"{name}_{number}"
        found[key(free)] = free
    return list(found.values())
