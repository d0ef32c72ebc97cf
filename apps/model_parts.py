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


def with_l2(model: keras.Model, penalty: float) -> keras.Model:
    """Returns a model of equal weights whose kernels' gradients have `penalty` times them added.

    That is weight decay as in the papers' SGD, a part of the loss. Biases, and the scales and
    shifts of normalisations, do not decay.

    Example:

    >>> net = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> float(with_l2(net, 0.1).layers[0].kernel_regularizer.l2) == 0.05
    True
    """
    halved = keras.regularizers.L2(penalty / 2)  # whose derivative is twice the kernel

    def decaying(layer: keras.layers.Layer) -> keras.layers.Layer:
        kernels = ("kernel_regularizer", "depthwise_regularizer", "pointwise_regularizer")
        config = layer.get_config()
        return type(layer).from_config(
            config | {name: halved for name in config if name in kernels}
        )

    made = keras.models.clone_model(model, clone_function=decaying)
    made.set_weights(model.get_weights())
    return made
