"""Tells what a .tflite file is worth on a phone: does it run sparse there, and is it right?"""

import collections
import dataclasses
import math
from typing import Any

from spfde_keras.export.inspection.file import read_tflite
from spfde_keras.export.inspection.findings import find_problems
from spfde_keras.export.inspection.graph import Graph, Operator, Tensor, TFLiteFile
from spfde_keras.export.inspection.layout import unpacked_constants
from spfde_keras.export.inspection.node import KERNEL_OPERATORS
from spfde_keras.export.inspection.rules import RULE

_FLOPS_PER_MAC = 2


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something that keeps a file from running sparse on a phone, or from running right.

    Args:
        operator: str, as the file calls it: "CONV_2D", ...
        place: str, where it is, with the name of what it makes, which holds that of the layer.
        why: str, what is wrong with it.
        fix: str, what to change in the Keras model, or in its export.
        hazard: bool, whether outputs are wrong for it, or the file does not load.
        rule: str, its name in `spfde_keras.export.inspection.rules.RULES`.
    """

    operator: str
    place: str
    why: str
    fix: str
    hazard: bool
    rule: str


@dataclasses.dataclass(frozen=True)
class WeightReport:
    """How the kernel of a layer is stored.

    Args:
        name: str, of the tensor.
        shape: ints, as in the file: outputs first.
        type: str, "FLOAT32", "FLOAT16", "INT8", ...
        stored: str, "dense", "sparse" (single entries) or "sparse 1x4" (blocks).
        sparsity: float, the share of zeros; None for a type that NumPy cannot count in.
        bytes: int, what it takes in the file, positions included.
    """

    name: str
    shape: tuple[int, ...]
    type: str
    stored: str
    sparsity: float | None
    bytes: int


@dataclasses.dataclass(frozen=True)
class GraphReport:
    """What is known of one signature, or of a graph without one.

    Args:
        name: str, of the signature.
        sparse_on_arm64: bool, whether XNNPACK computes 1x1 convolutions sparse on ARM64, ARM and
            WebAssembly, and right.
        safe_on_arm64: bool, whether it loads there and gives the outputs of a dense file.
        problems: in the order of the graph.
        weights: of all its layers.
        flops_dense: int, of one run, zeros included; only kernels count, a multiply-add as 2.
        flops_sparse: int, of one run on ARM64: zeros are left out where they are skipped.
    """

    name: str
    sparse_on_arm64: bool
    safe_on_arm64: bool
    problems: tuple[Problem, ...]
    weights: tuple[WeightReport, ...]
    flops_dense: int
    flops_sparse: int


@dataclasses.dataclass(frozen=True)
class InspectReport:
    """What `inspect_tflite` found; print it, or take `to_json()`.

    Args:
        path: str.
        bytes: int, size of the file.
        bytes_by_part: ints: "weights", "positions" (of sparse weights), "constants" (biases and
            all other), "structure" (the rest). They add up to `bytes`.
        graphs: a `GraphReport` for each signature.
    """

    path: str
    bytes: int
    bytes_by_part: dict[str, int]
    graphs: tuple[GraphReport, ...]

    @property
    def sparse_on_arm64(self) -> bool:
        """Whether every graph that has weights runs sparse on ARM64, and right."""
        graphs = [graph for graph in self.graphs if graph.weights]
        return self.safe_on_arm64 and bool(graphs) and all(g.sparse_on_arm64 for g in graphs)

    @property
    def safe_on_arm64(self) -> bool:
        """Whether the file loads on ARM64 and every graph gives the outputs of a dense file."""
        return all(graph.safe_on_arm64 for graph in self.graphs)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Those of all graphs."""
        return tuple(problem for graph in self.graphs for problem in graph.problems)

    def to_json(self) -> dict[str, Any]:
        """Returns the report as a dictionary that `json` writes."""
        summary = {
            "sparse_on_arm64": self.sparse_on_arm64,
            "safe_on_arm64": self.safe_on_arm64,
            "problems": [dataclasses.asdict(problem) for problem in self.problems],
        }
        return {"path": self.path} | summary | dataclasses.asdict(self)

    def __str__(self):
        parts = ", ".join(f"{part} {size:,}" for part, size in self.bytes_by_part.items())
        lines = [f"{self.path}: {self.bytes:,} bytes ({parts})"]
        for graph in self.graphs:
            lines += _lines(graph)
        return "\n".join(lines)


def inspect_tflite(path) -> InspectReport:
    """Tells whether a .tflite file runs sparse on phones, and right, without running it.

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
    (True, False, 'rank')
    """
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
        size = graph.tensors[operator.inputs[1]].size
        flops = _FLOPS_PER_MAC * _positions(graph, operator)
        # LiteRT's own kernel multiplies a fully connected layer's weights as they are stored.
        skips = place in found.sparse or graph.tensors[operator.inputs[1]].sparsity is not None
        nonzeros = weights.nonzeros if skips else None
        dense += flops * size
        sparse += flops * (size if nonzeros is None else nonzeros)
    return GraphReport(
        name=graph.name,
        sparse_on_arm64=bool(found.sparse) and safe,
        safe_on_arm64=safe,
        problems=tuple(
            _problem(graph, finding.place, finding.rule, finding.hazard)
            for finding in found.problems
        ),
        weights=tuple({w.buffer: _weight_report(w) for _, _, w in kernels}.values()),
        flops_dense=dense,
        flops_sparse=sparse,
    )


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
    made = graph.tensors[operator.outputs[0]].name if operator.outputs else ""
    where = f"operator {place} of {graph.name}" + (f" ({made.split(';')[0]})" if made else "")
    return Problem(operator.name, where, RULE[rule].why, RULE[rule].fix, hazard, rule)


def _weight_report(weights: Tensor) -> WeightReport:
    stored, size = "dense", weights.stored.size
    if weights.sparsity is not None:
        block = "x".join(map(str, (1, *weights.sparsity.block)))
        stored = f"sparse {block}" if weights.sparsity.block else "sparse"
        size += weights.sparsity.index_bytes
    nonzeros = weights.nonzeros
    share = None if nonzeros is None else 1 - nonzeros / max(1, weights.size)
    return WeightReport(weights.name, weights.shape, weights.type, stored, share, size)


def _bytes_by_part(file: TFLiteFile) -> dict[str, int]:
    """Sums up the content of constants, each counted once, however many graphs share it."""
    stored, positions = collections.defaultdict(dict), {}
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


def _lines(graph: GraphReport) -> list[str]:
    sparse = "runs sparse" if graph.sparse_on_arm64 else "does not run sparse"
    safe = "" if graph.safe_on_arm64 else ", and is NOT SAFE there: wrong results or no loading"
    share = graph.flops_sparse / graph.flops_dense if graph.flops_dense else 1
    lines = [
        f"{graph.name}: {sparse} on ARM64, ARM and WebAssembly{safe}",
        f"  FLOPs {graph.flops_dense:,} dense, {graph.flops_sparse:,} on ARM64 ({share:.2f})",
    ]
    for problem in graph.problems:
        kind = "ERROR" if problem.hazard else "note"
        lines += [
            f"  {kind}: {problem.operator}, {problem.place}: {problem.why}.",
            f"    Fix: {problem.fix}.",
        ]
    for weights in graph.weights:
        zeros = "?" if weights.sparsity is None else f"{weights.sparsity:.1%} zeros"
        shape = "x".join(map(str, weights.shape))
        lines.append(
            f"  {shape:>18} {weights.type:8} {weights.stored:11} {zeros:>12} {weights.bytes:>12,} "
            f"bytes  {weights.name.split(';')[0]}"
        )
    return lines
