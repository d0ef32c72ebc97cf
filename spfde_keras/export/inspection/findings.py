"""What keeps a graph from running sparse, or from running correctly, and where it is."""

import collections
import dataclasses
from collections.abc import Generator, Iterator

from spfde_keras.export.inspection.floating import in_float
from spfde_keras.export.inspection.graph import Graph, Operator, Sparsity, Tensor
from spfde_keras.export.inspection.layout import Links, Part, find_parts, unpacked_constants
from spfde_keras.export.inspection.node import KERNEL_OPERATORS, Node
from spfde_keras.export.inspection.rules import OF_FIRST, Role, broken_rules, role

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
            yield from _broken(part.links, part.nodes[reader], hazard=True)
            if Role.ENTRY in part.roles[reader]:
                yield Finding(part.nodes[reader].place, "late_stem", hazard=True)
        yield from _outside_reads(part, node, hazard=True)


def _outside_reads(part: Part, node: Node, hazard: bool = False) -> Iterator[Finding]:
    """What reads a node's result outside its part."""
    inside = {part.nodes[reader].place for reader in part.readers_of(node)}
    for index in part.externals.intersection(node.outputs):
        if index in part.links.results:
            yield Finding(node.place, "also_output", hazard)
        outside = [place for place in part.links.readers.get(index, ()) if place not in inside]
        readers = [part.links.nodes[place] for place in outside if place in part.links.nodes]
        found = [finding for one in readers for finding in _broken(part.links, one, hazard)]
        # Another part that reads it and breaks no rule is cut off by what does.
        yield from found or (Finding(place, "foreign", hazard) for place in outside)


def _broken(links: Links, node: Node, hazard: bool = False) -> Iterator[Finding]:
    if node.place in links.foreign:
        if node.name != "SHAPE":  # which goes with what uses the size
            yield Finding(node.place, "foreign", hazard)
        return
    for rule in broken_rules(node):
        inner = rule.name in OF_FIRST and node.place in links.inner
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
    """Why operators with weights, of those stored sparse if there are any, are computed densely."""
    kernels = [node for part in parts for node in part.nodes if node.weights is not None]
    stored = [node for node in kernels if node.stores_sparse]
    direct = {
        place
        for place, operator in enumerate(graph.operators)
        if operator.name == "FULLY_CONNECTED"
        and any(i >= 0 and graph.tensors[i].sparsity is not None for i in operator.inputs)
    }
    none_sparse = not stored and not direct
    wanted = {node.place for node in (kernels if none_sparse else stored)}
    not_float = [
        finding
        for node in kernels
        if node.place in wanted
        for finding in _broken(parts[0].links, node)
        if finding.rule == "not_float"
    ]
    yield from not_float
    if not_float:
        parts = find_parts(in_float(graph))
    region = set()
    if all(node.name == "FULLY_CONNECTED" for node in stored):
        yield from (Finding(place, "dense_layer") for place in direct)
        region |= direct
    numbers = [[n for n, node in enumerate(p.nodes) if node.place in wanted] for p in parts]
    for part, targets in zip(parts, _most_wanted(parts, numbers), strict=True):
        if none_sparse:
            yield from (Finding(part.nodes[n].place, "stored_dense") for n in targets)
        region |= yield from _obstacles(part, targets)
    if parts:
        yield from _behind(parts[0].links, region)


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


def _obstacles(part: Part, targets: list[int]) -> Generator[Finding, None, set[int]]:
    """What keeps nodes from running sparse, in the region around them and at its edges; returns
    the places of the region.
    """
    region, waiting = set(), list(targets)
    while waiting:
        number = waiting.pop()
        if number in region:
            continue
        region.add(number)
        node, kind = part.nodes[number], part.roles[number]
        yield from _broken(part.links, node)
        if kind & (Role.INSIDE | Role.EXIT):
            waiting += [part.makers[i] for i in node.variables if i in part.makers]
            for index in set(node.variables) - part.makers.keys():
                maker = part.links.makers.get(index)
                if maker is None:
                    yield Finding(node.place, "no_stem")
                else:
                    yield Finding(maker, "foreign")
            if len(set(node.variables)) < len(node.variables):
                yield Finding(node.place, "same_operand")
        if kind and Role.EXIT not in kind:
            waiting += [n for n in part.readers_of(node) if Role.ENTRY not in part.roles[n]]
            yield from _outside_reads(part, node)
        elif kind:  # what follows an exit may be anything, or part of the region
            waiting += [n for n in part.readers_of(node) if Role.INSIDE in part.roles[n]]
    pointwise = [part.nodes[n] for n in region if part.nodes[n].pointwise]
    size = sum(node.tensors[node.inputs[1]].size for node in pointwise)
    if 3 * sum(node.nonzeros for node in pointwise) >= size > 0:
        yield Finding(part.nodes[min(targets)].place, "too_dense")
    return {part.nodes[number].place for number in region}


def _behind(links: Links, region: set[int]) -> Iterator[Finding]:
    """What else is in the way, once what ends a region is mended: up to where images begin, and
    down to where they end, whoever runs it.
    """
    readers = collections.defaultdict(list)
    for node in links.nodes.values():
        for index in dict.fromkeys(node.variables):
            readers[index].append(node.place)
    seen, waiting = set(region), [place for place in region if not _role(links, place)]
    while waiting:
        node, beside = links.nodes[waiting.pop()], []
        images = [index for index in (*node.variables, *node.outputs) if node.is_image(index)]
        if node.name != "CONV_2D" or node.pointwise or node.place in links.inner:
            # From a dense layer up to the images that were flattened for it.
            for index in filter(node.is_image, node.variables) if images else node.variables:
                if links.makers.get(index) in links.nodes:
                    beside.append(links.makers[index])
                elif images and index not in links.makers:
                    yield Finding(node.place, "no_stem")
        if Role.EXIT not in _role(links, node.place) and all(map(node.is_image, node.outputs)):
            beside += [place for index in node.outputs for place in readers[index]]
        for place in beside:
            if place not in seen:
                other = links.nodes[place]
                if any(map(other.is_image, (*other.variables, *other.outputs))):
                    yield from _broken(links, other)
                waiting.append(place)
        seen.update(beside)


def _role(links: Links, place: int) -> Role:
    return Role.NONE if place in links.foreign else role(links.nodes[place])
