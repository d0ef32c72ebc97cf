"""Copies of models with some layers replaced."""

from collections.abc import Callable

import keras
from keras import ops

from spfde_keras import compat
from spfde_keras.layers.switchable import SwitchableBatchNormalization
from spfde_keras.masking import find_masks


def as_functional(model: keras.Model) -> keras.Model:
    """Returns the graph of `model` as a plain functional model, not compiled."""
    if not isinstance(model, keras.Model):
        raise ValueError(f"`model` must be a keras.Model. Received: {type(model).__name__}")
    if isinstance(model, keras.Sequential):
        graph = compat.sequential_graph(model)
        if graph is None:
            raise ValueError("`model` must know its input shape: start it with keras.Input.")
        return as_functional(graph)
    if not has_graph(model):
        raise ValueError(
            "`model` must be functional or Sequential; a subclassed model can use the masked "
            f"layers of spfde_keras.layers directly. Received: {type(model).__name__}"
        )
    return keras.Model(model.input, model.output, name=model.name)


def has_graph(layer: keras.Operation) -> bool:
    """Returns whether a layer is itself a model of known layers."""
    return isinstance(layer, (keras.Sequential, keras.Function))


def leaf_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Returns all layers in the graph's order, once each, those of nested models included."""
    leaves: dict[keras.layers.Layer, None] = {}
    for layer in model.layers:
        leaves |= dict.fromkeys(leaf_layers(layer) if has_graph(layer) else [layer])
    return list(leaves)


def same_layer(layer: keras.layers.Layer) -> keras.layers.Layer:
    """Returns a layer like this one, without its weights."""
    # The code of a Lambda comes from this process, not from a file: it is safe to run.
    trusted = {"safe_mode": False} if isinstance(layer, keras.layers.Lambda) else {}
    return type(layer).from_config(layer.get_config(), **trusted)


def clone_with(
    convert: Callable[[keras.layers.Layer], keras.layers.Layer], model: keras.Model
) -> tuple[keras.Model, dict]:
    """Returns a copy of a model with its weights, and a dictionary from layer to copy.

    Args:
        convert: function from a layer to its replacement, which has the same weights. Only
            masks, which are folded in, and sub-nets of batch normalization may differ.
        model: a functional or Sequential model.
    """
    copies: dict[keras.layers.Layer, keras.layers.Layer] = {}

    def copy(layer: keras.Operation) -> keras.Operation:
        if not isinstance(layer, keras.layers.Layer):
            return layer  # an operation such as `+`, which owns nothing
        # A layer called twice, even in another nested model, must stay one layer.
        if layer not in copies:
            copies[layer] = clone(layer) if has_graph(layer) else convert(layer)
        return copies[layer]

    def clone(model: keras.Model) -> keras.Model:
        return keras.models.clone_model(as_functional(model), clone_function=copy)

    cloned = clone(model)
    for source, target in copies.items():
        if not has_graph(source):
            _copy_weights(source, target)
    return cloned, copies


def _copy_weights(source: keras.layers.Layer, target: keras.layers.Layer) -> None:
    folded = {id(mask.kernel): mask(mask.kernel) for mask in find_masks(source)}
    if isinstance(source, SwitchableBatchNormalization):
        folded |= zip(map(id, source.variables), source.running, strict=True)
    values = [folded.get(id(variable), variable) for variable in _own_variables(source)]
    for variable, value in zip(_own_variables(target), values, strict=True):
        variable.assign(ops.broadcast_to(value, variable.shape))  # to each sub-net


def _own_variables(layer: keras.layers.Layer) -> list[keras.Variable]:
    masks = {id(mask.values) for mask in find_masks(layer)}
    return [variable for variable in layer.variables if id(variable) not in masks]
