"""A graph's own blocks: where to cut it, so that any front blocks can be frozen alone.

Every prefix of the calls in order may be frozen, for nothing in it needs a gradient from behind.
What is looked for are cuts between the modules that a net is made of.
"""

import bisect
import collections
import dataclasses
import heapq
import math
from collections.abc import Iterable, Iterator

import keras
import numpy as np

from spfde_keras.graph import Graph

_MODULE = 6
"""Kernel layers in a module, at most: a residual block with its shortcut and squeeze has them."""

_LARGEST = 12
"""Kernel layers in a block, at most, where it can be cut: a cell of NASNet has them."""

_SHARE = 1 / 3
"""Share of all kernel weights in a block of more than `_MODULE`, at most."""

_DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)


@dataclasses.dataclass(frozen=True)
class Cut:
    """A place between two kernel layers.

    Attributes:
        after: int, index of the last call in front of it.
        tensors: int, number of tensors that pass it and need a gradient.
        near: int, number of those with a use on the other side at most a module away.
    """

    after: int
    tensors: int
    near: int


def automatic_blocks(graph: Graph) -> dict[int, int]:
    """Returns the block of each layer that owns weights, by `id`; see `find_blocks`."""
    one = _sharing(graph)
    graph = _together(graph, one)
    first: dict[int, int] = {}
    for index, call in enumerate(graph.calls):
        if owns_weights(call.layer):
            first.setdefault(one[id(call.layer)], index)
    ends = _chosen(graph, _allowed(graph, _cuts(graph, one), one))
    return {
        id(call.layer): int(np.searchsorted(ends, first[one[id(call.layer)]]))
        for call in graph.calls
        if owns_weights(call.layer)
    }


def _sharing(graph: Graph) -> dict[int, int]:
    """For each layer, by `id`, the first one that it shares weights with: for most, itself."""
    holder: dict[int, int] = {}  # weight -> layer
    one: dict[int, int] = {}
    for call in graph.calls:
        layer = id(call.layer)
        weights = call.layer.weights if isinstance(call.layer, keras.layers.Layer) else []
        known = {one[holder[id(w)]] for w in weights if id(w) in holder} - {one.get(layer)}
        one.setdefault(layer, min(known, default=layer))
        if known:
            one = {other: one[layer] if root in known else root for other, root in one.items()}
        holder.update((id(weight), layer) for weight in weights)
    return one


def _together(graph: Graph, one: dict[int, int]) -> Graph:
    """The graph with all calls of a shared layer, such as a tower's, as close as they can be."""
    first: dict[int, int] = {}
    keys = [
        (first.setdefault(one[id(c.layer)], index), index) for index, c in enumerate(graph.calls)
    ]
    makers = {id(x): index for index, call in enumerate(graph.calls) for x in call.outputs}
    awaited = [{makers[id(x)] for x in c.inputs if id(x) in makers} for c in graph.calls]
    readers = collections.defaultdict(list)
    for index, needed in enumerate(awaited):
        for maker in needed:
            readers[maker].append(index)
    ready = [key for key, needed in zip(keys, awaited, strict=True) if not needed]
    heapq.heapify(ready)
    ordered = []
    while ready:
        _, index = heapq.heappop(ready)
        ordered.append(graph.calls[index])
        for reader in readers[index]:
            awaited[reader].discard(index)
            if not awaited[reader]:
                heapq.heappush(ready, keys[reader])
    return dataclasses.replace(graph, calls=tuple(ordered))


def owns_weights(layer: keras.Operation) -> bool:
    """Whether there is anything in it to freeze."""
    return isinstance(layer, keras.layers.Layer) and bool(layer.weights)


def _kernel_size(layer: keras.Operation) -> int:
    """The number of weights in the kernels of a layer; 0 for one without."""
    weights = layer.weights if isinstance(layer, keras.layers.Layer) else []
    kernels = [w for w in weights if w.name.endswith(("kernel", "embeddings"))]
    return sum(math.prod(kernel.shape) for kernel in kernels)


