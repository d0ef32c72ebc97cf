"""FLOPs and memory of training a model.

The rules, those of SpFDE (section 4) and RigL (appendix H), stated in `RULES`.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import keras
import numpy as np

from spfde_keras.cost.uses import Use, estimated, uses
from spfde_keras.freezing.blocks import Pattern, find_blocks
from spfde_keras.graph import trace
from spfde_keras.masking import Mask, find_masks
from spfde_keras.open_sizes import InputShape, input_shapes

_ESTIMATED = (
    "Kernels of recurrent layers, and of layers whose use of them is not known, count as if they "
    "were used once at each position of the layer's input."
)
_OPEN_SIZES = (
    "Inputs of unknown size have the sizes that are given, or, in training, the mean sizes of an "
    "epoch's batches, rounded to sizes that the model takes: exact for what is done at each "
    "position of a sequence, about right for images of several sizes. Ragged inputs count their "
    "mean length, whatever pads them. Without sizes they count as one position, and shares are "
    "not known."
)
RULES = (
    "One multiply-accumulate (MAC) is 2 FLOPs. Only kernels count: biases, normalisation, "
    "activations, pooling, attention products and data augmentation do not.",
    "A kernel costs as many MACs per sample as it has non-zero weights, times the positions it is "
    "applied at. Layers left dense count in full.",
    "Training is the forward pass, the gradient of the weights and the gradient of the inputs, "
    "each as many FLOPs as forward. The input gradient is not counted for kernels with nothing "
    "trainable upstream.",
    _ESTIMATED,
    _OPEN_SIZES,
    "Frozen blocks cost their forward pass only.",
    "Memory is fp32: non-zero kernel weights, outputs of the kernel layers times the batch size, "
    "and the gradients of both; frozen blocks have no gradients. Indices of sparse weights and "
    "optimizer slots are not counted.",
)

Densities = Mapping[str, float]
"""Share of non-zero weights by kernel path; kernels not named are dense."""

_FLOPS_PER_MAC = 2
_BYTES = 4  # fp32


@dataclasses.dataclass(frozen=True)
class KernelCost:
    """What one kernel costs. MACs per sample = non-zero weights * positions.

    Attributes:
        path: str, path of the kernel's variable.
        block: int, the block that its layer is in.
        size: int, number of weights.
        positions: int, how often each weight is used per sample, over all calls of the layer.
        outputs: int, number of values per sample the kernel makes, over all calls of the layer.
        upstream: int, the last block with a trainable weight upstream of it, -1 if none.
        trainable: bool, False where the user has set `trainable = False`.
    """

    path: str
    block: int
    size: int
    positions: int
    outputs: int
    upstream: int
    trainable: bool = True


@dataclasses.dataclass(frozen=True)
class ModelCost:
    """What a model costs per sample; made by `profile`.

    Where a method takes `densities`, None means what the masks keep now, averaged over sub-nets,
    and {} the dense model. `frozen` is the number of frozen front blocks.

    Attributes:
        kernels: tuple of `KernelCost` in the order of the graph.
        blocks: int, number of blocks.
        masks: tuple of the model's `Mask`.
        uncounted: tuple of paths of kernels whose cost is estimated, see `RULES`: those of
            recurrent layers, and of layers that are not Keras' own.
        unknown: tuple of paths of layers with inputs or outputs of unknown size.
    """

    kernels: tuple[KernelCost, ...]
    blocks: int
    masks: tuple[Mask, ...] = ()
    uncounted: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def rules(self) -> tuple[str, ...]:
        """Those of `RULES` that concern this model."""
        of = {_ESTIMATED: self.uncounted, _OPEN_SIZES: self.unknown}
        return tuple(rule for rule in RULES if of.get(rule, True))

    @property
    def block_sizes(self) -> list[int]:
        """The number of kernels in each block, front to back."""
        return np.bincount(self._column("block"), minlength=self.blocks).tolist()

    def densities(self) -> dict[str, float]:
        """Returns what the masks keep now, by kernel path."""
        return {mask.kernel_path: mask.density for mask in self.masks}

    def forward(self, densities: Densities | None = None) -> float:
        """Returns FLOPs of the forward pass per sample."""
        return float(self.by_block(densities)["forward"].sum())

    def training(self, densities: Densities | None = None, frozen: int = 0) -> float:
        """Returns FLOPs of forward and backward pass per sample."""
        return float(sum(part.sum() for part in self.by_block(densities, frozen).values()))

    def update_gradient(
        self, gradient: str, densities: Densities | None = None, frozen: int = 0
    ) -> float:
        """Returns FLOPs per sample of the extra pass that gives a mask update its gradient.

        Args:
            gradient: "masked", or "dense" for the weight gradient of the dense model.
            densities: share of non-zero weights by kernel path.
            frozen: int, number of frozen front blocks.
        """
        parts = self.by_block(densities, frozen)
        if gradient == "dense":
            parts["weight_gradient"] = self.by_block({}, frozen)["weight_gradient"]
        return float(sum(part.sum() for part in parts.values()))

    def by_block(
        self, densities: Densities | None = None, frozen: int = 0
    ) -> dict[str, np.ndarray]:
        """Returns the parts of a training step, per sample and block.

        Args:
            densities: share of non-zero weights by kernel path.
            frozen: int, number of frozen front blocks.

        Returns:
            {"forward", "weight_gradient", "input_gradient"} -> FLOPs, float array (blocks,).
        """
        kept = self.kept(densities)
        return {part: self._per_block(kept * r) for part, r in self.rates(frozen).items()}

    def rates(self, frozen: int = 0) -> dict[str, np.ndarray]:
        """Returns what the parts of a training step take by kernel, if all weights were kept.

        Args:
            frozen: int, number of frozen front blocks.

        Returns:
            As `by_block`, but float arrays (kernels,): FLOPs per sample and density.
        """
        flops = 1.0 * _FLOPS_PER_MAC * self._column("size") * self._column("positions")
        trains, passes_back = self._trained(frozen)
        return {
            "forward": flops,
            "weight_gradient": flops * trains,
            "input_gradient": flops * passes_back,
        }

    def memory(self, densities: Densities | None = None, frozen: int = 0, batch: int = 64) -> float:
        """Returns bytes for weights, activations and the gradients of both."""
        return float(self.memory_by_block(densities, frozen, batch).sum())

    def memory_by_block(
        self, densities: Densities | None = None, frozen: int = 0, batch: int = 64
    ) -> np.ndarray:
        """Returns what `memory` adds up, a float array (blocks,)."""
        trains, passes_back = self._trained(frozen)
        weights = self._column("size") * self.kept(densities) * (1 + trains)
        activations = batch * self._column("outputs") * (1 + (trains | passes_back))
        return self._per_block(_BYTES * (weights + activations))

    def _trained(self, frozen: int) -> tuple[np.ndarray, np.ndarray]:
        """Which kernels have a gradient, and which pass one on to what is in front."""
        trains = self._column("trainable") & (self._column("block") >= frozen)
        return trains, self._column("upstream") >= frozen

    def kept(self, densities: Densities | None = None) -> np.ndarray:
        """Returns the share of weights that each kernel keeps, a float array (kernels,)."""
        densities = self.densities() if densities is None else densities
        unknown = set(densities).difference((k.path for k in self.kernels), self.uncounted)
        if unknown:
            raise ValueError(
                f"`densities` must name kernels of the model. Received: {sorted(unknown)}; the "
                f"kernels are {[kernel.path for kernel in self.kernels]}"
            )
        return np.array([densities.get(kernel.path, 1.0) for kernel in self.kernels])

    def _column(self, name: str) -> np.ndarray:
        return np.array([getattr(kernel, name) for kernel in self.kernels])

    def _per_block(self, values: np.ndarray) -> np.ndarray:
        return np.bincount(self._column("block"), values, self.blocks)


def profile(
    model: keras.Model,
    blocks: Sequence[Pattern] | None = None,
    input_shape: InputShape | None = None,
) -> ModelCost:
    """Returns what a model costs per sample.

    Kernels of Conv, DepthwiseConv, SeparableConv, ConvTranspose, Dense and EinsumDense layers
    and their masked forms count, also inside MultiHeadAttention, TimeDistributed and
    subclassed layers (there with the shapes that their layers were built with). A layer that
    is called twice counts twice. The products of queries, keys and values do not count.

    Args:
        model: a functional or Sequential `keras.Model`, plain or made by `sparsify`, in the state
            in which it will be trained: layers with `trainable = False` have no gradient.
        blocks: as for `find_blocks`.
        input_shape: None, or the shape of one sample without the batch axis, for a model whose
            inputs have no size of their own: (32, 32, 3). Of several inputs a list of shapes,
            or a dictionary by name.

    Returns:
        A `ModelCost`.

    Raises:
        ValueError: if the model has no graph, `blocks` do not fit it, it has no kernel that can
            be counted, or `input_shape` does not fit it.

    Example:

    >>> mlp = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4), keras.layers.Dense(2)])
    >>> cost = profile(mlp)
    >>> cost.forward(), cost.training()
    (80.0, 176.0)

    Source: SpFDE (Yuan et al., NeurIPS 2022), section 4; RigL (Evci et al., 2020), appendix H.
    """
    found = find_blocks(model, blocks)
    block_of = {
        id(weight): index
        for index, block in enumerate(found)
        for layer in block
        for weight in layer.weights
    }
    masks = tuple(find_masks(model))
    masked = {id(mask.kernel) for mask in masks}
    kernels: dict[int, KernelCost] = {}
    uncounted: dict[str, None] = {}
    unknown: dict[str, None] = {}
    upstream: dict[int, int] = {}  # tensor -> last block with a trainable weight
    shapes = None if input_shape is None else input_shapes(model, input_shape)
    for call in trace(model, shapes).calls:
        latest = max((upstream.get(id(x), -1) for x in call.inputs), default=-1)
        if isinstance(call.layer, keras.layers.Layer) and call.layer.weights:
            known = list(uses(call))
            counted = {id(use.kernel) for use in known}
            guessed = [
                estimated(call, weight)
                for weight in call.layer.weights
                if _multiplies(weight, masked) and id(weight) not in counted
            ]
            for use in [*known, *guessed]:
                block = block_of[id(use.kernel)]
                _add(kernels, use, block, block if use.inner else latest)
            uncounted |= {use.kernel.path: None for use in guessed}
            if any(None in x.shape[1:] for x in (*call.inputs, *call.outputs)):
                unknown[call.path] = None
            latest = max([latest, *(block_of[id(w)] for w in call.layer.trainable_weights)])
        upstream.update((id(x), latest) for x in call.outputs)
    if not kernels:
        raise ValueError(
            "`model` must have a convolution, Dense or EinsumDense layer to count. Received: "
            f"{model.name!r} without any"
        )
    return ModelCost(tuple(kernels.values()), len(found), masks, tuple(uncounted), tuple(unknown))


def _multiplies(weight: keras.Variable, masked: set[int]) -> bool:
    """Whether a weight is a matrix that inputs are multiplied with, as far as one can tell."""
    # Scales and offsets may have several axes: those of normalizations with a set for each sub-net.
    added = weight.name.endswith(("embeddings", "bias", "gamma", "beta"))
    matrix = len(weight.shape) > 1 and (weight.trainable or weight.name.endswith("kernel"))
    return id(weight) in masked or (matrix and not added)


def _add(kernels: dict[int, KernelCost], use: Use, block: int, upstream: int) -> None:
    before = kernels.get(id(use.kernel))
    kernels[id(use.kernel)] = KernelCost(
        path=use.kernel.path,
        block=block,
        size=math.prod(use.kernel.shape),
        positions=use.positions + (before.positions if before else 0),
        outputs=use.outputs + (before.outputs if before else 0),
        upstream=max(upstream, before.upstream if before else -1),
        trainable=use.kernel.trainable,
    )
