"""Exact copies of layers: of the objects themselves, since a configuration does not hold all."""

import collections
import copy
import functools
import types
from collections.abc import Collection, Mapping
from typing import Any

import keras
import tensorflow as tf

from spfde_keras import compat, compat_copying
from spfde_keras.trainability import nested_layers

_STATEFUL = (keras.layers.Layer, keras.Variable, keras.random.SeedGenerator)
# What other libraries keep in memory of their own, or share by design.
_FOREIGN = ("tensorflow.", "numpy.", "keras.")


class CannotCopy(Exception):
    """Says what of a layer no copy can have."""


class Copies:
    """Copies layers with all that they hold, each once, so that what is shared stays shared.

    What a layer holds is found through its attributes, at any depth: other layers, weights, seed
    generators, lists and dictionaries of them, methods and objects that refer to them. The
    rest, such as functions and numbers, belongs to both.

    Args:
        replacements: from layer to what takes its place in copies.
        shared: layers that stay as they are, and belong to both models.

    Example:

    >>> dense = keras.layers.Dense(2)
    >>> dense.build((None, 3))
    >>> made = Copies({}).layer(dense)
    >>> made.kernel is dense.kernel, bool(np.all(made.kernel == dense.kernel))
    (False, True)
    """

    def __init__(
        self,
        replacements: Mapping[keras.layers.Layer, keras.layers.Layer],
        shared: Collection[keras.layers.Layer] = (),
    ):
        # An object is kept beside its copy: the `id` of one that is gone may be given again.
        self._made: dict[int, tuple[Any, Any]] = {}
        for old in shared:
            for layer in compat.all_layers(old):
                self._remember(layer, layer)
                for variable in compat.own_variables(layer):
                    self._remember(variable, variable)
        for old, new in replacements.items():
            self._replace(old, new)

    def layer(self, layer: keras.layers.Layer) -> Any:
        """Returns the copy of a layer, or of a model.

        Raises:
            CannotCopy: if the layer holds something that cannot be copied.
        """
        if id(layer) in self._made:
            return self._made[id(layer)][1]
        if compat.is_graph(layer):
            return self._remember(layer, self.graph(layer))
        return self._objects(layer)

    def graph(self, model: keras.Model) -> keras.Model:
        """Returns the graph of a functional or Sequential model, made of copies of its layers.

        It has inputs of its own, so that the outputs of a layer that is in both models are never
        mistaken for one another; and neither the class of `model` nor its compilation.
        """
        function: Any = model
        if isinstance(model, keras.Sequential):
            function = compat.sequential_graph(model)
        if type(model) is keras.Sequential:
            (tensor,) = function.inputs
            made = keras.Sequential([input_like(tensor), *map(self.layer, model.layers)])
            made.name = model.name
        else:
            inputs = [input_like(tensor) for tensor in function.inputs]
            outputs = compat.run_graph(function, inputs, self._operation)
            structure = keras.tree.pack_sequence_as(function.input, inputs)
            made = keras.Model(structure, outputs, name=model.name)
        compat_copying.set_trainable_flag(made, model.trainable)
        return made

    def _operation(self, operation: keras.Operation) -> Any:
        if isinstance(operation, keras.layers.Layer):
            return self.layer(operation)
        return functools.partial(self._called, operation)

    def _called(self, operation: keras.Operation, *args: Any, **kwargs: Any) -> Any:
        """Calls an operation of a graph, weights among its arguments copied."""

        def copied(x: Any) -> Any:
            return self._value(x) if isinstance(x, keras.Variable) else x

        args, kwargs = keras.tree.map_structure(copied, (args, kwargs))
        return operation(*args, **kwargs)

    def _objects(self, layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, keras.Function):
            raise CannotCopy(f"{layer.name!r} is a functional model with a `call` of its own")
        made = self._remember(layer, compat_copying.blank_like(layer))
        for name, value in compat_copying.own_attributes(layer).items():
            try:
                setattr(made, name, self._value(value))
            except CannotCopy:
                raise
            except Exception as error:
                raise CannotCopy(f"its attribute {name!r}: {error}") from error
        compat_copying.share_out(layer, made, self._value)
        return made

    def _value(self, value: Any) -> Any:
        """The copy of what an attribute holds."""
        if id(value) in self._made:
            return self._made[id(value)][1]
        if isinstance(value, keras.layers.Layer):
            if compat.is_graph(value) and not type(value).__module__.startswith("keras."):
                # Its graph alone would lose attributes and methods that others may use.
                raise CannotCopy(f"it holds {value.name!r}, a model of a class of its own")
            return self.layer(value)
        if isinstance(value, keras.Variable):
            return self._remember(value, self._variable(value))
        if isinstance(value, keras.random.SeedGenerator):
            return self._seed_generator(value)
        if isinstance(value, (list, tuple, set, dict)):
            return self._container(value)
        if isinstance(value, (tf.Variable, tf.Module, keras.Metric)) or _is_resource(value):
            raise CannotCopy(f"it holds a {type(value).__name__}")
        if not _refers_to_state(value, set()):
            return value
        return self._remember(value, self._referring(value))

    def _variable(self, variable: keras.Variable) -> keras.Variable:
        return compat_copying.copy_variable(variable)

    def _seed_generator(self, generator: Any) -> Any:
        made = self._remember(generator, type(generator).from_config(generator.get_config()))
        made.state.assign(generator.state)
        self._remember(generator.state, made.state)
        return made

    def _container(self, value: Any) -> Any:
        value = getattr(value, "__wrapped__", value)  # TensorFlow wraps tuples
        if isinstance(value, tuple):
            items = [self._value(item) for item in value]
            return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
        made = self._remember(value, compat_copying.empty_container(value))
        if isinstance(value, dict):
            made.update({self._value(key): self._value(item) for key, item in value.items()})
        elif isinstance(value, set):
            made.update(map(self._value, value))
        else:
            made.extend(map(self._value, value))
        return made

    def _referring(self, value: Any) -> Any:
        if isinstance(value, types.MethodType):
            owner = self._value(value.__self__)
            # What takes a layer's place may have another method of that name.
            usual = getattr(type(value.__self__), value.__name__, None) is value.__func__
            return getattr(owner, value.__name__) if usual else value.__func__.__get__(owner)
        if isinstance(value, functools.partial):
            arguments = [self._value(one) for one in value.args]
            named = {name: self._value(one) for name, one in value.keywords.items()}
            return functools.partial(self._value(value.func), *arguments, **named)
        if isinstance(value, types.FunctionType):
            raise CannotCopy(f"its function {value.__name__!r} refers to layers or weights")
        made = copy.copy(value)
        made.__dict__.update({name: self._value(item) for name, item in vars(value).items()})
        return made

    def _replace(self, old: keras.layers.Layer, new: keras.layers.Layer) -> None:
        pairs = zip(nested_layers(old), nested_layers(new), strict=False)
        for one, other in [(old, new), *pairs]:
            self._remember(one, other)
            theirs = zip(compat.own_variables(one), compat.own_variables(other), strict=False)
            for variable, its in theirs:
                if variable.shape == its.shape:
                    self._remember(variable, its)

    def _remember(self, old: Any, new: Any) -> Any:
        self._made[id(old)] = (old, new)
        return new


