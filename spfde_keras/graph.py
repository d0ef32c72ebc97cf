"""The layer calls of a functional model in execution order, nested models expanded."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from spfde_keras import compat


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of one layer or operation.

    Attributes:
        layer: the `keras.layers.Layer` (or other `keras.Operation`) that is called.
        path: str, its name after those of the nested models around it: "backbone/conv1".
        args: positional arguments of the call, which hold `inputs`.
        kwargs: keyword arguments of the call, which may hold some of them.
        outputs: tuple of `keras.KerasTensor`; every call has its own.
    """

    layer: keras.Operation
    path: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: tuple[keras.KerasTensor, ...]

    @property
    def inputs(self) -> tuple[keras.KerasTensor, ...]:
        """The tensors among the arguments, each an output of another call or an input."""
        return tuple(_tensors((self.args, self.kwargs)))

    def repeat(self, tensors: Mapping[int, Any]) -> Any:
        """Calls the layer again, on other tensors; returns what it makes of them.

        Args:
            tensors: what takes the place of each of `inputs`, by `id`.

        Example:

        >>> x = keras.Input((4,))
        >>> (call,) = trace(keras.Model(x, 2 * x)).calls
        >>> np.asarray(call.repeat({id(x): np.ones(3)})).tolist()
        [2.0, 2.0, 2.0]
        """
        args, kwargs = keras.tree.map_structure(
            lambda x: tensors[id(x)] if isinstance(x, keras.KerasTensor) else x,
            (self.args, self.kwargs),
        )
        return self.layer(*args, **kwargs)


@dataclasses.dataclass(frozen=True)
class Graph:
    """The calls of a model, from its `inputs` to its `outputs`."""

    calls: tuple[Call, ...]
    inputs: tuple[keras.KerasTensor, ...]
    outputs: tuple[keras.KerasTensor, ...]


def trace(model: keras.Model, shapes: Sequence[Sequence[int | None]] | None = None) -> Graph:
    """Returns the graph of `model` down to its leaf layers.

    Nested functional and Sequential models are replaced by their layers, once per call and
    with the shapes of that call. A layer that hides its sublayers (MultiHeadAttention, a
    subclassed model) is one call.

    Args:
        model: a functional or built Sequential `keras.Model`.
        shapes: None, or a shape for each of its inputs, batch axis first: the graph then has
            the shapes that follow from them.

    Returns:
        A `Graph`; tensors are distinguished by identity.

    Raises:
        ValueError: if the model has no graph.

    Example:

    >>> inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, name="fc")], name="net")
    >>> x = keras.Input((4,))
    >>> [call.path for call in trace(keras.Model(x, inner(inner(x)))).calls]
    ['net/fc', 'net/fc']
    """
    function = _function(model)
    if function is None:
        raise ValueError(
            "`model` must be functional, or a Sequential model with a known input shape, so "
            f"that its graph can be read. Received: {type(model).__name__} "
            f"{getattr(model, 'name', model)!r}; build it from keras.Input."
        )
    calls: list[Call] = []
    inputs = function.inputs
    if shapes is not None:
        inputs = [
            keras.KerasTensor(tuple(shape), x.dtype, sparse=x.sparse, ragged=x.ragged)
            for shape, x in zip(shapes, inputs, strict=True)
        ]
    outputs = _expand(function, inputs, "", calls)
    return Graph(tuple(calls), tuple(inputs), tuple(outputs))


def _function(operation: object) -> keras.Function | None:
    if isinstance(operation, keras.Sequential):
        # Sequential keeps its graph here, with tensors that differ from its own `inputs`.
        operation = compat.sequential_graph(operation)
    return operation if isinstance(operation, keras.Function) else None


def _expand(
    function: keras.Function, inputs: list[keras.KerasTensor], prefix: str, calls: list[Call]
) -> list[keras.KerasTensor]:
    """Appends the calls that `function` makes on `inputs`; returns its outputs."""
    known = dict(zip(map(id, function.inputs), inputs, strict=True))
    for node in compat.nodes_in_order(function):
        args, kwargs = node.arguments.fill_in(known)
        outputs = _call(node, args, kwargs, prefix, calls)
        known.update(zip(map(id, node.outputs), outputs, strict=True))
    return [known[id(tensor)] for tensor in function.outputs]


def _call(
    node: Any, args: tuple, kwargs: dict[str, Any], prefix: str, calls: list[Call]
) -> list[keras.KerasTensor]:
    operation, path = node.operation, f"{prefix}{node.operation.name}"
    inputs = _tensors((args, kwargs))
    nested = _function(operation)
    if nested is not None:
        return _expand(nested, inputs[: len(nested.inputs)], f"{path}/", calls)
    outputs = node.outputs
    if [x.shape for x in inputs] != [x.shape for x in node.input_tensors]:
        # A nested model may be called with other shapes than those it was defined with.
        outputs = _tensors(operation.compute_output_spec(*args, **kwargs))
    outputs = [keras.KerasTensor(x.shape, x.dtype) for x in outputs]
    calls.append(Call(operation, path, tuple(args), kwargs, tuple(outputs)))
    return outputs


def _tensors(structure: Any) -> list[keras.KerasTensor]:
    return [x for x in keras.tree.flatten(structure) if isinstance(x, keras.KerasTensor)]
