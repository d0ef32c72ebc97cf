"""Which operators XNNPACK runs sparse: its preparations, repeated on what the file holds."""

import collections
import dataclasses
import heapq
from collections.abc import Iterator, Mapping

from spfde_keras.export.inspection.graph import Graph, Operator, Tensor
from spfde_keras.export.inspection.node import KERNEL_OPERATORS, UNARY, Node
from spfde_keras.export.inspection.rules import Role, role

# The operators that LiteRT hands to XNNPACK; it runs the others itself, and keeps what they read
# and write as it is. Source: LiteRT xnnpack_delegate.cc, Subgraph::VisitNode.
_DELEGATED = {*KERNEL_OPERATORS, *UNARY} | set(
    "ADD AVERAGE_POOL_2D BATCH_MATMUL CONCATENATION DEPTH_TO_SPACE DEQUANTIZE DIV EXPAND_DIMS "
    "MAXIMUM MAX_POOL_2D MEAN MINIMUM MUL PAD PRELU QUANTIZE REDUCE_MAX REDUCE_MIN RESHAPE "
    "RESIZE_BILINEAR SLICE SOFTMAX SPACE_TO_DEPTH SPLIT SQUARED_DIFFERENCE STRIDED_SLICE SUB SUM "
    "TRANSPOSE".split()
)
# Operators whose further inputs are parameters to XNNPACK. Source: there, Subgraph::Create.
_ONE_INPUT = set(
    "EXPAND_DIMS MEAN PAD REDUCE_MAX REDUCE_MIN RESHAPE RESIZE_BILINEAR SLICE STRIDED_SLICE SUM "
    "TRANSPOSE".split()
)
_UNPACKING = ("DENSIFY", "DEQUANTIZE")
_PADDED = ("CONV_2D", "DEPTHWISE_CONV_2D")


@dataclasses.dataclass(frozen=True)
class Links:
    """What connects the operators of a graph.

    Args:
        results: the tensors that are outputs of the graph.
        makers: the operator that makes a tensor.
        readers: the operators that read a tensor.
        inner: the operators that follow a kernel larger than 1x1.
        foreign: the operators that XNNPACK does not run.
        nodes: the operators, as XNNPACK sees them, without those that it takes into others.
    """

    results: set[int]
    makers: dict[int, int]
    readers: dict[int, list[int]]
    inner: set[int] = dataclasses.field(default_factory=set)
    foreign: set[int] = dataclasses.field(default_factory=set)
    nodes: dict[int, Node] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Part:
    """Operators that XNNPACK runs together, and how.

    Args:
        nodes: in an order in which they can run.
        roles: a `Role` for each node.
        externals: tensors that are inputs or outputs of the part.
        makers: the number of the node that makes a tensor.
        readers: the numbers of the nodes that read a tensor.
        links: between the operators of the whole graph.
        hinted: bool, whether any weights are stored sparse; otherwise XNNPACK looks for no zeros.
        clusters: for each node the number of its cluster, which runs sparse as a whole or not.
        blocked: the clusters that cannot run sparse.
        weights: for each cluster that can the weights of its 1x1 convolutions: (zeros, all).
        channel_first: the tensors that are kept channel by channel.
    """

    nodes: list[Node]
    roles: list[Role]
    externals: set[int]
    makers: dict[int, int]
    readers: dict[int, list[int]]
    links: Links
    hinted: bool
    clusters: list[int] = dataclasses.field(default_factory=list)
    blocked: set[int] = dataclasses.field(default_factory=set)
    weights: dict[int, tuple[int, int]] = dataclasses.field(default_factory=dict)
    channel_first: set[int] = dataclasses.field(default_factory=set)

    def readers_of(self, node: Node) -> list[int]:
        """Returns the numbers of the nodes that read what a node makes."""
        return [number for index in node.outputs for number in self.readers.get(index, ())]

    def reads_channel_first(self, number: int) -> bool:
        """Whether a node reads images that are kept channel by channel."""
        return any(index in self.channel_first for index in self.nodes[number].variables)

    def makes_channel_first(self, number: int) -> bool:
        """Whether what a node makes is kept channel by channel."""
        return any(index in self.channel_first for index in self.nodes[number].outputs)

    def leaks(self, number: int) -> bool:
        """Whether a node takes images kept channel by channel for kept pixel by pixel."""
        ends = self.reads_channel_first(number) and not self.makes_channel_first(number)
        return ends and Role.EXIT not in self.roles[number]

    def runs_sparse(self, number: int) -> bool:
        """Whether a node is a 1x1 convolution that skips zeros."""
        return (
            self.nodes[number].pointwise
            and self.reads_channel_first(number)
            and self.makes_channel_first(number)
        )


