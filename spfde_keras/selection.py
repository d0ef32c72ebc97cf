"""Which layers of a model stay dense."""

import collections
import re
from collections.abc import Callable, Iterable
from typing import TypeAlias

import keras

from spfde_keras.graph import trace
from spfde_keras.layers import masked_class
from spfde_keras.rebuilding import leaf_layers

Selector: TypeAlias = str | keras.layers.Layer | Callable[[keras.layers.Layer], bool]


def kernel_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Returns the layers that have kernels, those of nested models included.

    Raises:
        ValueError: if two of them have the same name.
    """
    layers = [layer for layer in leaf_layers(model) if masked_class(layer) or _owns_kernel(layer)]
    _check_names(layers)
    return layers


def _owns_kernel(layer: keras.layers.Layer) -> bool:
    return any(len(variable.shape) > 1 for variable in layer.weights)


def _check_names(layers: list[keras.layers.Layer]) -> None:
    counts = collections.Counter(layer.name for layer in layers)
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        raise ValueError(
            "`model` must give its layers distinct names, nested ones included. "
            f"Received more than once: {repeated}"
        )


def layers_left_dense(
    model: keras.Model, layers: list[keras.layers.Layer], dense: Selector | Iterable[Selector]
) -> dict[str, str]:
    """Returns the names of the `layers` that stay dense, and why.

    Args:
        model: the functional model.
        layers: its layers with kernels, as `kernel_layers` returns them.
        dense: what to leave dense, as in `sparsify`.

    Raises:
        ValueError: if a selector matches no layer.
    """
    reasons = {layer.name: reason for layer in layers if (reason := _cannot_be_masked(layer))}
    for selector in (
        dense if isinstance(dense, Iterable) and not isinstance(dense, str) else [dense]
    ):
        found, reason = _select(model, layers, selector)
        for layer in found:
            reasons.setdefault(layer.name, reason)
    return reasons


def _cannot_be_masked(layer: keras.layers.Layer) -> str:
    """Why a layer stays dense whatever is asked for; "" where it need not."""
    if getattr(layer, "quantization_mode", None):
        return f"quantized to {layer.quantization_mode}"
    if getattr(layer, "lora_enabled", False):
        return "its kernel has LoRA"
    return "" if masked_class(layer) else f"{type(layer).__name__} has no masked form"


def _select(
    model: keras.Model, layers: list[keras.layers.Layer], selector: Selector
) -> tuple[list[keras.layers.Layer], str]:
    if isinstance(selector, keras.layers.Layer):
        if selector not in layers:
            raise ValueError(
                "`dense` must hold layers of the model that have kernels. Received: "
                f"{selector.name!r}, a {type(selector).__name__}"
            )
        return [selector], "given in `dense`"
    if callable(selector):
        return list(filter(selector, layers)), "chosen by a callable in `dense`"
    if selector == "first":
        convolutions = [layer for layer in layers if "Conv" in type(layer).__name__]
        return convolutions[:1], "first convolution"
    if selector == "last":
        return _classifiers(model, layers), "classifier (last layer)"
    found = [layer for layer in layers if _matches(selector, layer.name)]
    if not found:
        raise ValueError(
            "`dense` must match layers that have kernels, by name, regular expression or "
            f"callable. Received: {selector!r}; the layers are {[x.name for x in layers]}"
        )
    return found, f"matches {selector!r} in `dense`"


def _matches(selector: str, name: str) -> bool:
    try:
        return selector == name or re.fullmatch(selector, name) is not None
    except (re.error, TypeError):
        return False


def _classifiers(model: keras.Model, layers: list) -> list[keras.layers.Layer]:
    """Those of `layers` that are nearest to each output."""
    graph = trace(model)
    producers = {id(tensor): call for call in graph.calls for tensor in call.outputs}
    found: list[keras.layers.Layer] = []
    for output in graph.outputs:
        nearest: list[keras.layers.Layer] = []
        tensors = [output]
        while tensors and not nearest:
            calls = [producers[id(tensor)] for tensor in tensors if id(tensor) in producers]
            nearest = [call.layer for call in calls if call.layer in layers]
            tensors = list({id(x): x for call in calls for x in call.inputs}.values())
        found += nearest
    return found
