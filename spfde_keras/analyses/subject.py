"""What is analysed: the kernels of a model in training, as bits where they are masks."""

import dataclasses
from collections.abc import Iterator, Sequence

import keras
import numpy as np

from spfde_keras import compat
from spfde_keras.layers.base import MaskedLayer, masked_class
from spfde_keras.masking import Mask, find_masks
from spfde_keras.places import kernel_path, kernel_places
from spfde_keras.sparse_training import SparseTraining


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A kernel, by the name of its layer, and the layer that owns it.

    Attributes:
        name: str, the layer's; with the kernel's own behind it where a layer has several.
        layer: whose outputs the kernel makes.
        variable: the kernel.
        mask: its `Mask`, None in a model without masks.
    """

    name: str
    layer: keras.layers.Layer
    variable: keras.Variable
    mask: Mask | None

    def read(self, subnet: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the weights of a sub-net, and which it keeps, bool; both (weights,)."""
        if self.mask is None:
            weights = np.asarray(self.variable).reshape(-1)
            return weights, np.ones(weights.shape, bool)
        weights, kept = self.mask.subnets[subnet].read()
        return weights.reshape(-1), kept.reshape(-1)


class Subject:
    """The kernels of a model in training, in the model's order.

    Args:
        training: the callback that trains it; it has been given the model.
    """

    def __init__(self, training: SparseTraining):
        self.model: keras.Model = training.model
        self.seed = training.seed
        self.sieve = training.sieve
        self.kernels = _masked(self.model) or _without_masks(self.model)
        self.masked = bool(self.model.subnets)
        self.subnets: list[str] = self.model.subnets or ["dense"]
        self._sizes = [int(np.prod(kernel.variable.shape)) for kernel in self.kernels]
        found = {
            id(variable): index
            for index, block in enumerate(training.blocks)
            for layer in block
            for variable in layer.variables
        }
        self.blocks: list[list[int]] = [[] for _ in training.blocks]
        for index, kernel in enumerate(self.kernels):
            self.blocks[found[id(kernel.variable)]].append(index)

    @property
    def shape(self) -> tuple[int, int]:
        """How many sub-nets and kernels there are."""
        return len(self.subnets), len(self.kernels)

    @property
    def bits_shape(self) -> tuple[int, int]:
        """The shape of bits for each weight of each sub-net."""
        return len(self.subnets), -(-sum(self._sizes) // 8)

    def pack(self, positions: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
        """Returns, as bits, a bool array (weights,) for each sub-net and kernel."""
        return np.stack([np.packbits(np.concatenate(each)) for each in positions])

    def unpack(self, bits: np.ndarray) -> list[list[np.ndarray]]:
        """Returns what `pack` has packed."""
        ends = np.cumsum(self._sizes)
        return [
            np.split(np.unpackbits(each, count=ends[-1]).view(bool), ends[:-1]) for each in bits
        ]

    def kept(self) -> list[list[np.ndarray]]:
        """Returns the masks now: for each sub-net and kernel bool (weights,)."""
        subnets, _ = self.shape
        return [[kernel.read(subnet)[1] for kernel in self.kernels] for subnet in range(subnets)]


def _masked(model: keras.Model) -> list[Kernel]:
    owners = {
        id(inner): layer
        for layer in compat.all_layers(model)
        for inner in compat.sublayers(layer)
        if isinstance(inner, Mask)
    }
    return [
        Kernel(_name(mask.kernel_path), owners[id(mask)], mask.kernel, mask)
        for mask in find_masks(model)
    ]


def _without_masks(model: keras.Model) -> list[Kernel]:
    """The kernels that `sparsify` could mask, by the names that they would have then."""
    return [
        Kernel(_name(kernel_path(name, place.layer, variable)), owner, variable, None)
        for name, place in kernel_places(model).items()
        for owner in _owners(place.layer)
        for variable in owner.weights
        if len(variable.shape) > 1 and "bias" not in variable.name
    ]


def _owners(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    """The layers in a layer, or itself, whose masked forms have masks of their own."""
    masked = masked_class(layer)
    if masked is not None and issubclass(masked, MaskedLayer):
        yield layer
    elif masked is not None:
        for inner in compat.sublayers(layer):
            yield from _owners(inner)


def _name(path: str) -> str:
    return path.removesuffix("/kernel")