def unpacked_constants(graph: Graph) -> dict[int, Tensor]:
    """Returns the stored tensor that each constant tensor is unpacked from, by index.

    Args:
        graph: whose DENSIFY and DEQUANTIZE operators unpack constants.
    """
    constants = {index: tensor for index, tensor in enumerate(graph.tensors) if tensor.constant}
    for operator in graph.operators:
        if operator.name in _UNPACKING and operator.inputs[:1] and operator.inputs[0] in constants:
            constants |= dict.fromkeys(operator.outputs, constants[operator.inputs[0]])
    return constants


def find_parts(graph: Graph) -> list[Part]:
    """Returns the parts of a graph that XNNPACK runs, laid out as it would on ARM64.

    Args:
        graph: as read from a file.

    Source: LiteRT xnnpack_delegate.cc, Subgraph::Create; XNNPACK subgraph.c,
    xnn_subgraph_fusion and xnn_subgraph_rewrite_for_nchw.
    """
    constants = unpacked_constants(graph)
    unpacking = {
        place
        for place, operator in enumerate(graph.operators)
        if operator.name in _UNPACKING and operator.inputs[:1] and operator.inputs[0] in constants
    }
    delegated = [
        place in unpacking or _is_delegated(operator, graph, constants)
        for place, operator in enumerate(graph.operators)
    ]
    links = _links(graph)
    for place, operator in enumerate(graph.operators):
        if not delegated[place]:
            inputs = tuple(index for index in operator.inputs if index >= 0)
            node = Node(place, operator, inputs, operator.outputs, graph.tensors, constants)
            links.foreign.add(place)
            links.nodes[place] = node
    partitions = list(_partitions(graph, delegated, links))
    part_of = {place: part for part, places in enumerate(partitions) for place in places}
    shared = _shared(graph, links, part_of)
    result = []
    for places in partitions:
        nodes = [_node(graph, place, constants) for place in places if place not in unpacking]
        nodes = _fold_padding(nodes, shared)
        part = Part(
            nodes=nodes,
            roles=[role(node) for node in nodes],
            externals=shared.intersection(i for n in nodes for i in (*n.variables, *n.outputs)),
            makers={index: number for number, node in enumerate(nodes) for index in node.outputs},
            readers=_readers(nodes),
            links=links,
            hinted=any(
                index in constants and constants[index].sparsity is not None
                for node in nodes
                for index in node.inputs
            ),
        )
        _lay_out(part)
        links.nodes.update((node.place, node) for node in nodes)
        result.append(part)
    return result


def _links(graph: Graph) -> Links:
    links = Links(set(graph.outputs), {}, collections.defaultdict(list))
    for place, operator in enumerate(graph.operators):
        links.makers.update(dict.fromkeys(operator.outputs, place))
        for index in dict.fromkeys(operator.inputs):
            links.readers[index].append(place)
        makers = [links.makers[index] for index in operator.inputs if index in links.makers]
        if any(m in links.inner or _is_larger(graph, graph.operators[m]) for m in makers):
            links.inner.add(place)
    return links


