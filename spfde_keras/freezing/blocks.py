"""A model as a sequence of blocks that can be frozen from the front."""

import re
from collections.abc import Sequence

import keras

from spfde_keras.freezing.automatic import automatic_blocks, owns_weights
from spfde_keras.graph import Call, Graph, trace

Pattern = str | Sequence[str]


def find_blocks(
    model: keras.Model, blocks: Sequence[Pattern] | None = None
) -> list[list[keras.layers.Layer]]:
    """Divides the layers of a model into blocks such that any front blocks can be frozen alone.

    Without `blocks` the graph is cut at each tensor through which all gradients to the layers
    in front of it pass. Parts without a kernel of their own (normalisation, activation,
    pooling, addition) belong to the block before, a depthwise convolution to the convolution
    after it. So a chain has one block per weight layer, a residual net one per residual block,
    a separable net one per pair. Layers between two calls of a shared one are in its block.

    A part of more than 12 layers with a kernel, or of more than 6 that hold over a third of all
    kernel weights, is cut further: wherever only tensors that are used far behind pass by, such
    as the skip connections of U-Net and WaveNet or the stages that feed a feature pyramid, and
    where it is still too large, across as few tensors as can be.

    Args:
        model: a functional or Sequential `keras.Model`, nested ones included.
        blocks: None, or a list with an entry for each block, front to back: a layer name, a
            regular expression, or a list of them. They are matched against a layer's name,
            its path through nested models ("backbone/conv1"), and the paths of those nested
            models, which stand for all their layers.

    Returns:
        A list of blocks, front to back; each a list of the layers that own weights.

    Raises:
        ValueError: if the model has no graph or no weights; if a pattern matches nothing, a
            layer is in no block or in two, or a block feeds an earlier one.

    Example:

    >>> mlp = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="a"),
    ...                         keras.layers.BatchNormalization(name="norm"),
    ...                         keras.layers.Dense(2, name="b")])
    >>> [[layer.name for layer in block] for block in find_blocks(mlp)]
    [['a', 'norm'], ['b']]

    Source: SpFDE (Yuan et al., NeurIPS 2022), Algorithm 1: blocks of consecutive layers.
    """
    graph = trace(model)
    owners = [call for call in graph.calls if owns_weights(call.layer)]
    if not owners:
        raise ValueError(f"`model` must own weights. Received: {model.name!r} without any")
    indices = automatic_blocks(graph) if blocks is None else _by_patterns(graph, owners, blocks)
    found: list[list[keras.layers.Layer]] = [[] for _ in range(max(indices.values()) + 1)]
    for layer in {id(call.layer): call.layer for call in owners}.values():
        found[indices[id(layer)]].append(layer)
    return found


def _by_patterns(graph: Graph, owners: list[Call], blocks: Sequence[Pattern]) -> dict[int, int]:
    """Block of each weight-owning layer, by `id`, by the user's patterns."""
    if isinstance(blocks, str) or not blocks:
        raise ValueError(f"`blocks` must be a list with an entry per block. Received: {blocks!r}")
    indices: dict[int, int] = {}
    for index, patterns in enumerate(blocks):
        for pattern in [patterns] if isinstance(patterns, str) else patterns:
            matched = [call for call in owners if _matches(pattern, call.path)]
            if not matched:
                raise ValueError(
                    f"Each entry of `blocks` must match a layer that owns weights. Received: "
                    f"{pattern!r}; the layers are {list(dict.fromkeys(c.path for c in owners))}"
                )
            for call in matched:
                if indices.setdefault(id(call.layer), index) != index:
                    raise ValueError(
                        f"`blocks` must put each layer in one block. Received: {call.path!r} "
                        f"in blocks {indices[id(call.layer)]} and {index}"
                    )
    missing = [call.path for call in owners if id(call.layer) not in indices]
    if missing:
        raise ValueError(
            "`blocks` must cover every layer that owns weights. Received: nothing for "
            f"{list(dict.fromkeys(missing))}; add them, or patterns that match them"
        )
    _check_order(graph, indices)
    return indices


def _matches(pattern: str, path: str) -> bool:
    parts = path.split("/")
    ancestors = ["/".join(parts[: end + 1]) for end in range(len(parts))]
    return any(re.fullmatch(pattern, name) for name in [parts[-1], *ancestors])


def _check_order(graph: Graph, indices: dict[int, int]) -> None:
    """Raises if a block needs the gradient that flows through a later one."""
    latest: dict[int, tuple[int, str]] = {}  # tensor -> last block upstream, its layer
    for call in graph.calls:
        before = max((latest.get(id(x), (-1, "")) for x in call.inputs), default=(-1, ""))
        own = indices.get(id(call.layer), -1) if owns_weights(call.layer) else before[0]
        if own < before[0]:
            raise ValueError(
                f"`blocks` must follow the graph, front to back. Received: {call.path!r} in "
                f"block {own}, after {before[1]!r} in block {before[0]}"
            )
        here = (own, call.path) if owns_weights(call.layer) else before
        latest.update((id(x), here) for x in call.outputs)
