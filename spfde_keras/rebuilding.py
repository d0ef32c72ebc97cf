"""The graph of a model, its layers, and layers of another class like those there are."""

import inspect
import warnings
from collections.abc import Collection, Mapping
from typing import Any

import keras
from keras import ops

from spfde_keras import compat
from spfde_keras.layers.switchable import SwitchableBatchNormalization
from spfde_keras.masking import find_masks
from spfde_keras.trainability import copy_trainability


def as_functional(model: keras.Model) -> keras.Model:
    """Returns the graph of `model` as a plain functional model, not compiled.

    That of a subclassed model is a single layer: the model itself.

    Raises:
        ValueError: if `model` is not a model, or its inputs are not known yet.
    """
    if not isinstance(model, keras.Model):
        raise ValueError(f"`model` must be a keras.Model. Received: {type(model).__name__}")
    if isinstance(model, keras.Function):
        return keras.Model(model.input, model.output, name=model.name)
    if isinstance(model, keras.Sequential):
        graph = compat.sequential_graph(model)
        if graph is None:
            raise ValueError("`model` must know its input shape: start it with keras.Input.")
        return keras.Model(graph.input, graph.output, name=model.name)
    return _around(model)


def _around(model: keras.Model) -> keras.Model:
    """A functional model with a subclassed one as its only layer."""
    shapes = model.get_build_config() or {}
    if not model.built or set(shapes) != {"input_shape"}:
        raise ValueError(
            "`model` must have been called once on a batch of its one input (or structure of "
            "inputs), so that its layers and shapes are known. Received: "
            f"{type(model).__name__} {model.name!r}"
            + (f", built for {sorted(shapes.get('shapes_dict', ()))}" if model.built else "")
        )
    looks_up = any(isinstance(x, keras.layers.Embedding) for x in compat.all_layers(model))
    inputs = _inputs(shapes["input_shape"], "int32" if looks_up else None)
    if looks_up and isinstance(inputs, (dict, list)):
        raise ValueError(
            "`model` must say which of its inputs are whole numbers, which a subclassed one with "
            "an Embedding and several inputs does not: call it on keras.Input tensors, and pass "
            f"keras.Model(inputs, outputs). Received: {type(model).__name__} {model.name!r}"
        )
    try:
        outputs = model(inputs)
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            "`model` must take one input (or structure of inputs) of any batch size. Received: "
            f"{type(model).__name__} {model.name!r}, which fails on keras.Input: {reason}"
        ) from error
    return keras.Model(inputs, outputs, name=f"{model.name}_graph")


def _inputs(shape: Any, dtype: str | None) -> Any:
    if isinstance(shape, Mapping):
        return {name: _inputs(one, dtype) for name, one in shape.items()}
    if any(isinstance(extent, (list, tuple, Mapping)) for extent in shape):
        return [_inputs(one, dtype) for one in shape]
    return keras.Input(tuple(shape[1:]), dtype=dtype)


def leaf_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Returns all layers in the graph's order, once each, those of nested models included."""
    return list(paths_of_leaves(model))


def paths_of_leaves(model: keras.Model) -> dict[keras.layers.Layer, str]:
    """Returns `leaf_layers`, each with its path through nested models, such as "backbone/conv1"."""
    leaves: dict[keras.layers.Layer, str] = {}
    for layer in model.layers:
        inner = {layer: ""}
        if compat.is_graph(layer):
            inner = {leaf: f"/{path}" for leaf, path in paths_of_leaves(layer).items()}
        for leaf, path in inner.items():
            leaves.setdefault(leaf, f"{layer.name}{path}")
    return leaves


def like(
    layer: keras.layers.Layer,
    cls: type[Any],
    leave_out: Collection[str] = (),
    **arguments: Any,
) -> keras.layers.Layer:
    """Returns a layer of class `cls` with a layer's arguments, shapes, weights and flags.

    Activations, regularizers and their like are the layer's own objects: they need no
    configuration.

    Args:
        layer: a layer of a Keras class, built or not.
        cls: a class that takes the same arguments.
        leave_out: arguments of the layer that `cls` does not have.
        **arguments: arguments that differ, or that `cls` has in addition.
    """
    config = {name: value for name, value in live_config(layer).items() if name not in leave_out}
    made = cls(**config | arguments)
    if layer.built:
        made.build_from_config(layer.get_build_config())
        copy_weights(layer, made)
        copy_trainability(layer, made)
    return made


def live_config(layer: keras.layers.Layer) -> dict[str, Any]:
    """Returns the arguments of a layer, with its own objects in place of their configurations."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a lambda, which is not written down here
            config = layer.get_config()
    except Exception:
        # An argument that Keras cannot write down, such as a regularizer without `get_config`.
        names = {"name", "trainable", "dtype"}
        for cls in type(layer).__mro__[: type(layer).__mro__.index(keras.layers.Layer)]:
            names.update(inspect.signature(vars(cls).get("__init__", object)).parameters)
        config = {name: None for name in names if _attribute(layer, name) is not None}
    return {name: _live(layer, name, value) for name, value in config.items()}


def _live(layer: keras.layers.Layer, name: str, value: Any) -> Any:
    if name == "dtype":
        return layer.dtype_policy
    found = _attribute(layer, name)
    described = isinstance(value, dict) and "class_name" in value
    if value is None or described or callable(found):
        # A layer inside of this one must not become part of another one as well.
        if found is not None and not isinstance(found, keras.layers.Layer):
            return found
    return keras.saving.deserialize_keras_object(value) if described else value


def _attribute(layer: keras.layers.Layer, name: str) -> Any:
    return getattr(layer, name, getattr(layer, f"_{name}", None))


def copy_weights(source: keras.layers.Layer, target: keras.layers.Layer) -> None:
    """Gives a layer the weights of another, masks folded in, of the sub-net that runs."""
    folded = {id(mask.kernel): mask(mask.kernel) for mask in find_masks(source)}
    if isinstance(source, SwitchableBatchNormalization):
        folded |= zip(map(id, source.variables), source.running, strict=True)
    values = [folded.get(id(variable), variable) for variable in _own_variables(source)]
    for variable, value in zip(_own_variables(target), values, strict=True):
        variable.assign(ops.broadcast_to(value, variable.shape))  # to each sub-net


def _own_variables(layer: keras.layers.Layer) -> list[keras.Variable]:
    masks = {id(variable) for mask in find_masks(layer) for variable in mask.variables}
    return [variable for variable in layer.variables if id(variable) not in masks]