def _is_larger(graph: Graph, operator: Operator) -> bool:
    """Whether it has a kernel that is larger than 1x1."""
    if operator.name not in KERNEL_OPERATORS or len(operator.inputs) < 2 or operator.inputs[1] < 0:
        return False
    shape = graph.tensors[operator.inputs[1]].shape
    return len(shape) == 4 and shape[1:3] != (1, 1)


def _shared(graph: Graph, links: Links, part_of: Mapping[int, int]) -> set[int]:
    """Returns the tensors that some part exchanges with the rest of the graph."""
    shared = {*graph.inputs, *graph.outputs}
    for index, places in links.readers.items():
        parts = {part_of.get(place) for place in places}
        if index in links.makers:
            parts.add(part_of.get(links.makers[index]))
        if len(parts) > 1 or parts == {None}:
            shared.add(index)
    return shared


def _is_delegated(operator: Operator, graph: Graph, constants: Mapping[int, Tensor]) -> bool:
    if operator.name not in _DELEGATED or not operator.inputs or not operator.outputs:
        return False
    if operator.options.get("FusedActivationFunction") in ("TANH", "SIGN_BIT", "unknown"):
        return False
    if operator.name not in KERNEL_OPERATORS:
        return True
    if operator.inputs[0] < 0 or not constants.keys() & set(operator.inputs[1:2]):
        return False
    shape = graph.tensors[operator.inputs[1]].shape
    if operator.name == "FULLY_CONNECTED":
        # LiteRT has its own kernel for weights that it reads as they are stored.
        return len(shape) == 2 and graph.tensors[operator.inputs[1]].sparsity is None
    if operator.name in _PADDED:
        image = graph.tensors[operator.inputs[0]].shape
        if len(image) != 4 or len(operator.inputs) != 3 or min(operator.inputs) < 0:
            return False
    return len(shape) == 4 and min(shape) > 0


def _partitions(graph: Graph, delegated: list[bool], links: Links) -> Iterator[list[int]]:
    """Yields the operators that XNNPACK gets together, as LiteRT divides a graph.

    It runs what it can of one kind, then what it can of the other, and so on. Source: TensorFlow
    Lite graph_info.cc, PartitionGraphIntoIndependentNodeSubsets.
    """
    followers: dict[int, list[int]] = collections.defaultdict(list)
    waiting_for: list[int] = []
    ready: dict[bool, list[int]] = {True: [], False: []}
    for place, operator in enumerate(graph.operators):
        needed = {links.makers[index] for index in operator.inputs if index in links.makers}
        waiting_for.append(len(needed))
        for maker in needed:
            followers[maker].append(place)
        if not needed:
            heapq.heappush(ready[delegated[place]], place)
    first = min((*ready[True][:1], *ready[False][:1]), default=None)
    kind = first is not None and delegated[first]
    while ready[True] or ready[False]:
        places = []
        while ready[kind]:
            places.append(heapq.heappop(ready[kind]))
            for follower in followers[places[-1]]:
                waiting_for[follower] -= 1
                if not waiting_for[follower]:
                    heapq.heappush(ready[delegated[follower]], follower)
        if kind and places:
            yield places
        kind = not kind


