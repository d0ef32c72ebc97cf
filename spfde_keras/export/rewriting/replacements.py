"""The layers that rewrites put in place of others."""

from typing import Any

import keras
import numpy as np
from keras import layers

from spfde_keras.export.rewriting.graph import CallSite
from spfde_keras.export.rewriting.windows import place


def convolution(
    site: CallSite,
    suffix: str,
    image: keras.KerasTensor,
    kernel: np.ndarray,
    bias: np.ndarray | None = None,
    **options: Any,
) -> keras.KerasTensor:
    """Returns an image after a convolution.

    Args:
        site: what is rewritten.
        suffix: str, for the name of the layer.
        image: tensor (batch, height, width, inputs) of the new model.
        kernel: array (rows, columns, inputs, outputs).
        bias: array (outputs,), if there is one.
        options: further ones of the layer.
    """
    return site.add(
        layers.Conv2D,
        suffix,
        image,
        weights=_weights(kernel, bias),
        filters=kernel.shape[-1],
        kernel_size=kernel.shape[:2],
        use_bias=bias is not None,
        **options,
    )


def depthwise(
    site: CallSite,
    image: keras.KerasTensor,
    kernel: np.ndarray,
    bias: np.ndarray | None = None,
    stride: int = 1,
) -> keras.KerasTensor:
    """Returns an image after a depthwise convolution that is padded by half its kernel.

    Args:
        site: what is rewritten.
        image: tensor (batch, height, width, channels) of the new model.
        kernel: array (size, size, channels, 1).
        bias: array (channels,), if there is one.
        stride: int.
    """
    size = len(kernel)
    image, padding = pad(site, image, size, stride)
    return site.add(
        layers.DepthwiseConv2D,
        "depthwise",
        image,
        weights=_weights(kernel, bias),
        kernel_size=size,
        strides=stride,
        padding=padding,
        use_bias=bias is not None,
    )


def dense(
    site: CallSite,
    vector: keras.KerasTensor,
    kernel: np.ndarray,
    bias: np.ndarray | None = None,
    **options: Any,
) -> keras.KerasTensor:
    """Returns a vector after a dense layer.

    Args:
        site: what is rewritten.
        vector: tensor (batch, inputs) of the new model.
        kernel: array (inputs, outputs).
        bias: array (outputs,), if there is one.
        options: further ones of the layer.
    """
    return site.add(
        layers.Dense,
        "dense",
        vector,
        weights=_weights(kernel, bias),
        units=kernel.shape[-1],
        use_bias=bias is not None,
        **options,
    )


def pad(
    site: CallSite, image: keras.KerasTensor, size: int, stride: int
) -> tuple[keras.KerasTensor, str]:
    """Pads for a kernel of a size; returns the image and the padding left to the convolution.

    Args:
        site: what is rewritten.
        image: tensor (batch, height, width, channels) of the new model.
        size: int, of the kernel.
        stride: int.
    """
    if stride == 1:
        return image, "same"
    return site.add(layers.ZeroPadding2D, "pad", image, padding=size // 2), "valid"


def scaled(
    site: CallSite,
    image: keras.KerasTensor,
    scale: np.ndarray | float,
    offset: np.ndarray | float = 0,
) -> keras.KerasTensor:
    """Returns `scale * image + offset` as a depthwise convolution, which phones run sparse.

    Args:
        site: what is rewritten.
        image: tensor (batch, height, width, channels) of the new model.
        scale, offset: array (channels,), or numbers.
    """
    channels = image.shape[-1]
    taps = np.broadcast_to(np.asarray(scale, "float32"), (channels,)).reshape(1, 1, channels, 1)
    bias = np.broadcast_to(np.asarray(offset, "float32"), (channels,))
    return depthwise(site, image, place(taps, 3, (1, 1)), bias if np.any(bias) else None)


def pooled(site: CallSite, image: keras.KerasTensor) -> keras.KerasTensor:
    """Returns the mean of an image as an image of one pixel, which XNNPACK can run sparse.

    Args:
        site: what is rewritten.
        image: tensor (batch, height, width, channels) of the new model.
    """
    if not site.rewriting.is_head(site.output):
        return site.add(layers.GlobalAveragePooling2D, "pool", image, keepdims=True)
    return as_image(site, site.add(layers.GlobalAveragePooling2D, "pool", image))


def as_image(site: CallSite, vector: keras.KerasTensor) -> keras.KerasTensor:
    """Returns a tensor (batch, channels) of the new model as an image of one pixel."""
    return site.add(layers.Reshape, "image", vector, target_shape=(1, 1, vector.shape[-1]))


def as_vector(site: CallSite, image: keras.KerasTensor) -> keras.KerasTensor:
    """Returns an image of one pixel of the new model as a tensor (batch, channels)."""
    return site.add(layers.Reshape, "flat", image, target_shape=(image.shape[-1],))


def _weights(kernel: np.ndarray, bias: np.ndarray | None) -> list[np.ndarray]:
    return [kernel] if bias is None else [kernel, bias]
