"""Which kernels a call of a layer multiplies with, and how often."""

import dataclasses
import inspect
import math
from collections.abc import Iterator

import keras

from spfde_keras import compat
from spfde_keras.graph import Call
from spfde_keras.open_sizes import Shape


@dataclasses.dataclass(frozen=True)
class Use:
    """A kernel in one call; `inner`: downstream of other weights of the same layer."""

    kernel: keras.Variable
    positions: int
    outputs: int
    inner: bool = False


_TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)
_CONVOLUTIONS = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
)
_SEPARABLE = (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
_ATTENTION = (keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention)
_COUNTED = (
    *_TRANSPOSED,
    *_CONVOLUTIONS,
    *_SEPARABLE,
    keras.layers.Dense,
    keras.layers.EinsumDense,
)


def uses(call: Call) -> Iterator[Use]:
    """Gives what a call is known to multiply with."""
    if isinstance(call.layer, _COUNTED):
        yield from _leaf_uses(call.layer, call.inputs[0].shape, call.outputs[0].shape)
        return
    if isinstance(call.layer, _ATTENTION):
        yield from _attention_uses(call)
        return
    repeated = isinstance(call.layer, keras.layers.TimeDistributed)
    times = _known(call.inputs[0].shape)[0] if repeated else 1
    for layer, shape in _hidden(call.layer):
        if None not in shape[1:]:
            outputs = layer.compute_output_shape(shape)
            for use in _leaf_uses(layer, shape, outputs):
                yield Use(use.kernel, times * use.positions, times * use.outputs, inner=True)


def _attention_uses(call: Call) -> Iterator[Use]:
    attention = call.layer
    given = inspect.signature(attention.call).bind(*call.args, **call.kwargs).arguments
    queries, values, keys = given["query"].shape, given["value"].shape, given.get("key")
    shapes = {"query": queries, "key": values if keys is None else keys.shape, "value": values}
    if compat.has_gate(attention):
        shapes["gate"] = queries
    output = compat.attention_projection(attention, "output")
    heads = tuple(output.get_build_config()["input_shape"][-2:])
    for name, shape in shapes.items():
        layer = compat.attention_projection(attention, name)
        yield from _leaf_uses(layer, shape, ())
    for use in _leaf_uses(output, (*queries[:-1], *heads), ()):
        yield dataclasses.replace(use, inner=True)


def _hidden(layer: keras.layers.Layer) -> Iterator[tuple[keras.layers.Layer, tuple]]:
    """The countable layers inside `layer`, with the input shapes they were built for."""
    for inner in compat.sublayers(layer):
        if not isinstance(inner, _COUNTED):
            yield from _hidden(inner)
            continue
        shape = tuple(inner.get_build_config()["input_shape"])
        if isinstance(layer, _ATTENTION) and inner is compat.attention_projection(layer, "output"):
            # Keras builds it without the number of queries.
            query = compat.attention_projection(layer, "query")
            queries = query.get_build_config()["input_shape"]
            shape = (*queries[:-1], *shape[-2:])
        yield inner, shape


def _leaf_uses(layer: keras.layers.Layer, input_shape: Shape, output_shape: Shape) -> Iterator[Use]:
    inputs = _known(input_shape)
    if isinstance(layer, keras.layers.EinsumDense):
        # The output shape that it computes may have gaps (in attention); the labels have none.
        terms, result = layer.equation.replace(" ", "").split("->")
        source, labels = terms.split(",")
        labelled = list(
            zip(labels.replace(".", ""), compat.stored_kernel(layer).shape, strict=True)
        )
        read = math.prod(extent for label, extent in labelled if label in source)
        made = math.prod(extent for label, extent in labelled if label in result)
        positions = math.prod(inputs) // read
        yield Use(compat.stored_kernel(layer), positions, positions * made)
        return
    outputs = _known(output_shape)
    made = math.prod(outputs)
    if isinstance(layer, _SEPARABLE):
        positions = _spatial(layer, outputs)
        depthwise = layer.depthwise_kernel
        yield Use(depthwise, positions, positions * math.prod(depthwise.shape[-2:]))
        yield Use(layer.pointwise_kernel, positions, made, inner=True)
    elif isinstance(layer, _TRANSPOSED):
        yield Use(compat.stored_kernel(layer), _spatial(layer, inputs), made)
    elif isinstance(layer, _CONVOLUTIONS):
        yield Use(compat.stored_kernel(layer), _spatial(layer, outputs), made)
    else:
        yield Use(compat.stored_kernel(layer), math.prod(inputs[:-1]), made)


def _spatial(layer: keras.layers.Layer, shape: tuple[int, ...]) -> int:
    return math.prod(shape[1:] if layer.data_format == "channels_first" else shape[:-1])


def _known(shape: Shape) -> tuple[int, ...]:
    """`shape` without the batch axis; unknown extents count as one."""
    return tuple(1 if extent is None else extent for extent in shape[1:])


def estimated(call: Call, weight: keras.Variable) -> Use:
    """A weight whose use is not known, as if it were used once at each position."""
    positions = math.prod(_known(call.inputs[0].shape)[:-1])
    return Use(weight, positions, positions * weight.shape[-1], inner=True)
