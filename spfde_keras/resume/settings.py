"""What a run is made of beside its model: it must be the same where the run is resumed."""

import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Set
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from spfde_keras import compat
from spfde_keras.masking import Mask
from spfde_keras.places import numbered

UNKNOWN = "unknown"
"""Stands for what cannot be told: it differs from nothing."""

# Modules may be renamed, random seeds are part of the state, the last two follow from the rest.
_PASSED_OVER = {
    *("build_config", "compile_config", "module", "registered_name"),
    *("seed", "left_dense", "paths"),
}
_UNNAMED = ("config", "layers", "inside")
_LONGEST = 80


def settings(model: keras.Model) -> dict[str, str]:
    """Returns the settings of the sparse training that a model is in, by name; {} in none."""
    monitor = getattr(model, "monitor", None)
    callback = getattr(monitor, "callback", None)
    if callback is None:
        return {}
    found = {
        "callback": type(callback).__name__,
        "epochs": callback.epochs,
        "interval": callback.interval,
        "updater": callback.updater,
        "seed": callback.seed,
        "data_stop": callback.timeline.data_stop,
    }
    if callback.timeline.update_steps is not None:  # states of earlier versions do not know it
        found["update_steps"] = callback.timeline.update_steps
    if callback.freezing is not None:
        found |= {f"freeze.{name}": value for name, value in vars(callback.freezing).items()}
    if callback.sieve is not None:
        found |= {"sieve.policy": callback.sieve.policy, "sieve.seed": callback.sieve.seed}
    return {name: _text(value) for name, value in found.items()}


def check_same(
    before: Mapping[str, str],
    now: Mapping[str, str],
    made_of: Mapping[str, Any] | None = None,
    is_of: Mapping[str, Any] | None = None,
) -> None:
    """Raises `ValueError` naming the settings in which a run differs from the one before.

    Args:
        before, now: settings.
        made_of, is_of: configurations, or None where one is not known.

    >>> check_same({"epochs": "6", "seed": "0"}, {"epochs": "7", "seed": "0"})
    Traceback (most recent call last):
    ValueError: A run must be resumed with the same settings. Received: epochs was 6, is 7
    """
    changed = [
        f"{name} was {before.get(name)}, is {now.get(name)}"
        for name in dict.fromkeys([*before, *now])
        if before.get(name) != now.get(name)
    ]
    if made_of is not None and is_of is not None:
        # Each part's first: others mostly follow from it.
        parts = dict.fromkeys([*made_of, *is_of])
        found = (first_difference(made_of.get(part), is_of.get(part), part) for part in parts)
        changed += filter(None, found)
    if changed:
        raise ValueError(
            f"A run must be resumed with the same settings. Received: {'; '.join(changed)}"
        )


def configuration(model: keras.Model, arguments: Mapping[str, Any] | None = None) -> dict:
    """Returns what the model and its training are made of, as JSON can write it.

    To be called as training begins: callbacks may change the optimizer's rate later.

    Args:
        model: a built model.
        arguments: None, or those of `fit` by name, as far as they are known.
    """
    sieve, compiled = getattr(model, "sieve", None), _described(model.get_compile_config, {})
    found = {
        "model": _model(model),
        "optimizer": _optimizer(model.optimizer),
        "loss": _plain(_serialized(getattr(model, "loss", None)), {}, {"name"}),
        "loss_weights": (compiled or {}).get("loss_weights", UNKNOWN),
        "fit": _of_fit(arguments or {}),
    }
    if sieve is not None:
        removed = f"{sieve.queue.shape[0]} of {sieve.total} samples"
        found["sieve"] = {"fraction": removed, "batch_size": max(sieve.batch_sizes)}
    return json.loads(json.dumps(found, default=_text))


