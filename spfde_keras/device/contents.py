"""What of a model a file that trains stores, and how: kernels with masks are packed."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from spfde_keras.device.cutting import Parts
from spfde_keras.device.shares import densest
from spfde_keras.device.state import LARGEST, hash_of
from spfde_keras.masking import Subnet, find_masks
from spfde_keras.updaters import Updater

Arrays = dict[str, np.ndarray]
Tensors = Mapping[str, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Stored:
    """A trainable variable, as a file stores it.

    Args:
        variable: of the plain model.
        places: None if it is stored whole; otherwise int32 array (stored,), where in the flat
            kernel the weights are that are stored, at first in ascending order. Where masks grow
            there is room for more: its places are `nowhere`, behind the last weight.
        changes: bool, whether masks change, so that a place can become `nowhere`.
    """

    variable: keras.Variable
    places: np.ndarray | None
    changes: bool

    @property
    def name(self) -> str:
        """That of the values among what is stored."""
        return f"weights:{self.variable.path}"

    @property
    def name_of_places(self) -> str:
        """That of the places of packed values."""
        return f"places:{self.variable.path}"

    @property
    def size(self) -> int:
        """How many values are stored."""
        return self.nowhere if self.places is None else self.places.size

    @property
    def nowhere(self) -> int:
        """How many weights the variable has: the place of what is stored for none of them."""
        return math.prod(self.variable.shape)

    @property
    def kept(self) -> int:
        """How many of its weights are stored at first."""
        return self.size if self.places is None else int(np.sum(self.places < self.nowhere))

    @property
    def has_room(self) -> bool:
        """Whether `nowhere` is, or becomes, the place of what is stored for no weight."""
        return self.places is not None and self.changes

    def stored(self, value: np.ndarray) -> np.ndarray:
        """Returns what is stored of a value of the variable's shape."""
        if self.places is None:
            return value
        return np.append(value.ravel(), value.dtype.type(0))[self.places]

    def unpacked(self, values: np.ndarray) -> np.ndarray:
        """Returns a value of the variable's shape from what is stored, zero elsewhere."""
        if self.places is None:
            return values
        whole = np.zeros(self.nowhere + 1, values.dtype)
        whole[self.places] = values
        return whole[:-1].reshape(self.variable.shape)

    def entries(self, value: np.ndarray) -> Arrays:
        """Returns the same by name, and the places of what is packed."""
        places = {} if self.places is None else {self.name_of_places: self.places}
        return {self.name: self.stored(value)} | places

    def whole(self, values: tf.Tensor, read: Tensors) -> tf.Tensor:
        """Returns stored values in the variable's shape, zero elsewhere.

        Args:
            values: tensor of `size` values.
            read: what is stored now, by name.
        """
        if self.places is None:
            return values
        places = tf.expand_dims(read[self.name_of_places], 1)
        flat = tf.scatter_nd(places, values, [self.nowhere + self.has_room])
        return tf.reshape(flat[: self.nowhere], self.variable.shape)

    def packed(self, whole: tf.Tensor, read: Tensors) -> tf.Tensor:
        """Returns what is stored of a tensor of the variable's shape."""
        if self.places is None:
            return whole
        flat = tf.reshape(whole, [-1])
        flat = tf.pad(flat, [[0, 1]]) if self.has_room else flat
        return tf.gather(flat, read[self.name_of_places])


@dataclasses.dataclass(frozen=True)
class Contents:
    """What of a model is in a file.

    Args:
        parts: the model without masks; what is stored is that of its tail.
        stored: trainable variables.
        statistics: other variables that training changes, by name.
        constants: all others, and their values.
        updater: None, or what changes masks.
    """

    parts: Parts
    stored: Sequence[Stored]
    statistics: Mapping[str, keras.Variable]
    constants: Sequence[tuple[keras.Variable, np.ndarray]]
    updater: Updater | None = None

    @property
    def initial(self) -> Arrays:
        """What is stored at first, by name."""
        found: Arrays = {}
        for one in self.stored:
            found |= one.entries(np.asarray(one.variable))
        return found | {name: np.asarray(v) for name, v in self.statistics.items()}

    @property
    def about(self) -> Any:
        """What two models have in common where one can take the state of the other."""
        layers = [layer for part in self.parts if part is not None for layer in part.layers]
        kinds = [_described(layer) for layer in layers]
        shapes = [value.shape for value in self.initial.values()]
        inputs = [x.shape for part in self.parts if part is not None for x in part.inputs]
        updater = (
            None if self.updater is None else keras.saving.serialize_keras_object(self.updater)
        )
        return [kinds, shapes, inputs, updater, [hash_of(value) for _, value in self.constants]]


