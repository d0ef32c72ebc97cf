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


def fused_class(layer: keras.layers.Layer) -> type[keras.layers.Layer] | None:
    """Returns the class to take the place of a plain ReLU's; None for any other layer."""
    if type(layer) is keras.layers.ReLU:
        plain = layer.max_value is None and not layer.negative_slope and not layer.threshold
        return FusedReLU if plain else None
    if type(layer) is keras.layers.Activation and layer.activation is keras.activations.relu:
        return FusedReLUActivation
    return None


def unfused_class(layer: keras.layers.Layer) -> type[keras.layers.Layer] | None:
    """Returns Keras' own class in place of a fused one; None for any other layer."""
    return {FusedReLU: keras.layers.ReLU, FusedReLUActivation: keras.layers.Activation}.get(
        type(layer)
    )
