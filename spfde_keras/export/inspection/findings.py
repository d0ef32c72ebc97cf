"""What keeps a graph from running sparse, or from running correctly, and where it is."""

import dataclasses
from collections.abc import Iterator

from spfde_keras.export.inspection.graph import Graph, Operator, Sparsity, Tensor
from spfde_keras.export.inspection.layout import Part, find_parts, unpacked_constants
from spfde_keras.export.inspection.node import KERNEL_OPERATORS, Node
from spfde_keras.export.inspection.rules import OF_FIRST, Role, broken_rules

_HEIGHT, _WIDTH, _HEIGHT_WIDTH, _ALL = (1,), (2,), (1, 2), (1, 2, 3)
# The blocks that LiteRT multiplies as they are stored. Source: LiteRT fully_connected.cc.
_BLOCKS = {"FLOAT32": (4,), "INT8": (16,)}


@dataclasses.dataclass(frozen=True, order=True)
class Finding:
    """A rule that an operator of a graph breaks.

    Args:
        place: int, index of the operator in its graph.
        rule: its name in `RULES`.
        hazard: bool, whether it makes outputs wrong, or the file fail to load.
    """

    place: int
    rule: str
    hazard: bool = False


@dataclasses.dataclass(frozen=True)
class Findings:
    """How a graph runs on ARM64, ARM and WebAssembly.

    Args:
        sparse: indices of the operators that skip zeros.
        problems: what is wrong, in the order of the graph.
    """

    sparse: frozenset[int]
    problems: tuple[Finding, ...]


def find_problems(graph: Graph) -> Findings:
    """Returns which operators of a graph run sparse on phones, and what is wrong with it.

    Args:
        graph: as read from a file.
    """
    parts = find_parts(graph)
    found = {*_stored_wrong(graph), *_not_sparse(graph, parts)}
    for part in parts:
        found.update(_leaks(part), _wrong_sums(part))
    hazards = {finding.place for finding in found if finding.hazard}
    problems = [finding for finding in found if finding.hazard or finding.place not in hazards]
    sparse = {
        node.place
        for part in parts
        for number, node in enumerate(part.nodes)
        if part.runs_sparse(number)
    }
    return Findings(frozenset(sparse), tuple(sorted(problems)))


def _stored_wrong(graph: Graph) -> Iterator[Finding]:
    """Weights that LiteRT cannot use as they are stored."""
    constants = unpacked_constants(graph)
    for place, operator in enumerate(graph.operators):
        for index in operator.inputs:
            stored = constants.get(index)
            if stored is not None and stored.sparsity is not None and operator.name != "DENSIFY":
                rule = _misread(graph, operator, graph.tensors[index], stored, stored.sparsity)
                if rule:
                    yield Finding(place, rule, hazard=True)


def _misread(
    graph: Graph, operator: Operator, read: Tensor, stored: Tensor, sparsity: Sparsity
) -> str | None:
    floating = graph.tensors[operator.inputs[0]].type != "INT8"
    if read.sparsity is None:  # another operator has unpacked them
        unpacks_int8 = read.type == "INT8" and operator.name in KERNEL_OPERATORS
        wrong = unpacks_int8 and (floating or operator.name == "FULLY_CONNECTED")
        return "sparse_int8" if wrong else None
    if operator.name != "FULLY_CONNECTED" or stored.type not in _BLOCKS:
        return "sparse_reader"
    if stored.type == "INT8" and floating:
        return "sparse_int8"
    if sparsity.block != _BLOCKS[stored.type]:
        return "sparse_reader"
    inputs = stored.shape[sparsity.block_map[0]]
    return "sparse_blocks" if inputs % sparsity.block[0] else None


def _leaks(part: Part) -> Iterator[Finding]:
    """Where a sparse region ends at what takes its images for kept pixel by pixel."""
    for number, node in enumerate(part.nodes):
        if not part.leaks(number):
            continue
        if node.pointwise and node.tensors[node.inputs[0]].shape[1:3] == (1, 1):
            yield Finding(node.place, "pooled_head", hazard=True)
            continue
        for reader in part.readers_of(node):
            yield from _broken(part, part.nodes[reader], hazard=True)
            if Role.ENTRY in part.roles[reader]:
                yield Finding(part.nodes[reader].place, "late_stem", hazard=True)
        yield from _outside_reads(part, node, hazard=True)


def _outside_reads(part: Part, node: Node, hazard: bool = False) -> Iterator[Finding]:
    """What reads a node's result outside its part."""
    inside = {part.nodes[reader].place for reader in part.readers_of(node)}
    for index in part.externals.intersection(node.outputs):
        if index in part.links.results:
            yield Finding(node.place, "also_output", hazard)
        for place in part.links.readers.get(index, ()):
            if place not in inside:
                yield Finding(place, "foreign", hazard)


def _broken(part: Part, node: Node, hazard: bool = False) -> Iterator[Finding]:
    for rule in broken_rules(node):
        inner = rule.name in OF_FIRST and node.place in part.links.inner
        yield Finding(node.place, "inner_kernel" if inner else rule.name, hazard)


