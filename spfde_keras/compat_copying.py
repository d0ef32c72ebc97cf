"""Everything the package uses of Keras to copy layers as objects, that is not public.

As seen in Keras 3.15.1. tests/test_compat_copying.py names what each function relies on.
"""

import collections
import copy
import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from spfde_keras.replicas import outside_scopes


@functools.cache
def _bookkeeping(cls: type[keras.layers.Layer]) -> frozenset[str]:
    """The attributes that Keras itself gives to any layer, or model, used or not."""
    # A strategy may have no sample for each of its devices, nor takes steps in a scope.
    return outside_scopes(lambda: _attributes_once_used(cls))


def _attributes_once_used(cls: type[keras.layers.Layer]) -> frozenset[str]:
    blank = cls()
    x = keras.ops.zeros((1, 1))
    if isinstance(blank, keras.Model):
        blank = keras.Sequential([keras.layers.Dense(1)])
        blank.compile("sgd", "mse")
        blank.fit(x, x, verbose=0)
        blank.predict(x, verbose=0)
        blank.evaluate(x, x, verbose=0)
    blank.tracked = keras.layers.Layer()  # TensorFlow's own come with the first that it tracks
    return frozenset(vars(blank)) - {"_functional", "tracked"}


def _base(layer: keras.layers.Layer) -> type[keras.layers.Layer]:
    return keras.Model if isinstance(layer, keras.Model) else keras.layers.Layer


def own_attributes(layer: keras.layers.Layer) -> dict[str, Any]:
    """Returns the attributes of a layer that Keras does not give to every layer."""
    known: frozenset[str] = _bookkeeping(_base(layer))  # type: ignore[arg-type]
    always: frozenset[str] = _bookkeeping(keras.layers.Layer)

    def is_own(name: str, value: Any) -> bool:
        # `loss`, `history` and the like may be the user's words, for layers of a model.
        users = isinstance(value, (keras.layers.Layer, keras.Variable, keras.losses.Loss))
        return name not in known or (users and name not in always and not name.startswith("_"))

    return {name: value for name, value in vars(layer).items() if is_own(name, value)}


# What Keras gives to every layer, and changes from layer to layer.
_SETTINGS = (
    "_allow_non_tensor_positional_args",
    "_auto_config",
    "_convert_input_args",
    "_input_spec",
    "_parent_path",
    "_path",
    "_remat_mode",
    "_supports_masking",
    "activity_regularizer",
    "built",
    "supports_jit",
)


def blank_like(layer: Any) -> Any:
    """Returns a new layer with the class and the settings of another one, and nothing in it."""
    cls: Any = type(layer)
    made = cls.__new__(cls)
    _base(layer).__init__(made, name=layer.name, dtype=layer.dtype_policy, autocast=layer.autocast)
    made.__dict__.update({name: vars(layer)[name] for name in _SETTINGS if name in vars(layer)})
    shapes = layer._build_shapes_dict
    made.__dict__["_build_shapes_dict"] = shapes and dict(shapes)
    return made


_STORES = (
    "trainable_variables",
    "non_trainable_variables",
    "layers",
    "metrics",
    "seed_generators",
)


def share_out(layer: Any, made: Any, copied: Callable[[Any], Any]) -> None:
    """Lists in a new layer, in the same order, what Keras lists in the one that it is like.

    Layers find their weights in lists, which attributes fill as they are set.

    Args:
        layer: the layer.
        made: the new one, with all its attributes.
        copied: from what is listed in `layer` to what is to be listed in `made`.
    """
    tracker = made._tracker
    for name in _STORES:
        compiled = isinstance(layer, keras.Model) and name == "metrics"
        store = tracker.config[name][1]
        store[:] = [] if compiled else map(copied, getattr(layer, f"_{name}"))
        tracker.stored_ids[name] = set(map(id, store))
    made.__dict__["_trainable"] = layer._trainable
    if layer._tracker.locked:
        made._lock_state()


def copy_variable(variable: keras.Variable) -> keras.Variable:
    """Returns a variable with the value, the path and the flags of another one."""
    made = type(variable)(
        tf.identity(variable.value),  # Keras would take the variable behind it over
        dtype=variable._dtype,
        trainable=variable.trainable,
        autocast=variable._autocast,
        aggregation=variable.aggregation,
        synchronization=variable.synchronization,
        name=variable.name,
    )
    for name in ("_path", "_regularizer", "_constraint", "_overwrite_with_gradient"):
        setattr(made, name, getattr(variable, name))
    return made


def set_trainable_flag(layer: keras.layers.Layer, trainable: bool) -> None:
    """Sets the flag of a layer alone; `layer.trainable` sets those of all inside, too."""
    layer.__dict__["_trainable"] = trainable


def empty_container(container: Any) -> Any:
    """Returns an empty list, set or dictionary of a kind; Keras wraps those that it keeps."""
    for cls in (collections.OrderedDict, dict, list, set):
        if isinstance(container, cls) and type(container).__name__.startswith("Tracked"):
            return cls()
    made = copy.copy(container)
    made.clear()
    return made
