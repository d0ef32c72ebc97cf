"""CPU kernels that skip a kernel's zeros, in training and inference; layers work without them."""

from spfde_keras.kernels.activation import gelu
from spfde_keras.kernels.choice import (
    Choice,
    Convolution,
    are_disabled,
    are_used,
    choose,
    convolution_of,
    convolution_of_sequences,
    disabled,
    product_of,
)
from spfde_keras.kernels.library import Status, status
from spfde_keras.kernels.normalization import moments, normalize, relu
from spfde_keras.kernels.ops import sparse_conv1d, sparse_conv2d, sparse_matmul

__all__ = [
    "Choice",
    "Convolution",
    "Status",
    "are_disabled",
    "are_used",
    "choose",
    "convolution_of",
    "convolution_of_sequences",
    "disabled",
    "gelu",
    "moments",
    "normalize",
    "product_of",
    "relu",
    "sparse_conv1d",
    "sparse_conv2d",
    "sparse_matmul",
    "status",
]
