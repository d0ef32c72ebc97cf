"""What was learned on a device, back in the model."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from spfde_keras import checks
from spfde_keras.device import shares, trainable
from spfde_keras.device.contents import Stored, contents_of
from spfde_keras.device.cutting import check_cut, parts_of
from spfde_keras.device.state import is_of, is_whole, of_model
from spfde_keras.masking import find_masks
from spfde_keras.sparsify import densify
from spfde_keras.updaters.base import UpdaterLike

_KIND = "what `save` gave: finite float32 numbers (numbers,)"
_WHOLE = "whole, as `save` gave it"
_MODEL = "of a file of this model, of the same `cut` and `updater`"
_PLACES = "undamaged: each weight that it keeps has a place of its own"


def load_device_state(
    model: keras.Model, state: Any, cut: str | None = None, updater: UpdaterLike = None
) -> None:
    """Gives a model the weights, masks and statistics of a state saved on a device.

    Slots of the optimizer stay where they are. The model is the one that was exported, or one
    made like it: with the same layers, as many kept weights, and the same frozen weights.

    Args:
        model: what was passed to `export_trainable_tflite`; it is changed.
        state: float32 array (numbers,), as `save` gave it.
        cut, updater: as they were passed to `export_trainable_tflite`.

    Raises:
        ValueError: if the state is damaged or of another model; nothing has been changed then.

    Example:

    >>> _ = export_trainable_tflite(
    ...     model, "trainable.tflite", "sgd", "sparse_categorical_crossentropy", batch_size=4)
    >>> from ai_edge_litert.interpreter import Interpreter
    >>> app = Interpreter("trainable.tflite")
    >>> load_device_state(model, app.get_signature_runner("save")()["state"])
    """
    graph = trainable.checked_graph(model)
    state = _checked(state)
    check_cut(graph, cut)
    contents = contents_of(model, parts_of(densify(model), cut), shares.get(updater))
    if not is_of(state, contents.about):
        given = f"cut={cut!r} and updater={updater!r}"
        raise ValueError(f"`state` must be {_MODEL}. Received: that of another one, {given}")
    if not is_whole(state):
        raise ValueError(f"`state` must be {_WHOLE}. Received: {state.size} numbers")
    shapes = {name: value.shape for name, value in contents.initial.items()}
    values = of_model(state, shapes)
    masks = {mask.kernel_path: mask for mask in find_masks(model)}
    own = {v.path: v for v in model.variables}
    packed = [one for one in contents.stored if one.places is not None]
    unpacked = [(masks[one.variable.path], *_unpacked(one, values)) for one in packed]
    places = [values[one.name_of_places] for one in packed]
    rooms = [np.count_nonzero(at == one.nowhere) for at, one in zip(places, packed, strict=True)]
    counts = [np.count_nonzero(kept) for _, _, kept in unpacked]
    if [sum(pair) for pair in zip(counts, rooms, strict=True)] != [one.size for one in packed]:
        checks.refuse("state", _PLACES, state)
    for mask, kernel, kept in unpacked:
        mask.write(kernel, kept[None])
    for one in contents.stored:
        if one.places is None:
            own[one.variable.path].assign(values[one.name])
    for name, variable in contents.statistics.items():
        own[variable.path].assign(values[name])


def _unpacked(one: Stored, values: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """A kernel and which of its weights are kept: too few where places are damaged."""
    shape = tuple(one.variable.shape)
    kernel, kept = np.zeros(one.nowhere, "float32"), np.zeros(one.nowhere, bool)
    places = values[one.name_of_places]
    inside = (places >= 0) & (places < kernel.size)
    at = places[inside].astype("int64")
    kernel[at], kept[at] = values[one.name][inside], True
    return kernel.reshape(shape), kept.reshape(shape)


def _checked(state: Any) -> np.ndarray:
    try:
        state = np.asarray(state)
    except (ValueError, TypeError):
        checks.refuse("state", _KIND, state)
    if state.dtype != "float32" or state.ndim != 1 or not np.all(np.isfinite(state)):
        checks.refuse("state", _KIND, state)
    return state