def _node(graph: Graph, place: int, constants: Mapping[int, Tensor]) -> Node:
    operator = graph.operators[place]
    inputs = [i for i in operator.inputs if i >= 0][: 1 if operator.name in _ONE_INPUT else None]
    if operator.name == "MUL":
        inputs = list(dict.fromkeys(inputs))  # XNNPACK computes x * x as a square,
    if operator.name in ("MAXIMUM", "MINIMUM"):  # and a minimum with one number as an activation
        inputs = [i for i in inputs if i not in constants or constants[i].size > 1]
    node = Node(place, operator, tuple(inputs), operator.outputs, graph.tensors, constants)
    if operator.name in _PADDED:
        if operator.options.get("Padding") == "VALID":
            node.padding = (0, 0, 0, 0)
        elif node.strides == (1, 1):
            rows, columns = ((k - 1) * d for k, d in zip(node.kernel, node.dilation, strict=True))
            node.padding = (rows // 2, rows - rows // 2, columns // 2, columns - columns // 2)
    return node


def _readers(nodes: list[Node]) -> dict[int, list[int]]:
    readers = collections.defaultdict(list)
    for number, node in enumerate(nodes):
        for index in dict.fromkeys(node.variables):
            readers[index].append(number)
    return readers


def _fold_padding(nodes: list[Node], shared: set[int]) -> list[Node]:
    """Adds a PAD of the image to the only convolution that reads it."""
    readers = _readers(nodes)
    kept = []
    for node in nodes:
        users = readers[node.outputs[0]]
        if node.name == "PAD" and len(users) == 1 and node.outputs[0] not in shared:
            user = nodes[users[0]]
            listed = [node.constants[i] for i in node.operator.inputs[1:] if i in node.constants]
            pads = listed[0].integers() if listed else ()
            rank = len(node.tensors[node.inputs[0]].shape)
            is_image = rank == 4 and len(pads) == 8 and not any((*pads[:2], *pads[6:]))
            if is_image and user.padding is not None and user.inputs[0] == node.outputs[0]:
                added = zip(user.padding, pads[2:6], strict=True)
                top, bottom, left, right = (have + more for have, more in added)
                user.padding = (top, bottom, left, right)
                user.inputs = (node.inputs[0], *user.inputs[1:])
                continue
        kept.append(node)
    return kept


def _lay_out(part: Part) -> None:
    """Finds the clusters and, where they qualify, keeps their tensors channel by channel."""
    nodes, roles = part.nodes, part.roles
    leaders = list(range(len(nodes)))

    def leader(number: int) -> int:
        while leaders[number] != number:
            leaders[number] = leaders[leaders[number]]
            number = leaders[number]
        return number

    stuck, has_exit = set(), False
    for number, node in enumerate(nodes):
        if not roles[number] & (Role.INSIDE | Role.EXIT):
            continue
        for index in node.variables:
            maker = part.makers.get(index)
            if (
                maker is None
                or index in part.externals
                or not roles[maker] & (Role.ENTRY | Role.INSIDE)
            ):
                stuck.add(number)
            else:
                has_exit |= Role.EXIT in roles[number]
                if maker in stuck:
                    stuck.add(number)
                else:
                    leaders[leader(maker)] = leader(number)
    part.clusters = [leader(number) for number in range(len(nodes))]
    part.blocked = {part.clusters[number] for number in stuck}
    _block_shared(part)
    _weigh(part)
    if not part.hinted or not has_exit:
        return
    for number, node in enumerate(nodes):
        zeros, size = part.weights.get(part.clusters[number], (0, 0))
        if zeros * 3 > size * 2 and roles[number] & (Role.INSIDE | Role.EXIT):
            part.channel_first.update(node.variables)


def _block_shared(part: Part) -> None:
    """Blocks clusters with a tensor that others also read, in the order that LiteRT keeps."""
    joined = [
        number
        for number in range(len(part.nodes))
        if part.roles[number] & (Role.INSIDE | Role.EXIT)
        and part.clusters[number] not in part.blocked
    ]
    # XNNPACK counts an operand that is named twice twice here, and once below: x + x is blocked.
    reads = collections.Counter(i for number in joined for i in part.nodes[number].variables)
    for number in joined:
        for index in part.nodes[number].variables:
            if reads[index] != len(part.readers[index]) + (index in part.externals):
                part.blocked.add(part.clusters[number])


def _weigh(part: Part) -> None:
    for number, node in enumerate(part.nodes):
        cluster = part.clusters[number]
        if node.pointwise and cluster not in part.blocked and node.weights is not None:
            zeros, size = part.weights.get(cluster, (0, 0))
            added = node.tensors[node.inputs[1]].size
            part.weights[cluster] = zeros + added - node.nonzeros, size + added
