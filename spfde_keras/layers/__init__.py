"""Keras layers that carry masks."""

from spfde_keras.layers.attention import MaskedMultiHeadAttention
from spfde_keras.layers.base import MaskedLayer, masked_class, plain_class, register_masked
from spfde_keras.layers.masked import (
    MaskedConv1D,
    MaskedConv2D,
    MaskedConv2DTranspose,
    MaskedConv3D,
    MaskedDense,
    MaskedDepthwiseConv2D,
    MaskedEinsumDense,
    MaskedSeparableConv2D,
)

__all__ = [
    "MaskedConv1D",
    "MaskedConv2D",
    "MaskedConv2DTranspose",
    "MaskedConv3D",
    "MaskedDense",
    "MaskedDepthwiseConv2D",
    "MaskedEinsumDense",
    "MaskedLayer",
    "MaskedMultiHeadAttention",
    "MaskedSeparableConv2D",
    "masked_class",
    "plain_class",
    "register_masked",
]
