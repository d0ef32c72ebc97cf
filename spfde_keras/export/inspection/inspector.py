"""Says, without running it, whether a .tflite file runs sparse on phones, and correctly."""

import collections
import math
import os

from spfde_keras.export.inspection.findings import find_problems
from spfde_keras.export.inspection.graph import Graph, Operator, Tensor, TFLiteFile
from spfde_keras.export.inspection.layout import unpacked_constants
from spfde_keras.export.inspection.node import KERNEL_OPERATORS
from spfde_keras.export.inspection.printing import OUTPUT, layer_of
from spfde_keras.export.inspection.report import (
    GraphReport,
    InspectReport,
    Problem,
    WeightReport,
)
from spfde_keras.export.inspection.rules import RULE

_FLOPS_PER_MAC = 2


def inspect_tflite(path: str | os.PathLike[str]) -> InspectReport:
    """Says whether a .tflite file runs sparse on phones, and correctly, without running it.

    XNNPACK, which computes TensorFlow Lite's convolutions on CPUs, skips zeros on ARM64, ARM and
    WebAssembly if the graph allows it; on x86 with AVX never. The answer comes from the rules in
    `spfde_keras.export.inspection.rules`, by which it decides; `run_sparse_mode` gives the proof.

    Args:
        path: the file, of any converter.

    Returns:
        An `InspectReport`.

    Raises:
        ValueError: if it cannot be read, or is not a whole, consistent .tflite file.

    Example:

    >>> _ = spfde_keras.export_tflite(model, "model.tflite")
    >>> report = inspect_tflite("model.tflite")
    >>> report.safe_on_arm64, report.sparse_on_arm64, report.problems[0].rule
    (True, False, 'stem_stride')
    """
    from spfde_keras.export.inspection.file import read_tflite  # needs the extra "export"

    file = read_tflite(path)
    return InspectReport(
        path=file.path,
        bytes=file.bytes,
        bytes_by_part=_bytes_by_part(file),
        graphs=tuple(_graph_report(graph) for graph in file.graphs),
    )


def _graph_report(graph: Graph) -> GraphReport:
    found = find_problems(graph)
    constants = unpacked_constants(graph)
    kernels = [
        (place, operator, constants[operator.inputs[1]])
        for place, operator in enumerate(graph.operators)
        if _has_kernel(operator, constants)
    ]
    safe = not any(finding.hazard for finding in found.problems)
    dense = sparse = 0
    for place, operator, weights in kernels:
        kernel = graph.tensors[operator.inputs[1]]
        flops = _FLOPS_PER_MAC * _positions(graph, operator)
        dense += flops * kernel.size
        sparse += flops * _multiplied(kernel, weights, place in found.sparse)
    return GraphReport(
        name=graph.name,
        sparse_on_arm64=bool(found.sparse) and safe,
        safe_on_arm64=safe,
        problems=tuple(
            _problem(graph, finding.place, finding.rule, finding.hazard)
            for finding in found.problems
        ),
        weights=tuple(
            {w.buffer: _weight_report(graph, operator, w) for _, operator, w in kernels}.values()
        ),
        flops_dense=dense,
        flops_sparse=sparse,
        inputs=tuple((graph.tensors[i].name, graph.tensors[i].shape) for i in graph.inputs),
    )


def _multiplied(kernel: Tensor, weights: Tensor, skips: bool) -> int:
    """How many weights of a kernel are multiplied, once each."""
    if weights.nonzeros is None:
        return kernel.size
    if kernel.sparsity is not None:
        # LiteRT's own kernel multiplies whole blocks, as they are stored.
        return kernel.entries
    return weights.nonzeros if skips else kernel.size


def _has_kernel(operator: Operator, constants: dict[int, Tensor]) -> bool:
    return operator.name in KERNEL_OPERATORS and any(i in constants for i in operator.inputs[1:2])


def _positions(graph: Graph, operator: Operator) -> int:
    """Returns how often each weight of a kernel is used in one run."""
    weights = graph.tensors[operator.inputs[1]].shape
    if operator.name == "TRANSPOSE_CONV":  # inputs: the output's shape, the kernel, the image
        image = graph.tensors[operator.inputs[2]].shape if len(operator.inputs) > 2 else ()
        return math.prod(image[:-1])
    if operator.name == "FULLY_CONNECTED":
        inputs = graph.tensors[operator.inputs[0]].size
        return inputs // max(1, weights[-1]) if weights else 0
    outputs = graph.tensors[operator.outputs[0]].shape if operator.outputs else ()
    return math.prod(outputs[:-1])


def _problem(graph: Graph, place: int, rule: str, hazard: bool) -> Problem:
    operator = graph.operators[place]
    made = _made(graph, operator)
    where = f"operator {place} of {graph.name}" + (f" ({made.split(';')[0]})" if made else "")
    told = RULE[rule]
    layer = _layer(graph, operator)
    return Problem(operator.name, where, told.why, told.fix, hazard, rule, layer, told.rewritten)


def _made(graph: Graph, operator: Operator) -> str:
    """The name of what an operator makes, which contains the layer's."""
    return graph.tensors[operator.outputs[0]].name if operator.outputs else ""


def _layer(graph: Graph, operator: Operator) -> str:
    """The layer of an operator; where what it makes is called an output, as its kernel says."""
    layer = layer_of(_made(graph, operator))
    if layer == OUTPUT and operator.name in KERNEL_OPERATORS and len(operator.inputs) > 1:
        kernel = graph.tensors[operator.inputs[1]].name
        return layer_of(kernel) if "/" in kernel else layer
    return layer


def _weight_report(graph: Graph, operator: Operator, weights: Tensor) -> WeightReport:
    stored, size = "dense", weights.stored.size
    if weights.sparsity is not None:
        block = "x".join(map(str, (1, *weights.sparsity.block)))
        stored = f"sparse {block}" if weights.sparsity.block else "sparse"
        size += weights.sparsity.index_bytes
    nonzeros = weights.nonzeros
    share = None if nonzeros is None else 1 - nonzeros / max(1, weights.size)
    layer = _layer(graph, operator)
    return WeightReport(
        weights.name,
        weights.shape,
        weights.type,
        stored,
        share,
        size,
        layer,
        operator.name,
        weights.buffer,
    )


def _bytes_by_part(file: TFLiteFile) -> dict[str, int]:
    """Sums up the content of constants, each counted once, however many graphs share it."""
    stored: dict[str, dict[int, int]] = collections.defaultdict(dict)
    positions: dict[int, int] = {}
    for graph in file.graphs:
        constants = unpacked_constants(graph)
        kernels = {
            constants[operator.inputs[1]].buffer
            for operator in graph.operators
            if _has_kernel(operator, constants)
        }
        for tensor in graph.tensors:
            if tensor.constant:
                part = "weights" if tensor.buffer in kernels else "constants"
                stored[part][tensor.buffer] = tensor.stored.size
                if tensor.sparsity is not None:
                    positions[tensor.buffer] = tensor.sparsity.index_bytes
    sizes = {
        "weights": sum(stored["weights"].values()),
        "positions": sum(positions.values()),
        "constants": sum(
            size for b, size in stored["constants"].items() if b not in stored["weights"]
        ),
    }
    return sizes | {"structure": max(0, file.bytes - sum(sizes.values()))}