def _wrong_sums(part: Part) -> Iterator[Finding]:
    """Sums that XNNPACK takes over the wrong dimensions of images kept channel by channel."""
    for number, node in enumerate(part.nodes):
        if node.name in ("MEAN", "SUM") and part.reads_channel_first(number):
            if part.makes_channel_first(number):
                wrong = node.axes not in (_HEIGHT_WIDTH, _ALL)
            else:
                wrong = node.axes in (_HEIGHT, _WIDTH)
            if wrong:
                yield Finding(node.place, "mean_axes", hazard=True)


def _not_sparse(graph: Graph, parts: list[Part]) -> Iterator[Finding]:
    """Why operators whose weights are stored sparse are computed densely."""
    kernels = [[n for n, node in enumerate(p.nodes) if node.weights is not None] for p in parts]
    stored_sparse = [
        [n for n in numbers if part.nodes[n].stores_sparse]
        for part, numbers in zip(parts, kernels, strict=True)
    ]
    direct = [
        place
        for place, operator in enumerate(graph.operators)
        if operator.name == "FULLY_CONNECTED"
        and any(i >= 0 and graph.tensors[i].sparsity is not None for i in operator.inputs)
    ]
    if any(stored_sparse) or direct:
        yield from (Finding(place, "rank") for place in direct if not any(stored_sparse))
        for part, targets in zip(parts, _most_wanted(parts, stored_sparse), strict=True):
            yield from _obstacles(part, targets)
    elif any(kernels):
        not_float = [
            finding
            for part, numbers in zip(parts, kernels, strict=True)
            for number in numbers
            for finding in _broken(part, part.nodes[number])
            if finding.rule == "not_float"
        ]
        yield from not_float
        for part, targets in zip(parts, _most_wanted(parts, kernels), strict=True):
            if not not_float:
                yield from (Finding(part.nodes[n].place, "stored_dense") for n in targets)
                yield from _obstacles(part, targets)


def _most_wanted(parts: list[Part], kernels: list[list[int]]) -> list[list[int]]:
    """Returns the nodes that could run sparse and do not: convolutions, where there are any."""
    for is_wanted in (
        lambda node: node.pointwise,
        lambda node: node.name != "FULLY_CONNECTED",
        lambda node: True,
    ):
        wanted = [
            [n for n in numbers if is_wanted(part.nodes[n])]
            for part, numbers in zip(parts, kernels, strict=True)
        ]
        if any(wanted):
            break
    return [
        [n for n in numbers if not (part.runs_sparse(n) or part.leaks(n) or _feeds_stem(part, n))]
        for part, numbers in zip(parts, wanted, strict=True)
    ]


def _feeds_stem(part: Part, number: int) -> bool:
    readers = part.readers_of(part.nodes[number])
    return bool(readers) and all(Role.ENTRY in part.roles[reader] for reader in readers)


def _obstacles(part: Part, targets: list[int]) -> Iterator[Finding]:
    """What keeps nodes from running sparse: in the region around them, and at its edges."""
    if not targets:
        return
    region, waiting = set(), list(targets)
    while waiting:
        number = waiting.pop()
        if number in region:
            continue
        region.add(number)
        node, role = part.nodes[number], part.roles[number]
        yield from _broken(part, node)
        if role & (Role.INSIDE | Role.EXIT):
            waiting += [part.makers[i] for i in node.variables if i in part.makers]
            for index in set(node.variables) - part.makers.keys():
                maker = part.links.makers.get(index)
                if maker is None:
                    yield Finding(node.place, "no_stem")
                else:
                    yield Finding(maker, "foreign")
            if len(set(node.variables)) < len(node.variables):
                yield Finding(node.place, "same_operand")
        if role and Role.EXIT not in role:
            waiting += [n for n in part.readers_of(node) if Role.ENTRY not in part.roles[n]]
            yield from _outside_reads(part, node)
        elif role:  # what follows an exit may be anything, or part of the region
            waiting += [n for n in part.readers_of(node) if Role.INSIDE in part.roles[n]]
    pointwise = [part.nodes[n] for n in region if part.nodes[n].pointwise]
    size = sum(node.tensors[node.inputs[1]].size for node in pointwise)
    if 3 * sum(node.nonzeros for node in pointwise) >= size > 0:
        yield Finding(part.nodes[min(targets)].place, "too_dense")
    yield from _behind(part, region)


def _behind(part: Part, region: set[int]) -> Iterator[Finding]:
    """What else is in the way, once what ends a region is mended: up to where images begin, and
    down to where they end.
    """
    seen, waiting = set(region), [number for number in region if not part.roles[number]]
    while waiting:
        number = waiting.pop()
        node, beside = part.nodes[number], []
        if node.name != "CONV_2D" or node.pointwise or node.place in part.links.inner:
            for index in filter(node.is_image, node.variables):
                if index in part.makers:
                    beside.append(part.makers[index])
                elif index in part.links.makers:
                    yield Finding(part.links.makers[index], "foreign")
                else:
                    yield Finding(node.place, "no_stem")
        if Role.EXIT not in part.roles[number] and all(map(node.is_image, node.outputs)):
            beside += part.readers_of(node)
        for other in beside:
            if other not in seen:
                yield from _broken(part, part.nodes[other])
                waiting.append(other)
        seen.update(beside)
