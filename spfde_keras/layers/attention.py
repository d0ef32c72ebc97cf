"""Attention whose projections are masked."""

from typing import Any

import keras

from spfde_keras import compat
from spfde_keras.layers.base import MaskArguments, register_masked
from spfde_keras.layers.masked import MaskedEinsumDense
from spfde_keras.masking import Mask

_PROJECTIONS = ("query", "key", "value", "output")


@register_masked(keras.layers.MultiHeadAttention)
class MaskedMultiHeadAttention(MaskArguments, keras.layers.MultiHeadAttention):
    """`keras.layers.MultiHeadAttention` whose projections are `MaskedEinsumDense`.

    Args:
        *args: arguments of `keras.layers.MultiHeadAttention`.
        scheme: a `Scheme` or its name.
        sparsity: float in [0, 1), or a dictionary from "query", "key", "value", "output"
            (and "gate", with `use_gate`) to floats; projections not named in it stay dense.
        **kwargs: arguments of `keras.layers.MultiHeadAttention`.

    Example:

    >>> layer = MaskedMultiHeadAttention(num_heads=2, key_dim=4, sparsity=0.5)
    >>> layer.build((None, 6, 8), (None, 6, 8))
    >>> [mask.kernel_path.split("/")[-2] for mask in layer.masks]
    ['query', 'key', 'value', 'attention_output']
    """

    @property
    def masked_weights(self) -> tuple[str, ...]:  # type: ignore[override]
        """The names of the projections."""
        return _PROJECTIONS + (("gate",) if compat.has_gate(self) else ())

    def __setattr__(self, name: str, value: Any) -> None:
        # Keras makes the projections in `build`. They are replaced before they have weights.
        projection = compat.projection_of_attribute(name)
        if type(value) is keras.layers.EinsumDense and projection in self.sparsity:
            arguments = {"scheme": self.scheme, "sparsity": self.sparsity[projection]}
            value = MaskedEinsumDense.from_config(value.get_config() | arguments)
        super().__setattr__(name, value)

    @property
    def masks(self) -> list[Mask]:
        """The masks of the projections."""
        return [compat.attention_projection(self, name).masks[0] for name in self.sparsity]
