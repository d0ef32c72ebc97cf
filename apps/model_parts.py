"""What the models are built of: convolutions, and the normalisation and activation after them."""

from collections.abc import Callable

import keras
from keras import layers

Channels = Callable[[int], int]
"""The channel count of a model's width, from that of its paper."""


def conv(
    x: keras.KerasTensor,
    filters: int,
    size: int,
    name: str,
    strides: int = 1,
    padding: str = "same",
) -> keras.KerasTensor:
    """Convolution without bias (a batch normalisation follows), He initialised."""
    return layers.Conv2D(
        filters,
        size,
        strides=strides,
        padding=padding,
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )(x)


def norm(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Batch normalisation with the papers' momentum: Keras' 0.99 lags in short runs."""
    return layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)


def norm_relu(x: keras.KerasTensor, name: str, most: float | None = None) -> keras.KerasTensor:
    """Batch normalisation and a ReLU, cut off at `most`."""
    return layers.ReLU(most, name=f"{name}_relu")(norm(x, name))
