"""Which samples a layer holds to be alike."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from spfde_keras import compat, kernels


def layer_grams(
    model: keras.Model, layers: Sequence[keras.layers.Layer], probe: Any, subnet: int = 0
) -> list[np.ndarray | None]:
    """Returns centred Gram matrices of the outputs of layers; nothing in the model changes.

    Of a layer that is called several times, the outputs of all calls together.

    Args:
        model: a `SparseModel`.
        layers: any that are in it.
        probe: samples, as the model takes them.
        subnet: int, index of the sub-net that runs.

    Returns:
        For each layer float32 (samples, samples). None for one that was not called, or whose
        outputs have no axis of samples.
    """
    samples = len(keras.tree.flatten(probe)[0])
    found: dict[int, Any] = {}

    def watched(layer: keras.layers.Layer, call: Callable) -> Callable:
        @functools.wraps(call)
        def watching(*args: Any, **kwargs: Any) -> Any:
            outputs = call(*args, **kwargs)
            before, own = found.get(id(layer), 0.0), _gram(outputs, samples)
            found[id(layer)] = None if own is None or before is None else before + own
            return outputs

        return watching

    unique = {id(layer): layer for layer in layers}.values()
    for layer in unique:
        compat.replace_methods(layer, call=watched(layer, layer.call))
    try:
        # Only layers change anything here; and which kernels skip zeros is not decided by this.
        with keras.StatelessScope(), kernels.disabled(), model.at(subnet):
            model(probe, training=False)
    finally:
        for layer in unique:
            compat.restore_methods(layer, "call")
    return [found.get(id(layer)) for layer in layers]


def _gram(outputs: Any, samples: int) -> np.ndarray | None:
    features = keras.tree.flatten(outputs)[0]
    if not tf.is_tensor(features) or tf.is_symbolic_tensor(features):
        return None  # within a loop of TensorFlow's
    if not features.shape.rank or features.shape[0] != samples or not features.dtype.is_floating:
        return None
    flat = tf.cast(tf.reshape(features, (samples, -1)), tf.float32)
    flat -= tf.reduce_mean(flat, axis=0)
    return tf.matmul(flat, flat, transpose_b=True).numpy()
