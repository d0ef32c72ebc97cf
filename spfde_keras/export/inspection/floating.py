"""What a graph in int8 would be in floating point, so that all else in its way can be named."""

import dataclasses

from spfde_keras.export.inspection.graph import Graph, Operator
from spfde_keras.export.inspection.node import KERNEL_OPERATORS

_CONVERTING = ("QUANTIZE", "DEQUANTIZE")
_QUANTIZED = ("INT8", "UINT8", "INT16")


def in_float(graph: Graph) -> Graph:
    """Returns a graph that computes in floating point what a quantized one does.

    Operators keep their places; those that convert images neither read nor make anything.

    Args:
        graph: as read from a file.
    """
    source: dict[int, int] = {}
    converting = set()
    for place, operator in enumerate(graph.operators):
        if operator.name in _CONVERTING and operator.inputs and operator.outputs:
            read = operator.inputs[0]
            if read >= 0 and not graph.tensors[read].constant:
                converting.add(place)
                source[operator.outputs[0]] = source.get(read, read)
    biases = {
        index
        for operator in graph.operators
        if operator.name in KERNEL_OPERATORS and operator.name != "TRANSPOSE_CONV"
        for index in operator.inputs[2:]
    }

    def rewired(place: int, operator: Operator) -> Operator:
        if place in converting:
            return dataclasses.replace(operator, inputs=(), outputs=())
        inputs = tuple(source.get(index, index) for index in operator.inputs)
        return dataclasses.replace(operator, inputs=inputs)

    return dataclasses.replace(
        graph,
        tensors=tuple(
            dataclasses.replace(tensor, type="FLOAT32")
            if tensor.type in _QUANTIZED or index in biases
            else tensor
            for index, tensor in enumerate(graph.tensors)
        ),
        operators=tuple(rewired(*each) for each in enumerate(graph.operators)),
        outputs=tuple(source.get(index, index) for index in graph.outputs),
    )
