"""Gradients of kernels at a boundary, for updaters that ask for them."""

import contextlib
from collections.abc import Callable, Sequence
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
        replicas. They are not finite where the loss is not, or half precision cannot hold them.

    Source: RigL (Evci et al., 2020) for the dense gradient, MEST for the other.
    """

    def of_masked(data: Any, scale: tf.Tensor) -> list[tf.Tensor]:
        with model.at(subnet):
            return _of_masked(model, data, masks, dense, scale)

    found = _over_replicas(model, read_batch, of_masked)
    return {mask.kernel_path: gradient for mask, gradient in zip(masks, found, strict=True)}


def variable_gradients(
    model: keras.Model, read_batch: Callable[[], Any], variables: Sequence[keras.Variable]
) -> list[np.ndarray]:
    """Returns the loss gradient of variables, such as kernels without masks, on one batch.

    Args:
        model, read_batch: as for `kernel_gradients`.
        variables: those wanted.
    """

    def of_variables(data: Any, scale: tf.Tensor) -> list[tf.Tensor]:
        return _gradients(model, data, variables, [each.value for each in variables], scale)

    return _over_replicas(model, read_batch, of_variables)


def _over_replicas(
    model: keras.Model, read_batch: Callable[[], Any], gradients: Callable
) -> list[np.ndarray]:
    """Gradients that each replica takes of its part of a batch, added up."""
    # As in the train step: unscaled, small gradients vanish in half precision.
    scale = ops.convert_to_tensor(model.optimizer.scale_loss(1.0), "float32")
    replicas: Replicas = model.replicas
    while True:
        parts = replicas.strategy.run(lambda: gradients(read_batch(), scale))  # noqa: B023
        found = [ops.convert_to_numpy(replicas.sum(part) / scale) for part in parts]
        if scale <= 1 or all(np.isfinite(each).all() for each in found):
            return found
        # The optimizer leaves such a step out, and takes the next one with a smaller scale.
        scale = scale / 2


def _of_masked(
    model: keras.Model, data: Any, masks: list[Mask], dense: bool, scale: tf.Tensor
) -> list[tf.Tensor]:
    masked = [mask(mask.kernel.value) for mask in masks]
    # Kernels are masked above, so all masks can be open: weights of other sub-nets are zero.
    opened = [(mask.values, ops.ones(mask.values.shape, "bool")) for mask in masks if dense]
    with kernels.disabled() if dense else contextlib.nullcontext():
        found = _gradients(model, data, [mask.kernel for mask in masks], masked, scale, opened)
    return found if dense else [mask(each) for mask, each in zip(masks, found, strict=True)]


def _gradients(
    model: keras.Model,
    data: Any,
    variables: Sequence[keras.Variable],
    given: list[tf.Tensor],
    scale: tf.Tensor,
    more: Sequence[tuple] = (),
) -> list[tf.Tensor]:
    """Gradients where variables have the values `given`, and `more` of them others."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    # In a stateless scope, Keras reads the weights it regularizes from the scope.
    values = [(variable, variable.value) for variable in model.trainable_variables]
    values += [*zip(variables, given, strict=True), *more]
    with keras.StatelessScope(state_mapping=values, collect_losses=True):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(given)
            y_pred = model(x, training=True)
            loss = model.compute_loss(
                x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=True
            )
            loss *= ops.cast(scale, loss.dtype)
        return tape.gradient(loss, given, unconnected_gradients="zero")
