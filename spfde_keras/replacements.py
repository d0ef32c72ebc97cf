"""What takes the place of which layer in a model that trains sparse, and in a plain one."""

import warnings
from collections.abc import Collection, Mapping
from typing import Any

import keras

from spfde_keras.copying import Copies
from spfde_keras.layers import masked_class, plain_class
from spfde_keras.layers.base import MASK_ARGUMENTS
from spfde_keras.layers.batch_norm import FusedBatchNormalization
from spfde_keras.layers.relu import fused_class, unfused_class
from spfde_keras.layers.switchable import SwitchableBatchNormalization
from spfde_keras.places import places, sealed_inside, sealed_leaves
from spfde_keras.rebuilding import as_functional, copy_weights, like
from spfde_keras.trainability import copy_trainability

Replacements = dict[keras.layers.Layer, keras.layers.Layer]
"""From layer to what takes its place."""


def rebuild(
    model: keras.Model,
    replacements: Mapping[keras.layers.Layer, keras.layers.Layer],
    sealed: Collection[keras.layers.Layer] | None = None,
) -> keras.Model:
    """Returns the graph of a model with some layers replaced, and all others copied.

    A warning names the layers that learn and cannot be copied: they belong to both models.

    Args:
        model: a functional or Sequential model.
        replacements: from layer to replacement, layers inside of others included.
        sealed: layers that cannot be copied, if they are known already.

    Returns:
        A functional model, without the class, or the compilation, of `model`.
    """
    functional = as_functional(model)
    shared = set(sealed_leaves(functional) if sealed is None else sealed) - set(replacements)
    learning = [layer.name for layer in shared if layer.trainable_variables]
    if learning:
        warnings.warn(
            f"Layers {', '.join(learning)} belong to both models from here on: they hold what "
            "cannot be copied exactly, so what one model learns in them, the other has, too.",
            stacklevel=4,
        )
    return Copies(replacements, shared).graph(functional)


def masked(layer: keras.layers.Layer, **arguments: Any) -> keras.layers.Layer:
    """Returns the masked form of a layer; `arguments` are `scheme` and `sparsity`."""
    cls = masked_class(layer)
    assert cls is not None
    return like(layer, cls, **arguments)


def fused(
    model: keras.Model, subnets: int, sealed: Collection[keras.layers.Layer] = ()
) -> Replacements:
    """Returns what replaces normalizations and ReLUs in a model that trains.

    Raises:
        ValueError: if several sub-nets were to share a BatchNormalization.
    """
    replacements: Replacements = {}
    inside = sealed_inside(sealed)
    for place in places(model):
        layer = place.layer
        within = id(layer) in inside
        normalizes = isinstance(layer, keras.layers.BatchNormalization)
        known = type(layer) in (keras.layers.BatchNormalization, FusedBatchNormalization)
        if normalizes and subnets > 1 and (within or not known):
            raise ValueError(
                "`model` must have each BatchNormalization as a layer of Keras' own class that "
                "can be replaced, so that each of several sub-nets gets one. Received: "
                f"{place.path}, a {type(layer).__name__}"
            )
        if within or not layer.built:
            continue
        if normalizes and known:
            replacements[layer] = (
                like(layer, FusedBatchNormalization) if subnets == 1 else _each(layer, subnets)
            )
        elif (cls := fused_class(layer)) is not None:
            replacements[layer] = like(layer, cls)
    return replacements


def plain(model: keras.Model) -> Replacements:
    """Returns what replaces the layers of ours in a plain model."""
    replacements: Replacements = {}
    for layer in (place.layer for place in places(model)):
        of_keras, unfused = plain_class(layer), unfused_class(layer)
        if of_keras:
            replacements[layer] = like(layer, of_keras, leave_out=MASK_ARGUMENTS)
        elif unfused:
            replacements[layer] = like(layer, unfused)
        elif isinstance(layer, SwitchableBatchNormalization):
            made = keras.layers.BatchNormalization.from_config(layer.get_config()["normalization"])
            made.build_from_config(layer.get_build_config())
            copy_weights(layer, made)
            replacements[layer] = made
        elif isinstance(layer, FusedBatchNormalization):
            replacements[layer] = like(layer, keras.layers.BatchNormalization)
    return replacements


def _each(layer: keras.layers.BatchNormalization, subnets: int) -> keras.layers.Layer:
    made = SwitchableBatchNormalization(subnets, layer.get_config())
    made.build_from_config(layer.get_build_config())
    copy_weights(layer, made)
    copy_trainability(layer, made)
    return made
