"""Models rebuilt with some layers replaced; what cannot be copied is taken over as it is."""

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
    """Returns the graph of `model` as a plain functional model, not compiled."""
    if not isinstance(model, keras.Model):
        raise ValueError(f"`model` must be a keras.Model. Received: {type(model).__name__}")
    if isinstance(model, keras.Sequential):
        graph = compat.sequential_graph(model)
        if graph is None:
            raise ValueError("`model` must know its input shape: start it with keras.Input.")
        return keras.Model(graph.input, graph.output, name=model.name)
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


def rebuild(
    model: keras.Model, replacements: Mapping[keras.layers.Layer, keras.layers.Layer]
) -> keras.Model:
    """Returns the graph of a model with some layers replaced, from inputs of its own.

    The outputs of a layer that is in both models are then never mistaken for one another.

    Args:
        model: a functional or Sequential model.
        replacements: from layer to replacement. All other layers are used as they are, and
            belong to both models. A nested model in which something is replaced is rebuilt
            under its own name.

    Returns:
        A functional model, without the class, or the compilation, of `model`.
    """
    rebuilt: dict[int, keras.Operation] = {}

    def operation(layer: keras.Operation) -> keras.Operation:
        # A layer called twice, even in another nested model, must stay one layer.
        if id(layer) not in rebuilt:
            new = replacements.get(layer, layer) if isinstance(layer, keras.Layer) else layer
            if has_graph(layer) and any(leaf in replacements for leaf in leaf_layers(layer)):
                new = graph_of(as_functional(layer))
                new.trainable = layer.trainable
            rebuilt[id(layer)] = new
        return rebuilt[id(layer)]

    def graph_of(function: keras.Model) -> keras.Model:
        inputs = [_input_like(tensor) for tensor in function.inputs]
        outputs = compat.run_graph(function, inputs, operation)
        structure = keras.tree.pack_sequence_as(function.input, inputs)
        return keras.Model(structure, outputs, name=function.name)

    return graph_of(as_functional(model))


def _input_like(tensor: keras.KerasTensor) -> keras.KerasTensor:
    layer = compat.maker(tensor)
    return type(layer).from_config(layer.get_config()).output


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


def independent(layer: keras.layers.Layer) -> keras.layers.Layer | None:
    """Returns an exact copy of a layer, None where there is no sure way to one.

    Sure are the classes of Keras and of this package, whose state is in their arguments and
    variables. Layers of other classes, and those adapted to data, may hold more.
    """
    known = ("keras.", f"{__package__}.")
    if hasattr(layer, "adapt") or not all(
        type(one).__module__.startswith(known) for one in compat.all_layers(layer)
    ):
        return None
    try:
        return like(layer, type(layer))
    except Exception:
        return None  # changed after it was made: quantized, with LoRA, ...


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
    masks = {id(mask.values) for mask in find_masks(layer)}
    return [variable for variable in layer.variables if id(variable) not in masks]
