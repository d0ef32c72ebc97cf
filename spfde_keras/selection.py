"""Which layers of a model stay dense."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import keras
import numpy as np

from spfde_keras import compat
from spfde_keras.graph import trace
from spfde_keras.layers import masked_class
from spfde_keras.places import Place, sealed_inside

Selector: TypeAlias = str | keras.layers.Layer | Callable[[keras.layers.Layer], bool]
Places = Mapping[str, Place]
"""Layers that have kernels by name, as `kernel_places` returns them."""


def layers_left_dense(
    model: keras.Model,
    found: Places,
    dense: Selector | Iterable[Selector],
    sealed: Mapping[keras.layers.Layer, str],
) -> dict[str, str]:
    """Returns the names of the layers, or of some of their kernels, that stay dense, and why.

    Args:
        model: the functional model.
        found: its layers with kernels.
        dense: what to leave dense, as in `sparsify`.
        sealed: layers of the graph that nothing can be replaced in, and why.

    Raises:
        ValueError: if a selector matches no layer.
    """
    inside = sealed_inside(sealed)
    reasons = {}
    for name, place in found.items():
        leaf = inside.get(id(place.layer))
        why = _obstacle(place.layer)
        if leaf is not None and not why:
            why = f"inside {leaf.name}, which cannot be copied: {sealed[leaf]}"
        if why:
            reasons[name] = why
    alone = isinstance(dense, (str, keras.layers.Layer)) or callable(dense)
    selectors: Any = [dense] if alone or not np.iterable(dense) else list(dense)
    for selector in selectors:
        chosen, reason = _select(model, found, selector)
        for name in chosen:
            reasons.setdefault(name, reason)
    return reasons


def _obstacle(layer: keras.layers.Layer) -> str:
    """Why a layer stays dense whatever is asked for; "" where it need not."""
    if getattr(layer, "quantization_mode", None):
        return f"quantized to {layer.quantization_mode}"
    if getattr(layer, "lora_enabled", False):
        return "its kernel has LoRA"
    if not masked_class(layer):
        inside = compat.sublayers(layer)
        return "weights of its own" if inside else f"{type(layer).__name__} has no masked form"
    return ""


def _select(model: keras.Model, found: Places, selector: Selector) -> tuple[list[str], str]:
    if isinstance(selector, keras.layers.Layer):
        chosen = [name for name, place in found.items() if selector in (place.layer, place.leaf)]
        if not chosen:
            raise ValueError(
                "`dense` must hold layers of the model that have kernels. Received: "
                f"{selector.name!r}, a {type(selector).__name__}"
            )
        return chosen, "given in `dense`"
    if callable(selector) and not isinstance(selector, type):
        chosen = [name for name, place in found.items() if selector(place.layer)]
        return chosen, "chosen by a callable in `dense`"
    if selector == "first":
        convolutions = [name for name, p in found.items() if "Conv" in type(p.layer).__name__]
        return convolutions[:1], "first convolution"
    if selector == "depthwise":
        return _depthwise(found), "depthwise"
    if selector == "last":
        return _classifiers(model, found), "classifier (last layer)"
    chosen = [name for name, place in found.items() if _matches(selector, place)]
    if not chosen:
        raise ValueError(
            "`dense` must match layers that have kernels, by name, regular expression or "
            f"callable. Received: {selector!r}; the layers are {list(found)}"
        )
    return chosen, f"matches {selector!r} in `dense`"


def _depthwise(found: Places) -> list[str]:
    """The names of depthwise layers, and of the depthwise kernels of separable ones."""
    chosen: list[str] = []
    for name, place in found.items():
        cls = masked_class(place.layer)
        kernels = getattr(cls, "depthwise_weights", ())
        alone = kernels and kernels == getattr(cls, "masked_weights", ())
        chosen += [name] if alone else [f"{name}/{kernel}" for kernel in kernels]
    return chosen


def _matches(selector: Any, place: Place) -> bool:
    """Whether a selector is, or matches, a layer's name, its path, or that of what is around it."""
    parts = place.path.split("/")
    around = ("/".join(parts[: end + 1]) for end in range(len(parts)))
    try:
        return any(
            selector == name or re.fullmatch(selector, name) for name in (place.name, *around)
        )
    except (re.error, TypeError):
        return False


def _classifiers(model: keras.Model, found: Places) -> list[str]:
    """For each output those that are nearest to it; inside a layer, the last one made in it."""
    last = {id(place.leaf): name for name, place in found.items()}
    graph = trace(model)
    producers = {id(tensor): call for call in graph.calls for tensor in call.outputs}
    chosen: list[str] = []
    for output in graph.outputs:
        nearest: list[str] = []
        tensors = [output]
        while tensors and not nearest:
            calls = [producers[id(tensor)] for tensor in tensors if id(tensor) in producers]
            nearest = [last[id(call.layer)] for call in calls if id(call.layer) in last]
            tensors = list({id(x): x for call in calls for x in call.inputs}.values())
        chosen += nearest
    return chosen
