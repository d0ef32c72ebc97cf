"""Attention whose projections are masked."""

import keras

from spfde_keras import schemes
from spfde_keras.layers.base import register_masked
from spfde_keras.layers.masked import MaskedEinsumDense

_PROJECTIONS = ("query", "key", "value", "output")


@register_masked(keras.layers.MultiHeadAttention)
class MaskedMultiHeadAttention(keras.layers.MultiHeadAttention):
    """`keras.layers.MultiHeadAttention` whose four projections are `MaskedEinsumDense`.

    Args:
        *args: arguments of `keras.layers.MultiHeadAttention`.
        scheme: a `Scheme` or its name.
        sparsity: float in [0, 1), or a dictionary from "query", "key", "value" and
            "output" to floats; projections not named in it stay dense.
        **kwargs: arguments of `keras.layers.MultiHeadAttention`.

    Example:

    >>> layer = MaskedMultiHeadAttention(num_heads=2, key_dim=4, sparsity=0.5)
    >>> layer.build((None, 6, 8), (None, 6, 8))
    >>> [mask.kernel_path.split("/")[-2] for mask in layer.masks]
    ['query', 'key', 'value', 'output']
    """

    masked_weights = _PROJECTIONS

    def __init__(self, *args, scheme="unstructured", sparsity=0.0, **kwargs):
        super().__init__(*args, **kwargs)
        if isinstance(scheme, dict):
            scheme = keras.saving.deserialize_keras_object(scheme)
        self.scheme = schemes.get(scheme)
        if not isinstance(sparsity, dict):
            sparsity = dict.fromkeys(_PROJECTIONS, sparsity)
        self.sparsity = dict(sparsity)

    def build(self, query_shape, value_shape, key_shape=None):
        super().build(query_shape, value_shape, key_shape)
        for name, sparsity in self.sparsity.items():
            plain = getattr(self, f"_{name}_dense")
            masked = MaskedEinsumDense.from_config(
                plain.get_config() | {"scheme": self.scheme, "sparsity": sparsity}
            )
            masked.build(plain.get_build_config()["input_shape"])
            delattr(self, f"_{name}_dense")
            setattr(self, f"_{name}_dense", masked)

    @property
    def masks(self) -> list:
        """The masks of the projections."""
        return [getattr(self, f"_{name}_dense").masks[0] for name in self.sparsity]

    def get_config(self) -> dict:
        config = super().get_config()
        config["scheme"] = keras.saving.serialize_keras_object(self.scheme)
        config["sparsity"] = dict(self.sparsity)
        return config
