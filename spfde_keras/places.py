"""Where in a model its kernels are: in layers of its graph, and in layers inside of those."""

import collections
import dataclasses
import re
from collections.abc import Iterable, Iterator

import keras

from spfde_keras import compat
from spfde_keras.copying import obstacle
from spfde_keras.layers.base import MaskArguments, masked_class
from spfde_keras.masking import Mask, find_masks
from spfde_keras.rebuilding import paths_of_leaves


@dataclasses.dataclass(frozen=True)
class Place:
    """A layer, and where it is.

    Attributes:
        layer: the layer.
        path: str, its name after those of the models and layers around it, such as
            "encoder/block_1/ffn/dense".
        leaf: the layer of the graph that it is, or is inside of.
    """

    layer: keras.layers.Layer
    path: str
    leaf: keras.layers.Layer

    @property
    def name(self) -> str:
        """The layer's own name."""
        return self.layer.name


def places(model: keras.Model) -> list[Place]:
    """Returns the layers of a functional model, and those inside of them, outer ones first.

    Each is there once, at the first of its places. Layers that are masked, or have a masked
    form, are whole: what is inside of them is not listed.

    Args:
        model: a functional model.

    Example:

    >>> inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, name="fc")], name="net")
    >>> x = keras.Input((4,))
    >>> [place.path for place in places(keras.Model(x, inner(x)))][1:]
    ['net/fc']
    """
    seen: set[int] = set()
    return [
        place
        for leaf, path in paths_of_leaves(model).items()
        for place in _inside(leaf, path, leaf, seen)
    ]


def kernel_places(model: keras.Model) -> dict[str, Place]:
    """Returns the layers that have kernels, by a name that only they have.

    It is the layer's own name where that is the only one, and its path elsewhere.
    """
    found = [place for place in places(model) if _has_kernel(place.layer)]
    names = collections.Counter(place.name for place in found)
    named: dict[str, Place] = {}
    for place in found:
        alone = names[place.name] == 1 and place.layer is place.leaf
        name = place.name if alone else place.path
        # Layers in a list may have the same name.
        named[name if name not in named else f"{name}_{len(named)}"] = place
    return named


def name_kernels(model: keras.Model) -> None:
    """Gives each masked kernel a path that only it has.

    Everything that is drawn, counted or reported goes by these paths. Keras' own ones are those
    of where a layer was built, which several may have in common.

    Args:
        model: a functional model.
    """
    for name, place in kernel_places(model).items():
        name_masks(place.layer, name)
    name_streams(model)


def name_streams(model: keras.Model) -> None:
    """Gives each mask the name by which random numbers are drawn for it.

    It is the path of its kernel, but for the numbers that Keras puts behind the names of layers:
    those depend on what else a process has made, and what is drawn must not.

    Args:
        model: a model whose kernels have their paths.
    """
    masks = find_masks(model)
    names = numbered(part for mask in masks for part in mask.kernel_path.split("/"))
    for mask in masks:
        stream = "/".join(names[part] for part in mask.kernel_path.split("/"))
        compat.set_untracked(mask, stream=stream)


def numbered(names: Iterable[str]) -> dict[str, str]:
    """Returns new names of layers, counted from the first of the model, not of the process.

    Example:

    >>> numbered(["conv", "dense_7", "dense_9", "dense_7"])
    {'conv': 'conv', 'dense_7': 'dense', 'dense_9': 'dense_1'}
    """
    counts: collections.Counter[str] = collections.Counter()
    found = {}
    for name in dict.fromkeys(names):
        stem = re.sub(r"_\d+$", "", name)
        found[name] = f"{stem}_{counts[stem]}" if counts[stem] else stem
        counts[stem] += 1
    return found


def name_masks(layer: keras.layers.Layer, name: str) -> None:
    """Gives the masked kernels of a layer paths that start with `name`."""
    for mask in find_masks(layer):
        compat.rename_variable(mask.kernel, kernel_path(name, layer, mask.kernel))


def kernel_path(name: str, layer: keras.layers.Layer, kernel: keras.Variable) -> str:
    """Returns the path of a kernel in a layer, starting with the `name` that only it has."""
    if kernel.path.startswith(f"{name}/"):
        return kernel.path
    own = f"/{kernel.path}".rpartition(f"/{layer.name}/")[2].lstrip("/")
    return f"{name}/{own}"


def sealed_leaves(model: keras.Model) -> dict[keras.layers.Layer, str]:
    """Returns the layers of a graph that cannot be copied exactly, and why."""
    reasons = {leaf: obstacle(leaf) for leaf in paths_of_leaves(model)}
    return {leaf: reason for leaf, reason in reasons.items() if reason}


def sealed_inside(sealed: Iterable[keras.layers.Layer]) -> dict[int, keras.layers.Layer]:
    """Returns what is inside of such layers, by `id`: for each the layer that it is inside of."""
    return {id(x): leaf for leaf in sealed for x in compat.all_layers(leaf) if x is not leaf}


def _inside(
    layer: keras.layers.Layer, path: str, leaf: keras.layers.Layer, seen: set[int]
) -> Iterator[Place]:
    if id(layer) in seen:
        return
    seen.add(id(layer))
    yield Place(layer, path, leaf)
    if not _is_whole(layer):
        for inner in compat.sublayers(layer):
            if not isinstance(inner, Mask):
                yield from _inside(inner, f"{path}/{inner.name}", leaf, seen)


def _is_whole(layer: keras.layers.Layer) -> bool:
    """Whether it is masked, or can be; what was never built has no kernel."""
    return isinstance(layer, MaskArguments) or bool(layer.built and masked_class(layer))


def _has_kernel(layer: keras.layers.Layer) -> bool:
    if _is_whole(layer):
        return True
    # A wrapper may list the kernel of the layer inside as its own.
    inside = {id(v) for inner in compat.sublayers(layer) for v in inner.variables}
    own = [v for v in compat.own_trainable(layer) if id(v) not in inside]
    return any(len(variable.shape) > 1 for variable in own)
