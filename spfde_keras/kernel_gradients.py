"""Gradients of masked kernels at a boundary, for updaters that ask for them."""

import contextlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from spfde_keras import kernels
from spfde_keras.masking import Mask
from spfde_keras.replicas import Replicas


def kernel_gradients(
    model: keras.Model,
    read_batch: Callable[[], Any],
    masks: list[Mask],
    dense: bool = False,
    subnet: int = 0,
) -> dict[str, np.ndarray]:
    """Returns the loss gradient of masked kernels on one batch, changing nothing in the model.

    Args:
        model: a compiled `SparseModel`.
        read_batch: function that returns a batch as given to `train_step`: (x, y) or
            (x, y, sample_weight). It is called in each replica, for its part of the batch.
        masks: the masks of the kernels wanted.
        dense: bool. False gives the gradient of existing weights, zero elsewhere; True that
            of all weights, of the same function, since masked weights are zero.
        subnet: int, index of the sub-net.

    Returns:
        A dictionary from kernel path to float array of the kernel's shape, the same for all
        replicas.

    Source: RigL (Evci et al., 2020) for the dense gradient, MEST for the other.
    """
    # As in the train step: unscaled, small gradients vanish in half precision.
    scale = ops.convert_to_tensor(model.optimizer.scale_loss(1.0), "float32")

    def of_replica() -> list[tf.Tensor]:
        with model.at(subnet):
            return _gradients(model, read_batch(), masks, dense, scale)

    replicas: Replicas = model.replicas
    parts = replicas.strategy.run(of_replica)
    return {
        # An overflow must not decide which weights are kept.
        mask.kernel_path: np.nan_to_num(ops.convert_to_numpy(replicas.sum(part) / scale))
        for mask, part in zip(masks, parts, strict=True)
    }


def _gradients(
    model: keras.Model, data: Any, masks: list[Mask], dense: bool, scale: tf.Tensor
) -> list[tf.Tensor]:
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    masked = [mask(mask.kernel.value) for mask in masks]
    # In a stateless scope, Keras reads the weights it regularizes from the scope.
    values = [(variable, variable.value) for variable in model.trainable_variables]
    values += [(mask.kernel, kernel) for mask, kernel in zip(masks, masked, strict=True)]
    if dense:
        # Kernels are masked above, so all masks can be open: weights of other sub-nets are zero.
        values += [(mask.values, ops.ones(mask.values.shape, "bool")) for mask in masks]
    skipping = kernels.disabled() if dense else contextlib.nullcontext()
    with keras.StatelessScope(state_mapping=values, collect_losses=True), skipping:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(masked)
            y_pred = model(x, training=True)
            loss = model.compute_loss(
                x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=True
            )
            loss *= ops.cast(scale, loss.dtype)
        gradients = tape.gradient(loss, masked, unconnected_gradients="zero")
    if not dense:
        gradients = [mask(gradient) for mask, gradient in zip(masks, gradients, strict=True)]
    return gradients