def _cuts(graph: Graph, one: dict[int, int]) -> Iterator[Cut]:
    """The best place after each kernel layer: where the fewest tensors pass, the last such."""
    tensors, near = _passing(graph, one)
    heads = [index for index, call in enumerate(graph.calls) if _kernel_size(call.layer)]
    for start, stop in zip(heads, heads[1:], strict=False):
        after = stop - 1 - int(np.argmin(tensors[start:stop][::-1]))
        yield Cut(after, int(tensors[after]), int(near[after]))


def _passing(graph: Graph, one: dict[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """How many tensors that need a gradient are used behind each call; how many of them soon."""
    # Kernel layers up to each call: a use is near if few of them lie between.
    passed = np.cumsum([bool(_kernel_size(call.layer)) for call in graph.calls])
    uses: dict[int, list[int]] = {id(tensor): [len(graph.calls)] for tensor in graph.outputs}
    for index, call in enumerate(graph.calls):
        for tensor in call.inputs:
            uses.setdefault(id(tensor), []).append(index)
    # By layer: the outputs of all calls of a shared one, as of a tower, pass as one.
    passes: dict[int, np.ndarray] = collections.defaultdict(
        lambda: np.zeros((2, len(graph.calls) + 1), bool)
    )
    needs: set[int] = set()
    for index, call in enumerate(graph.calls):
        # Masks, positions and other inputs that no weight has touched need none.
        if not owns_weights(call.layer) and needs.isdisjoint(map(id, call.inputs)):
            continue
        for tensor in call.outputs:
            needs.add(id(tensor))
            used = uses.get(id(tensor), [])
            soon = [use for use in used if passed[use - 1] - passed[index] <= _MODULE]
            for row, last in enumerate((max(used, default=0), max(soon, default=0))):
                passes[one[id(call.layer)]][row, index:last] = True
    tensors, near = np.sum(list(passes.values()), axis=0)
    return tensors, near


def _allowed(graph: Graph, cuts: Iterable[Cut], one: dict[int, int]) -> list[Cut]:
    """The cuts that part neither a depthwise convolution from the next one, nor a shared layer."""
    first: dict[int, int] = {}
    inside = np.zeros(len(graph.calls), bool)
    head: keras.Operation | None = None
    for index, call in enumerate(graph.calls):
        if owns_weights(call.layer):
            inside[first.setdefault(one[id(call.layer)], index) : index] = True
        if _kernel_size(call.layer):
            head = call.layer
        inside[index] |= isinstance(head, _DEPTHWISE)
    return [cut for cut in cuts if not inside[cut.after]]


def _chosen(graph: Graph, cuts: list[Cut]) -> list[int]:
    """Indices of the last call of each block but the last one."""
    sizes = {id(call.layer): _kernel_size(call.layer) for call in graph.calls}
    total = sum(sizes.values())

    def extent(start: int, stop: int) -> tuple[int, float]:
        """The number of kernel layers in a block, and their share of all kernel weights."""
        inside = {id(call.layer) for call in graph.calls[start + 1 : stop + 1]}
        held = [sizes[layer] for layer in inside if sizes[layer]]
        return len(held), sum(held) / max(total, 1)

    def is_small(start: int, stop: int) -> bool:
        layers, share = extent(start, stop)
        return layers <= _LARGEST and share <= _SHARE

    ends = [-1, *(cut.after for cut in cuts), len(graph.calls) - 1]
    parts = [-1, *(cut.after for cut in cuts if cut.tensors <= 1), len(graph.calls) - 1]
    # First across what most tensors pass that are used soon: that is the inside of a module.
    for cut in sorted(cuts, key=lambda cut: -cut.near):
        if cut.tensors <= 1:
            continue
        part = _around(parts, cut.after)
        whole = is_small(*part) or extent(*part)[0] <= _MODULE
        position = ends.index(cut.after)
        if whole or (cut.near != 1 and is_small(ends[position - 1], ends[position + 1])):
            del ends[position]
    return ends[1:-1]


def _around(ends: list[int], index: int) -> tuple[int, int]:
    position = bisect.bisect_left(ends, index)
    return ends[position - 1], ends[position]
