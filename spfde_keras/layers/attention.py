"""Attention whose projections are masked."""

from typing import Any

import keras
import tensorflow as tf

from spfde_keras import compat, kernels
from spfde_keras.layers.base import MaskArguments, register_masked
from spfde_keras.layers.masked import MaskedEinsumDense
from spfde_keras.masking import Mask

_MASKED_OUT = -0.7 * tf.float32.max  # as Keras has it: far below any score, and still finite
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

    def _compute_attention(
        self,
        query: tf.Tensor,
        key: tf.Tensor,
        value: tf.Tensor,
        attention_mask: tf.Tensor | None = None,
        training: bool | None = None,
        return_attention_scores: bool = False,
        **options: Any,
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Attends head by head; Keras documents this method as one to be overridden.

        Where the kernels are used, in products of matrices: einsums of (batch, tokens, heads,
        features) take as long as sparse projections, their gradients longer.
        """
        if (
            not kernels.are_used()
            or keras.backend.standardize_dtype(query.dtype) != "float32"
            or len(query.shape) != 4
            or (attention_mask is not None and len(attention_mask.shape) != 3)
            or self.dropout
            or return_attention_scores
            or options
        ):
            return super()._compute_attention(
                query, key, value, attention_mask, training, return_attention_scores, **options
            )
        query, key, value = (tf.transpose(x, (0, 2, 1, 3)) for x in (query, key, value))
        scores = tf.matmul(query * query.shape[-1] ** -0.5, key, transpose_b=True)
        if attention_mask is not None:
            seen = tf.cast(tf.expand_dims(attention_mask, 1), tf.bool)
            scores = tf.where(seen, scores, _MASKED_OUT)
        return tf.transpose(tf.matmul(tf.nn.softmax(scores), value), (0, 2, 1, 3)), None