def _of_fit(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What of the arguments of `fit` decides which batches a step trains."""
    if not arguments:
        return {}
    x = arguments.get("x")
    given = {name: arguments.get(name) for name in ("class_weight", "steps_per_epoch")}
    arrays = next(iter(keras.tree.flatten(x)), None)
    if isinstance(arrays, (np.ndarray, tf.Tensor)):
        given |= {
            "samples": len(arrays),
            "batch_size": arguments.get("batch_size") or 32,
            "validation_split": arguments.get("validation_split") or 0.0,
            "shuffle": bool(arguments.get("shuffle", True)),
        }
    return given


def _model(model: keras.Model) -> Any:
    described = {"config": _described(lambda: keras.saving.serialize_keras_object(model), {})}
    shown = set(map(id, _in_graphs(model))) if described["config"] else {id(model)}
    # Also what is inside of layers of the user's, which may not describe themselves.
    described["inside"] = [
        _serialized(layer)
        for layer in compat.all_layers(model)
        if id(layer) not in shown and not isinstance(layer, Mask)
    ]
    return _plain(described, numbered(_names(described)))


def _in_graphs(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    yield layer
    if compat.is_graph(layer):
        for inner in layer.layers:
            yield from _in_graphs(inner)


def _optimizer(optimizer: keras.optimizers.Optimizer | None) -> Any:
    described = _plain(_serialized(optimizer), {}, {"name"})
    if optimizer is not None and int(optimizer.iterations.numpy()):
        # The rate of an optimizer in use is where callbacks have brought it.
        inner = described.get("config", {})
        inner.get("inner_optimizer", {"config": inner})["config"]["learning_rate"] = UNKNOWN
    return described


def _serialized(value: Any) -> Any:
    """The configuration of an object; its class alone where it cannot be had."""
    kind = {"class_name": getattr(value, "__name__", type(value).__name__)}
    return _described(lambda: keras.saving.serialize_keras_object(value), kind)


def _described(describe: Callable[[], Any], otherwise: Any) -> Any:
    try:
        return describe()
    except Exception:  # of objects of the user's, which may not have thought of it
        return otherwise


def _names(described: Any) -> Iterator[str]:
    if isinstance(described, Mapping):
        config = described.get("config")
        if isinstance(config, Mapping) and isinstance(config.get("name"), str):
            yield config["name"]
        described = list(described.values())
    if isinstance(described, (list, tuple)):
        for one in described:
            yield from _names(one)


def _plain(value: Any, names: Mapping[str, str], without: Set[str] = frozenset()) -> Any:
    """A configuration without what may differ, and with other names of layers."""
    if isinstance(value, Mapping):
        if value.get("class_name") == "__lambda__":  # compiled code, with line numbers
            return "lambda"
        return {
            str(key): _plain(item, names, without)
            for key, item in value.items()
            if key not in _PASSED_OVER | without
        }
    if isinstance(value, (list, tuple)):
        return [_plain(item, names, without) for item in value]
    if isinstance(value, str):  # it may be a path
        return "/".join(names.get(part, part) for part in value.split("/"))
    return value


def first_difference(before: Any, now: Any, path: str = "") -> str | None:
    """Returns where two configurations differ first, and how; None if they are the same.

    >>> first_difference({"fit": {"batch_size": 16}}, {"fit": {"batch_size": 8}})
    'fit.batch_size was 16, is 8'
    """
    if before == now or UNKNOWN in (before, now):
        return None
    if isinstance(before, dict) and isinstance(now, dict):
        pairs = [(key, before.get(key), now.get(key)) for key in dict.fromkeys([*before, *now])]
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        pairs = [(_name(one, index), one, now[index]) for index, one in enumerate(before)]
    elif isinstance(before, list) and isinstance(now, list) and max(map(len, (before, now))) > 4:
        return f"{path} had {len(before)} parts, has {len(now)}"
    else:
        return f"{path} was {_short(before)}, is {_short(now)}"
    for key, one, other in pairs:
        inner = path if key in _UNNAMED else f"{path}.{key}".removeprefix(".")
        if found := first_difference(one, other, inner):
            return found
    return None


def _name(entry: Any, index: int) -> str:
    if not isinstance(entry, dict):
        return str(index)
    config = entry.get("config")
    name = config.get("name") if isinstance(config, dict) else None
    return str(name or entry.get("class_name", index))


def _short(value: Any) -> str:
    if isinstance(value, dict) and "class_name" in value:
        value = value["class_name"]
    if isinstance(value, float):
        return f"{value:.7g}"  # of a variable in single precision
    text = _text(value)
    if len(text) <= _LONGEST:
        return text
    # Two long ones may begin alike.
    return f"{text[:_LONGEST]}... ({zlib.crc32(text.encode()):08x})"


def _text(value: Any) -> str:
    # Addresses differ from process to process.
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