class _DryRun(Copies):
    """Finds what stands in the way of a copy, without the memory of one."""

    def _variable(self, variable: keras.Variable) -> keras.Variable:
        return variable


def obstacle(layer: keras.layers.Layer) -> str:
    """Returns why a layer cannot be copied exactly; "" if it can.

    Example:

    >>> obstacle(keras.layers.Dense(2))
    ''
    """
    if hasattr(layer, "adapt"):
        return "it is adapted to data"
    try:
        _DryRun({}).layer(layer)
    except CannotCopy as reason:
        return str(reason)
    return ""


def input_like(tensor: keras.KerasTensor) -> keras.KerasTensor:
    """Returns a new input of a model, like that which made a tensor."""
    layer = compat.maker(tensor)
    return type(layer).from_config(layer.get_config()).output


def _is_resource(value: object) -> bool:
    return hasattr(value, "resource_handle") and not isinstance(value, tf.Tensor)


def _refers_to_state(value: Any, seen: set[int]) -> bool:
    """Whether a layer, a weight or a seed generator can be reached from a value."""
    if isinstance(value, _STATEFUL):
        return True
    if id(value) in seen or isinstance(value, (type, types.ModuleType)):
        return False
    seen.add(id(value))
    if isinstance(value, (list, tuple, set, frozenset, collections.deque)):
        return any(_refers_to_state(item, seen) for item in value)
    if isinstance(value, dict):
        return any(_refers_to_state(item, seen) for item in value.values())
    if isinstance(value, types.MethodType):
        return _refers_to_state(value.__self__, seen)
    if isinstance(value, functools.partial):
        return any(_refers_to_state(x, seen) for x in (value.func, value.args, value.keywords))
    if isinstance(value, types.FunctionType):
        cells = [_contents(cell) for cell in value.__closure__ or ()]
        return any(_refers_to_state(x, seen) for x in (*cells, *(value.__defaults__ or ())))
    if type(value).__module__.startswith(_FOREIGN) or not hasattr(value, "__dict__"):
        return False
    return _refers_to_state(vars(value), seen)


def _contents(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None
