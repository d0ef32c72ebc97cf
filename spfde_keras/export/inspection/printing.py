"""The inspector's report as text: a verdict, a table of kernels, and all that is in the way."""

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spfde_keras.export.inspection.report import GraphReport, InspectReport, Problem

_PHONES = "phones (ARM64, ARM, WebAssembly)"
_HEADINGS = ("layer", "operator", "shape", "type", "stored", "zeros", "bytes")
_REWRITTEN = (
    "By hand, or by itself where there is an exact equivalent: spfde convert --mobile, which is "
    "export_tflite(..., mobile=True)."
)
OUTPUT = "(output)"
"""Instead of a layer's name, where a file has none."""
_SHOWN = 4  # layers named of those with the same problem


def text(report: "InspectReport") -> str:
    """Returns the report as lines: what counts first.

    Args:
        report: of one file.
    """
    parts = ", ".join(f"{part} {size:,}" for part, size in report.bytes_by_part.items())
    lines = [f"{report.path}: {_verdict(report)}", f"{report.bytes:,} bytes ({parts})"]
    for graph in report.graphs:
        lines += ["", *_graph(graph)]
    return "\n".join(lines)


def layer_of(tensor: str) -> str:
    """Returns the layer that a tensor of a file is named after, as the converter wrote it.

    Of several names joined into one, that of the operator with weights counts. Where Keras 3 is
    traced by others, it enters the scope of each layer twice, and TensorFlow numbers the second:
    conv is conv_1 there and, beside it, conv_1 is conv_1_2. What is given out has lost that.

    Example:

    >>> layer_of("net_1/relu_1/Relu;net_1/conv_1/convolution")
    'conv'
    >>> layer_of("model/net_1/conv_1/convolution")
    'conv_1'
    >>> layer_of("StatefulPartitionedCall_1:0")
    '(output)'
    """
    if tensor.startswith("StatefulPartitionedCall"):
        return OUTPUT
    names = [name.split("/") for name in tensor.split(";")]
    weights = ("convolution", "depthwise", "MatMul", "Tensordot", "einsum", "conv")
    chosen = next((name for name in names if name[-1].startswith(weights)), names[0])
    layer = chosen[-2] if len(chosen) > 1 else chosen[-1]
    return re.sub(r"_\d+$", "", layer) if chosen[0].endswith("_1") else layer


def _verdict(report: "InspectReport") -> str:
    if not report.safe_on_arm64:
        return f"NOT SAFE on {_PHONES}: wrong results, or it does not load"
    if report.sparse_on_arm64:
        return f"runs sparse on {_PHONES}"
    reasons = len(set(_kinds(report.problems)))
    because = f", for {reasons} reason{'s' if reasons > 1 else ''}" if reasons else ""
    return f"does not run sparse on {_PHONES}{because}"


def _kinds(problems: Sequence["Problem"]) -> Iterator[tuple[str, str]]:
    return ((problem.operator, problem.rule) for problem in problems)


def _graph(graph: "GraphReport") -> list[str]:
    share = graph.flops_sparse / graph.flops_dense if graph.flops_dense else 1
    inputs = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in graph.inputs)
    lines = [
        f"{graph.name} (inputs: {inputs or 'none'}): {_zeros(graph)} of its kernels' weights are "
        f"zero, FLOPs {graph.flops_dense:,} dense, {graph.flops_sparse:,} on ARM64 ({share:.2f})"
    ]
    rows = [_HEADINGS] + [
        (
            weights.layer,
            weights.operator,
            "x".join(map(str, weights.shape)),
            weights.type,
            weights.stored,
            "?" if weights.sparsity is None else f"{weights.sparsity:.1%}",
            f"{weights.bytes:,}",
        )
        for weights in graph.weights
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if graph.weights:
        lines += ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return lines + list(_problems(graph.problems))


def _problems(problems: Sequence["Problem"]) -> Iterator[str]:
    """One entry for each kind of operator and rule, errors first; then who else mends some."""
    rewritten = {problem.fix for problem in problems if problem.rewritten}
    for hazard, heading in ((True, "ERROR"), (False, "in the way")):
        for why, fix in reasons([problem for problem in problems if problem.hazard == hazard]):
            star = "*" if fix in rewritten else ""
            yield f"  {heading}: {why}."
            yield f"    Fix{star}: {fix}."
    if rewritten:
        yield f"  * {_REWRITTEN}"


def reasons(problems: Sequence["Problem"]) -> Iterator[tuple[str, str]]:
    """Yields, for each kind of operator and rule, where it is and why, and what to change.

    Args:
        problems: those to name.
    """
    for kind in dict.fromkeys(_kinds(problems)):
        same = [p for p in problems if (p.operator, p.rule) == kind]
        layers = list(dict.fromkeys(problem.layer for problem in same))
        more = ", ..." if len(layers) > _SHOWN else ""
        named = ", ".join(layers[:_SHOWN]) + more
        yield f"{len(same)} {same[0].operator} ({named}): {same[0].why}", same[0].fix


def _zeros(graph: "GraphReport") -> str:
    counted = [
        (weights.size, weights.sparsity)
        for weights in graph.weights
        if weights.sparsity is not None
    ]
    total = sum(size for size, _ in counted)
    return f"{sum(size * share for size, share in counted) / total:.1%}" if total else "none"