def _described(layer: keras.layers.Layer) -> Any:
    """What a layer computes, in words; of a layer that cannot say it, its class."""
    try:
        return _without_names(keras.saving.serialize_keras_object(layer))
    except Exception:  # of a class of the user's, which need not have thought of it
        return type(layer).__name__


def _without_names(config: Any) -> Any:
    """A configuration without names, which Keras counts up in each session, and first values."""
    if isinstance(config, Mapping):
        return {
            key: _without_names(value)
            for key, value in config.items()
            if key not in _PASSED_OVER and not key.endswith("initializer")
        }
    return [_without_names(one) for one in config] if isinstance(config, list) else config


_OF_GRAPHS = ("keras_history", "input_layers", "output_layers")  # which name layers
_PASSED_OVER = ("name", "trainable", "build_config", "shared_object_id", *_OF_GRAPHS)


def contents_of(model: keras.Model, parts: Parts, updater: Updater | None = None) -> Contents:
    """Returns what of a model is in a file.

    Args:
        model: of one sub-net.
        parts: of the same as `densify` returns it.
        updater: None, or what changes masks: there is room for as many weights as it ever keeps.

    Raises:
        ValueError: if layers change their own weights, or a kernel is too large.
    """
    prefix, tail = parts
    kernels = kernels_of(model)
    stored = [
        Stored(v, _places(kernels.get(v.path), updater), updater is not None)
        for v in tail.trainable_variables
    ]
    changed = _changed_by_calls(tail)
    if own := [v.path for v in changed if v.trainable]:
        raise ValueError(
            "`model` must leave its weights to the optimizer. Received: layers that change, when "
            f"they are called, {', '.join(own)}"
        )
    varied = {id(v) for v in [*tail.trainable_variables, *changed]}
    others = [v for v in tail.variables if id(v) not in varied]
    others += [] if prefix is None else prefix.variables
    constants = [(v, np.asarray(v)) for v in others]
    statistics = {f"statistics:{v.path}": v for v in changed}
    return Contents(parts, stored, statistics, constants, updater)


def kernels_of(model: keras.Model) -> dict[str, Subnet]:
    """Returns the masked kernels of a model of one sub-net, by path."""
    return {mask.kernel_path: mask.subnets[0] for mask in find_masks(model)}


def _places(kernel: Subnet | None, updater: Updater | None) -> np.ndarray | None:
    if kernel is None:
        return None
    _, mask = kernel.read()
    if mask.all():
        return None
    if mask.size >= LARGEST:  # a state holds places as float32
        raise ValueError(
            f"`model` must have masked kernels of less than {LARGEST:,} weights. "
            f"Received: {mask.size:,} in {kernel.kernel_path!r}"
        )
    places = np.flatnonzero(mask)
    most = places.size if updater is None else kernel.count(densest(updater, 1 - kernel.sparsity))
    room = max(0, most - places.size)
    return np.concatenate([places, np.full(room, mask.size)]).astype("int32")


def _changed_by_calls(model: keras.Model) -> list[keras.Variable]:
    """The variables that a call in training changes, such as moving averages."""
    changed: list[keras.Variable] = []

    @tf.function(autograph=False)
    def call(x: tf.Tensor) -> tf.Tensor:
        values = [(v, tf.identity(v.value)) for v in model.variables]
        with keras.StatelessScope(values, collect_losses=True) as scope:
            outputs = model(x, training=True)
        changed.extend(v for v, value in values if scope.get_current_value(v) is not value)
        return outputs

    call.get_concrete_function(*[tf.TensorSpec((2, *t.shape[1:]), t.dtype) for t in model.inputs])
    return changed
