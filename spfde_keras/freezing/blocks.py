"""A model as a sequence of blocks that can be frozen from the front."""

import itertools
import re
from collections.abc import Sequence
from typing import Any, TypeAlias

import keras

from spfde_keras import checks, compat
from spfde_keras.freezing.automatic import automatic_blocks, owns_weights
from spfde_keras.freezing.parts import OwnWeights, parts
from spfde_keras.graph import Call, Graph, trace

Selector: TypeAlias = str | keras.layers.Layer
Pattern: TypeAlias = Selector | Sequence[Selector]
Unit: TypeAlias = tuple[str, keras.layers.Layer]
"""What is put into a block, and its path."""


def find_blocks(
    model: keras.Model, blocks: Sequence[Pattern] | None = None
) -> list[list[keras.layers.Layer]]:
    """Divides the layers of a model into blocks such that any front blocks can be frozen alone.

    Without `blocks` the graph is cut at each tensor through which all gradients to the layers
    in front of it pass. Parts without a kernel of their own (normalisation, activation,
    pooling, addition) belong to the block before, a depthwise convolution to the convolution
    after it. So a chain has one block per weight layer, a residual net one per residual block,
    a separable net one per pair. A layer that is called on results of its own holds all
    between together.

    A part of more than 12 layers with a kernel, or of more than 6 that hold over a third of all
    kernel weights, is cut further: wherever only tensors that are used far behind pass by, such
    as the skip connections of U-Net and WaveNet or the stages that feed a feature pyramid, and
    where it is still too large, across as few tensors as can be.

    Args:
        model: a functional or Sequential `keras.Model`, nested ones included.
        blocks: None, or a list with an entry for each block, front to back: a layer of `model`,
            a layer name, a regular expression, or a list of them. They are matched against a
            layer's name, its path through nested models ("backbone/conv1"), and the paths of
            those nested models, which stand for all their layers. They may name what is inside
            of a layer that hides it, such as a subclassed model; weights of its own that no
            entry names are then in the first block.

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
    units: list[Unit] = [(call.path, call.layer) for call in owners]
    if blocks is None:
        indices = automatic_blocks(graph)
    else:
        check_blocks("blocks", blocks)
        units = [unit for call in owners for unit in _units(call, _entries(blocks))]
        indices = _by_patterns(graph, units, blocks)
    found: list[list[keras.layers.Layer]] = [[] for _ in range(max(indices.values()) + 1)]
    block_of: dict[int, int] = {}
    for layer in {id(layer): layer for _, layer in units}.values():
        found[indices[id(layer)]].append(layer)
        if any(
            block_of.setdefault(id(weight), indices[id(layer)]) != indices[id(layer)]
            for weight in layer.weights
        ):
            raise ValueError(
                "`blocks` must put layers that share weights in one block. Received: "
                f"{layer.name!r} apart from one that it shares weights with"
            )
    return found


def check_blocks(name: str, blocks: Any) -> Sequence[Pattern]:
    """Returns `blocks` if they are a list as `find_blocks` takes it, raises ValueError otherwise.

    Whether they fit a model is another question.
    """
    if not isinstance(blocks, (list, tuple)) or not blocks:
        checks.refuse(name, "a list with an entry per block", blocks)
    for selector in itertools.chain.from_iterable(_entries(blocks)):
        if isinstance(selector, keras.layers.Layer):
            continue
        try:
            re.compile(selector)
        except (re.error, TypeError):
            checks.refuse(name, "made of layers, names and regular expressions", selector)
    return blocks


def _entries(blocks: Sequence[Pattern]) -> list[list[Selector]]:
    several = (list, tuple)
    return [list(entry) if isinstance(entry, several) else [entry] for entry in blocks]


def _units(call: Call, entries: list[list[Selector]]) -> list[Unit]:
    """A call's layer as a whole, or its parts where entries name some of them."""
    inner = list(parts(call.layer, call.path))
    for selector in (selector for entry in entries for selector in entry):
        within = any(_matches(selector, *unit, call.layer) for unit in inner)
        if within and not _matches(selector, call.path, call.layer):
            return inner
    return [(call.path, call.layer)]


def _by_patterns(graph: Graph, units: list[Unit], blocks: Sequence[Pattern]) -> dict[int, int]:
    """Block of each weight-owning layer, by `id`, by the user's patterns."""
    indices: dict[int, int] = {}
    for index, entry in enumerate(_entries(blocks)):
        for selector in entry:
            matched = [unit for unit in units if _matches(selector, *unit)]
            if not matched:
                shown = selector if isinstance(selector, str) else selector.name
                raise ValueError(
                    f"Each entry of `blocks` must match a layer that owns weights. Received: "
                    f"{shown!r}; the layers are {list(dict.fromkeys(path for path, _ in units))}"
                )
            for path, layer in matched:
                if indices.setdefault(id(layer), index) != index:
                    raise ValueError(
                        f"`blocks` must put each layer in one block. Received: {path!r} "
                        f"in blocks {indices[id(layer)]} and {index}"
                    )
    for _, layer in units:
        if isinstance(layer, OwnWeights):
            indices.setdefault(id(layer), 0)
    missing = [path for path, layer in units if id(layer) not in indices]
    if missing:
        raise ValueError(
            "`blocks` must cover every layer that owns weights. Received: nothing for "
            f"{list(dict.fromkeys(missing))}; add them, or patterns that match them"
        )
    _check_order(graph, indices)
    return indices


def _matches(
    selector: Selector,
    path: str,
    layer: keras.layers.Layer,
    around: keras.layers.Layer | None = None,
) -> bool:
    """Whether a layer, or one around it, is selected; `around` is the outermost that may be."""
    if isinstance(selector, keras.layers.Layer):
        outer = selector is not around and _holds(selector, layer)
        return layer is selector or outer
    names = path.split("/")
    ancestors = ["/".join(names[: end + 1]) for end in range(len(names))]
    return any(re.fullmatch(selector, name) for name in [names[-1], *ancestors])


def _holds(outer: keras.layers.Layer, inner: keras.layers.Layer) -> bool:
    if isinstance(inner, OwnWeights):
        return any(one is weight for one in inner.weights for weight in outer.weights)
    return any(one is inner for one in compat.all_layers(outer))


def _check_order(graph: Graph, indices: dict[int, int]) -> None:
    """Raises if a block needs the gradient that flows through a later one."""
    latest: dict[int, tuple[int, str]] = {}  # tensor -> last block upstream, its layer
    for call in graph.calls:
        before = max((latest.get(id(x), (-1, "")) for x in call.inputs), default=(-1, ""))
        # What is inside of a layer, in blocks of its own, has no known order.
        known = owns_weights(call.layer) and id(call.layer) in indices
        own = indices[id(call.layer)] if known else before[0]
        if own < before[0]:
            raise ValueError(
                f"`blocks` must follow the graph, front to back. Received: {call.path!r} in "
                f"block {own}, after {before[1]!r} in block {before[0]}"
            )
        here = (own, call.path) if known else before
        latest.update((id(x), here) for x in call.outputs)


def which_train(blocks: Sequence[Sequence[keras.layers.Layer]]) -> list[bool]:
    """Returns which blocks train, whole or in part; the others the user has frozen."""
    return [any(layer.trainable_variables for layer in block) for block in blocks]


def first_trained(blocks: Sequence[Sequence[keras.layers.Layer]]) -> int:
    """Returns the index of the first block that trains; 0 if none does."""
    trained = which_train(blocks)
    return trained.index(True) if any(trained) else 0
