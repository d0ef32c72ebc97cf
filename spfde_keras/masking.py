"""The masks of one kernel, held by the layer that owns the kernel."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from spfde_keras import checks, compat, schemes
from spfde_keras.layout import KernelLayout
from spfde_keras.subnets import SubnetSwitch

SchemeLike = schemes.Scheme | str
"""A scheme, or the name of one."""


@dataclasses.dataclass(frozen=True)
class _Bound:
    # Keras counts a kernel twice if it is an attribute of two layers; it does not look in here.
    kernel: keras.Variable
    layout: KernelLayout


@keras.saving.register_keras_serializable("spfde_keras")
class Mask(keras.layers.Layer):
    """Holds a kernel's masks, one for each sub-net, and keeps all other weights zero.

    Everything outside the layers (updaters, sieving, export, the summary) sees a kernel only
    through `read` and `write`, or through one of its `subnets`.

    Args:
        scheme: a `Scheme` or its name, or a sequence of them, one for each sub-net.
        sparsity: float in [0, 1), the share of weights that are zero when training ends, or a
            sequence of them, one for each sub-net.
        **kwargs: arguments of `keras.layers.Layer`.

    Raises:
        ValueError: if `sparsity` is out of range, or its number differs from that of `scheme`.

    Example:

    >>> layer = MaskedDense(4, sparsity=0.75)
    >>> layer.build((None, 4))
    >>> kernel, masks = layer.masks[0].read()
    >>> masks.shape
    (1, 4, 4)
    """

    switch: SubnetSwitch | None = None
    """Says which sub-net runs; without it the first one does."""
    _misfit = ""

    def __init__(
        self,
        scheme: SchemeLike | Sequence[SchemeLike] = "unstructured",
        sparsity: float | Sequence[float] = 0.0,
        **kwargs: Any,
    ):
        super().__init__(trainable=False, **kwargs)
        targets = subnet_targets(scheme, sparsity)
        self._schemes = [one for one, _ in targets]
        self._first = [share for _, share in targets]

    @property
    def subnets(self) -> list["Subnet"]:
        """The kernel as each sub-net sees it."""
        return [
            Subnet(self, index, scheme, sparsity)
            for index, (scheme, sparsity) in enumerate(
                zip(self._schemes, self.sparsity, strict=True)
            )
        ]

    @property
    def sparsity(self) -> list[float]:
        """The share of weights that are zero when training ends, in each sub-net."""
        with tf.init_scope():  # also while a step is traced
            return _view(self.targets).tolist()

    def attach(self, kernel: keras.Variable, layout: KernelLayout) -> None:
        """Binds the masks to `kernel`; every weight is kept until masks are written.

        Raises:
            ValueError: if a scheme cannot divide the kernel, or reach the sparsity.
        """
        for scheme, sparsity in zip(self._schemes, self._first, strict=True):
            scheme.validate(layout, kernel.path, 1 - sparsity)
        self._bound = _Bound(kernel, layout)
        self.values = self.add_weight(
            name="values",
            shape=(len(self._schemes), *layout.shape),
            dtype="bool",
            initializer="ones",
            trainable=False,
        )
        # A variable: methods that divide one budget among all kernels change it as they train.
        with tf.init_scope():  # it may be read while the call that makes it is traced
            self.targets = self.add_weight(
                name="targets",
                shape=(len(self._schemes),),
                dtype="float64",
                initializer=lambda shape, dtype: ops.convert_to_tensor(self._first, dtype),
                trainable=False,
            )
        self.built = True

    def _why_not(self, stored: np.ndarray) -> str:
        """Says what stored masks must be, and are not; "" for those that can be."""
        shape = self.values.shape
        if stored.dtype != bool or stored.shape != shape:
            return (
                f"masks of {self.kernel_path!r} as bool of shape {shape}. "
                f"Received: {stored.dtype} of shape {stored.shape}"
            )
        for subnet in self.subnets:
            mask = self.layout.to_canonical(stored[subnet.index])
            whole = subnet.scheme.expand(subnet.scheme.reduce(mask), mask.shape)
            if not mask.any() or not np.array_equal(whole, mask):
                return (
                    f"a mask of {self.kernel_path!r} that keeps whole units of {subnet.scheme}. "
                    f"Received: one that keeps {np.count_nonzero(mask)} of {mask.size} weights"
                )
        return ""

    @property
    def kernel(self) -> keras.Variable:
        """The kernel's variable."""
        return self._bound.kernel

    @property
    def layout(self) -> KernelLayout:
        """The axes of the kernel."""
        return self._bound.layout

    @property
    def kernel_path(self) -> str:
        """The kernel's path, which identifies the mask everywhere."""
        return self.kernel.path

    stream: str | None = None
    """The name by which random numbers are drawn for it; None for the path of its kernel."""

    @property
    def running(self) -> tf.Tensor:
        """The mask of the sub-net that runs, a bool tensor of the kernel's shape."""
        index = 0 if self.switch is None else self.switch.index
        return self.values.value[index]

    def call(self, kernel: tf.Tensor) -> tf.Tensor:
        # `where`, not a product: masked infinity or NaN must not come through.
        return ops.where(self.running, kernel, ops.zeros((), kernel.dtype))

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the kernel (as stored) and its masks, bool with a leading sub-net axis.

        They must not be written to.
        """
        return _view(self.kernel), _view(self.values)

    def write(self, kernel: np.ndarray, masks: np.ndarray) -> None:
        """Stores `masks`, and `kernel` with zeros wherever no mask keeps a weight."""
        self.kernel.assign(kernel)
        self.change(masks, False)

    def change(self, masks: np.ndarray, fresh: np.ndarray | bool) -> None:
        """Stores `masks`; the kernel becomes zero where it is `fresh`, and no mask keeps it."""
        self.values.assign(masks)
        stays = masks.any(axis=0) & ~np.asarray(fresh)
        self.kernel.assign(ops.where(stays, self.kernel.value, ops.zeros((), self.kernel.dtype)))

    def retarget(self, subnet: int, sparsity: float) -> None:
        """Changes the share of weights that are zero when training ends, in one sub-net."""
        targets = self.sparsity
        targets[subnet] = check_sparsity(sparsity)
        self.targets.assign(targets)

    def project(self) -> None:
        """Zeroes masked weights that an optimizer that mixes positions (Muon) has changed."""
        kept = ops.any(self.values.value, axis=0)
        self.kernel.assign(ops.where(kept, self.kernel.value, ops.zeros((), self.kernel.dtype)))

    def save_own_variables(self, store: Any) -> None:
        """Saves the masks as bits, and the sparsities they train for."""
        store["bits"] = np.packbits(self.read()[1])
        store["targets"] = np.array(self.sparsity)

    def load_own_variables(self, store: Any) -> None:
        """Takes masks from a file, as bits, or, of version 0.1, as bytes.

        Raises:
            ValueError: if they are not made of units of their scheme, or one keeps nothing.
        """
        # Keras asks again, with nothing, where it also finds the mask in a list of layers.
        if "bits" in store:
            self._misfit = self._take(self._of_bits(np.asarray(store["bits"])))
        elif "0" in store:
            self._misfit = self._take(np.asarray(store["0"]))
        elif not self._misfit:
            super().load_own_variables(store)
        if "targets" in store and not self._misfit:
            self._misfit = self._take_targets(np.asarray(store["targets"]))
        if self._misfit:
            raise ValueError(f"A file must hold {self._misfit}")

    def _take_targets(self, stored: np.ndarray) -> str:
        """Takes stored sparsities, or says why not."""
        fits = stored.shape == tuple(self.targets.shape) and stored.dtype.kind == "f"
        if fits and np.all((stored >= 0) & (stored < 1)):
            self.targets.assign(stored)
            return ""
        return (
            f"a sparsity in [0, 1) of {self.kernel_path!r} for each sub-net. "
            f"Received: {stored.tolist()}"
        )

    def _take(self, stored: np.ndarray) -> str:
        """Takes stored masks, or says why not."""
        misfit = self._why_not(stored)
        if not misfit:
            self.values.assign(stored)
        return misfit

    def _of_bits(self, bits: np.ndarray) -> np.ndarray:
        shape = tuple(self.values.shape)
        count = math.prod(shape)
        if bits.shape != (-(-count // 8),):
            return bits
        return np.unpackbits(bits, count=count).view(bool).reshape(shape)

    @property
    def density(self) -> float:
        """The share of weights kept now, averaged over the sub-nets."""
        masks = self.read()[1]
        return float(np.count_nonzero(masks) / masks.size)


@dataclasses.dataclass(frozen=True)
class Subnet:
    """A kernel as one sub-net sees it, which is how updaters see it.

    Args:
        mask: the kernel's `Mask`.
        index: int, which of its sub-nets.
        scheme: the sub-net's `Scheme`.
        sparsity: float, the share of weights that are zero when training ends.
    """

    mask: Mask
    index: int
    scheme: schemes.Scheme
    sparsity: float

    @property
    def layout(self) -> KernelLayout:
        """The axes of the kernel."""
        return self.mask.layout

    @property
    def kernel_path(self) -> str:
        """The kernel's path."""
        return self.mask.kernel_path

    @property
    def stream(self) -> str:
        """The name by which random numbers are drawn for it."""
        return self.mask.stream or self.mask.kernel_path

    @property
    def density(self) -> float:
        """The share of weights that this sub-net keeps now."""
        mask = self.mask.read()[1][self.index]
        return float(np.count_nonzero(mask) / mask.size)

    @property
    def kept(self) -> int:
        """How many units of the scheme this sub-net keeps now."""
        mask = self.mask.read()[1][self.index]
        return int(np.count_nonzero(self.scheme.reduce(self.layout.to_canonical(mask))))

    @property
    def is_settled(self) -> bool:
        """Whether this sub-net keeps no more than its final density, in units of its scheme."""
        return self.kept <= self.count(1 - self.sparsity)

    def count(self, density: float) -> int:
        """Returns how many units of the scheme make up `density`."""
        return self.scheme.count(self.layout, density)

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the kernel, zero outside this sub-net, and its mask, of the same shape."""
        kernel, masks = self.mask.read()
        if len(masks) == 1:  # zero already where it is masked, and a large one is not copied
            return kernel, masks[0]
        return np.where(masks[self.index], kernel, 0), masks[self.index]

    def replace(self, kept: np.ndarray) -> np.ndarray:
        """Stores a new mask for this sub-net; the others stay as they are.

        Args:
            kept: bool array of the kernel's shape.

        Returns:
            Bool array of the kernel's shape, True for weights that no sub-net kept before, or
            none keeps now. They are set to zero.
        """
        _, masks = self.mask.read()
        changed = masks.copy()
        changed[self.index] = kept
        fresh = np.logical_xor(masks.any(axis=0), changed.any(axis=0))
        self.mask.change(changed, fresh)
        return fresh

    def initialize(self, scores: np.ndarray, density: float, rng: np.random.Generator) -> None:
        """Keeps the best units by element `scores` (the kernel's shape) at `density`.

        Ties break by `rng`.
        """
        shape = self.layout.canonical_shape
        unit_scores = self.scheme.scores(self.layout.to_canonical(scores))
        units = self.scheme.select(unit_scores, self.count(density), shape, rng)
        self.replace(self.layout.from_canonical(self.scheme.expand(units, shape)))


def _view(variable: keras.Variable) -> np.ndarray:
    # Keras would copy; this shares the memory of the tensor, which no later assignment changes.
    array = np.asarray(tf.convert_to_tensor(variable.value))
    array.flags.writeable = False
    return array


def check_sparsity(sparsity: float) -> float:
    """Returns `sparsity` if it is in [0, 1), raises ValueError otherwise."""
    return checks.number("sparsity", sparsity, least=0, below=1)


def subnet_targets(
    scheme: SchemeLike | Sequence[SchemeLike], sparsity: float | Sequence[float]
) -> list[tuple[schemes.Scheme, float]]:
    """Returns the scheme and the sparsity of each sub-net.

    Args:
        scheme: a `Scheme` or its name, or a sequence of them.
        sparsity: float in [0, 1), or a sequence of them. A single one holds for all sub-nets.

    Raises:
        ValueError: if a sparsity is out of range, or both are sequences, of different lengths.

    Example:

    >>> subnet_targets("unstructured", [0.5, 0.75])
    [(Unstructured(), 0.5), (Unstructured(), 0.75)]
    """
    lengths = {len(given) for given in (scheme, sparsity) if isinstance(given, (list, tuple))}
    if len(lengths) > 1 or 0 in lengths:
        raise ValueError(
            "`scheme` and `sparsity` must each be a single value, or one for each sub-net. "
            f"Received: scheme={scheme}, sparsity={sparsity}"
        )
    count = max(lengths, default=1)

    def each(given: Any) -> Sequence:
        return given if isinstance(given, (list, tuple)) else [given] * count

    return [
        (schemes.get(one), check_sparsity(share))
        for one, share in zip(each(scheme), each(sparsity), strict=True)
    ]


def find_masks(model: keras.Model) -> list[Mask]:
    """Returns all masks of a model, in the model's order.

    Args:
        model: a `keras.Model`.

    Returns:
        A list of `Mask`, empty for a model without sparsity.
    """
    checks.instance("model", model, keras.layers.Layer, "a keras.Model")
    # Keras' own traversal visits the layers inside a layer in reverse.
    masks: list[Mask] = []
    seen, stack = set(), [model]
    while stack:
        layer = stack.pop()
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        if isinstance(layer, Mask):
            masks.append(layer)
        stack.extend(reversed(compat.sublayers(layer)))
    return masks
