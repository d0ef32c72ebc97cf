"""ReLUs that are computed together with the batch normalization before them."""

import keras
import tensorflow as tf

from spfde_keras import compat, kernels


class _Folds(keras.layers.Layer):
    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        if not kernels.are_used():
            return super().call(inputs)
        return kernels.relu(inputs, used_once=compat.times_used(self) == 1)


@keras.saving.register_keras_serializable(package="spfde_keras")
class FusedReLU(_Folds, keras.layers.ReLU):
    """`keras.layers.ReLU`, in one kernel with a batch normalization and an addition before it.

    Results are those of `keras.layers.ReLU` with its default arguments, the only ones allowed.

    Example:

    >>> FusedReLU()(np.array([-1.0, 2.0])).numpy().tolist()
    [0.0, 2.0]
    """


@keras.saving.register_keras_serializable(package="spfde_keras")
class FusedReLUActivation(_Folds, keras.layers.Activation):
    """`keras.layers.Activation("relu")`, as `FusedReLU`.

    Example:

    >>> FusedReLUActivation("relu")(np.array([-1.0, 2.0])).numpy().tolist()
    [0.0, 2.0]
    """


def fused_relu(layer: keras.layers.Layer) -> keras.layers.Layer | None:
    """Returns the fused layer that replaces a plain ReLU; None for any other layer."""
    if type(layer) is keras.layers.ReLU:
        plain = layer.max_value is None and not layer.negative_slope and not layer.threshold
        return FusedReLU.from_config(layer.get_config()) if plain else None
    if type(layer) is keras.layers.Activation and layer.activation is keras.activations.relu:
        return FusedReLUActivation.from_config(layer.get_config())
    return None


def plain_relu(layer: keras.layers.Layer) -> keras.layers.Layer | None:
    """Returns Keras' own layer that replaces a fused one; None for any other layer."""
    for fused, plain in (
        (FusedReLU, keras.layers.ReLU),
        (FusedReLUActivation, keras.layers.Activation),
    ):
        if type(layer) is fused:
            return plain.from_config(layer.get_config())
    return None
