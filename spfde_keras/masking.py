"""The masks of one kernel, held by the layer that owns the kernel."""

import dataclasses

import keras
import numpy as np
from keras import ops

from spfde_keras import schemes
from spfde_keras.layout import KernelLayout


@dataclasses.dataclass(frozen=True)
class _Bound:
    # Keras would count a kernel held as an attribute of two layers twice; it does not look in here.
    kernel: keras.Variable
    layout: KernelLayout


@keras.saving.register_keras_serializable("spfde_keras")
class Mask(keras.layers.Layer):
    """Holds a kernel's masks and keeps the kernel zero wherever no mask keeps it.

    Everything outside the layers (updaters, sieving, export, analysis) sees a kernel only
    through `read` and `write`. The masks have a leading axis, one entry per sub-net.

    Args:
        scheme: a `Scheme`, or its name.
        sparsity: float in [0, 1), the share of weights that are zero when training ends.
        **kwargs: arguments of `keras.layers.Layer`.

    Raises:
        ValueError: if `sparsity` is out of range.

    Example:

    >>> layer = MaskedDense(4, sparsity=0.75)
    >>> layer.build((None, 4))
    >>> kernel, masks = layer.masks[0].read()
    >>> masks.shape
    (1, 4, 4)
    """

    def __init__(self, scheme="unstructured", sparsity: float = 0.0, **kwargs):
        super().__init__(trainable=False, **kwargs)
        self.scheme = schemes.get(scheme)
        self.sparsity = check_sparsity(sparsity)

    def attach(self, kernel: keras.Variable, layout: KernelLayout) -> None:
        """Binds the mask to `kernel`; every weight is kept until masks are written.

        Raises:
            ValueError: if the scheme cannot divide the kernel, or reach the sparsity.
        """
        self.scheme.validate(layout, kernel.path, 1 - self.sparsity)
        self._bound = _Bound(kernel, layout)
        self.values = self.add_weight(
            name="values",
            shape=(1, *layout.shape),
            dtype="bool",
            initializer="ones",
            trainable=False,
        )
        self.built = True

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
        """The kernel's path, by which the mask is known everywhere."""
        return self.kernel.path

    def call(self, kernel):
        # where, not a product: infinity or NaN behind a mask must not come through.
        return ops.where(self.values[0], kernel, ops.zeros((), kernel.dtype))

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the kernel (as stored) and its masks, bool with a leading sub-net axis."""
        return ops.convert_to_numpy(self.kernel), ops.convert_to_numpy(self.values)

    def write(self, kernel: np.ndarray, masks: np.ndarray) -> None:
        """Stores `masks`, and `kernel` with zeros wherever no mask keeps a weight."""
        self.values.assign(masks)
        self.kernel.assign(np.where(masks.any(axis=0), kernel, 0))

    def project(self) -> None:
        """Zeroes what an optimizer that mixes positions (Muon) left behind the masks."""
        kept = ops.any(self.values.value, axis=0)
        self.kernel.assign(ops.where(kept, self.kernel.value, ops.zeros((), self.kernel.dtype)))

    @property
    def density(self) -> float:
        """The share of weights kept now."""
        return float(np.mean(ops.convert_to_numpy(self.values)))

    def count(self, density: float) -> int:
        """Returns how many units of the scheme make up `density`."""
        return self.scheme.count(self.layout, density)

    def initialize(self, scores: np.ndarray, density: float) -> None:
        """Keeps the best units by element `scores` (the kernel's shape) at `density`."""
        shape = self.layout.canonical_shape
        unit_scores = self.scheme.scores(self.layout.to_canonical(scores))
        units = self.scheme.select(unit_scores, self.count(density), shape)
        mask = self.layout.from_canonical(self.scheme.expand(units, shape))
        self.write(self.read()[0], mask[None])


def check_sparsity(sparsity: float) -> float:
    """Returns `sparsity` if it is in [0, 1), raises ValueError otherwise."""
    if isinstance(sparsity, bool) or not isinstance(sparsity, (int, float, np.floating)):
        raise ValueError(f"`sparsity` must be a number in [0, 1). Received: {sparsity!r}")
    if not 0 <= sparsity < 1:
        raise ValueError(f"`sparsity` must be in [0, 1). Received: {sparsity}")
    return float(sparsity)


def find_masks(model: keras.Model) -> list[Mask]:
    """Returns all masks of a model, in the model's order.

    Args:
        model: a `keras.Model`.

    Returns:
        A list of `Mask`, empty for a model without sparsity.
    """
    # Keras' own walk takes the layers inside a layer in reverse.
    masks, seen, stack = [], set(), [model]
    while stack:
        layer = stack.pop()
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        if isinstance(layer, Mask):
            masks.append(layer)
        stack.extend(reversed(layer._layers))
    return masks
