"""Scores of initial weights, by which masks are chosen before training."""

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from spfde_keras import checks, kernels
from spfde_keras.batches import batch_size
from spfde_keras.masking import find_masks
from spfde_keras.sparsify import sparsify

Loss = Callable | str


def snip(model: keras.Model, batches: Iterable, loss: Loss) -> dict[str, np.ndarray]:
    """Returns how much the loss depends on each weight: |w dL/dw|.

    Args:
        model: the model that is to be given to `sparsify`, with its initial weights.
        batches: batches (x, y) or (x, y, sample_weight); a few hundred samples are enough.
        loss: the name of one, a `keras.losses.Loss`, or a function of (y, y_pred) that returns it
            for each sample.

    Returns:
        A dictionary from kernel paths to arrays of their shapes, as `sparsify(initial=)` takes it.
        With `distribution=ByScores(scores)`, too, one threshold holds for all kernels, as in the
        paper.

    Raises:
        ValueError: on a model that `sparsify` does not take, or if `batches` are none or `loss` is
            no loss.

    Example:

    >>> net = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, name="hidden"),
    ...                         keras.layers.Dense(2)])
    >>> from spfde_keras.distributions import ByScores
    >>> scores = snip(net, [(np.ones((4, 8)), np.ones((4, 2)))], "mse")
    >>> model = sparsify(net, 0.75, initial=scores, distribution=ByScores(scores))
    >>> find_masks(model)[0].density
    0.25

    Source: Lee et al., "SNIP: Single-shot network pruning based on connection sensitivity", ICLR
    2019.
    """
    opened = _opened(model)
    gradients = _mean(_gradients, opened, _checked(batches), _loss(loss))
    return {path: np.abs(kernel * gradients[path]) for path, kernel in _kernels(opened).items()}


def grasp(model: keras.Model, batches: Iterable, loss: Loss) -> dict[str, np.ndarray]:
    """Returns how much the norm of the gradient would fall without each weight: w (H g).

    Args:
        model: as for `snip`.
        batches: as for `snip`; the same ones give the gradient g and its derivative.
        loss: as for `snip`. The public script divides logits by 200 before its loss.

    Returns:
        As `snip`.

    Raises:
        ValueError: as `snip`.

    Example:

    >>> net = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2, name="only")])
    >>> scores = grasp(net, [(np.ones((4, 8)), np.ones((4, 2)))], "mse")
    >>> scores["only/kernel"].shape
    (8, 2)

    Source: Wang et al., "Picking winning tickets before training by preserving gradient flow", ICLR
    2020.
    """
    opened, batches, loss_of = _opened(model), _checked(batches), _loss(loss)
    gradients = _mean(_gradients, opened, batches, loss_of)
    directions = [tf.constant(gradient) for gradient in gradients.values()]

    def products(model: keras.Model, batch: Any, loss: Callable) -> list[tf.Tensor]:
        kernels = [mask.kernel.value for mask in find_masks(model)]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(kernels)
            pairs = zip(_gradients(model, batch, loss, kernels), directions, strict=True)
            along = tf.add_n([tf.reduce_sum(gradient * way) for gradient, way in pairs])
        return tape.gradient(along, kernels, unconnected_gradients="zero")

    curvature = _mean(products, opened, batches, loss_of)
    return {path: kernel * curvature[path] for path, kernel in _kernels(opened).items()}


def _opened(model: keras.Model) -> keras.Model:
    """A copy of the model with open masks on all kernels that can have some, with their paths."""
    checks.instance("model", model, keras.Model, "a keras.Model")
    return sparsify(model, 0.5, dense=(), initial="dense")


def _loss(loss: Any) -> Callable:
    with contextlib.suppress(Exception):
        found = keras.losses.get(loss)
        if callable(found):
            return found
    checks.refuse("loss", "the name of a loss, or a function of (y, y_pred)", loss)


def _checked(batches: Iterable) -> list:
    """The batches in a list; raises ValueError if they are none."""
    rule = "batches, each (x, y) or (x, y, sample_weight)"
    try:
        given = list(batches)
    except TypeError:
        checks.refuse("batches", rule, batches)
    for batch in given:
        if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
            checks.refuse("batches", rule, batch)
    if not given:
        checks.refuse("batches", f"{rule}, at least one", given)
    return given


def _kernels(model: keras.Model) -> dict[str, np.ndarray]:
    return {mask.kernel_path: mask.read()[0] for mask in find_masks(model)}


def _mean(
    gradients: Callable, model: keras.Model, batches: list, loss: Callable
) -> dict[str, np.ndarray]:
    """Means over all batches, weighted by samples, of what a function takes for each kernel."""
    kernels = _kernels(model)
    samples, sums = 0, [np.zeros_like(kernel) for kernel in kernels.values()]
    for given in batches:
        batch = tf.nest.map_structure(tf.convert_to_tensor, given)
        count = int(batch_size(batch))
        found = map(ops.convert_to_numpy, gradients(model, batch, loss))
        sums = [total + count * one for total, one in zip(sums, found, strict=True)]
        samples += count
    return {path: total / samples for path, total in zip(kernels, sums, strict=True)}


def _gradients(
    model: keras.Model, batch: Any, loss: Callable, values: list[tf.Tensor] | None = None
) -> list[tf.Tensor]:
    """Gradients of the loss, in training mode; statistics and seeds stay as they are."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
    masked = [mask.kernel for mask in find_masks(model)]
    values = [kernel.value for kernel in masked] if values is None else values
    # Only TensorFlow's operators have second derivatives.
    with (
        keras.StatelessScope(list(zip(masked, values, strict=True)), collect_losses=True),
        kernels.disabled(),
        tf.GradientTape(watch_accessed_variables=False) as tape,
    ):
        tape.watch(values)
        value = _mean_loss(loss, y, model(x, training=True), sample_weight)
    return tape.gradient(value, values, unconnected_gradients="zero")


def _mean_loss(loss: Callable, y: Any, y_pred: Any, sample_weight: Any) -> tf.Tensor:
    """The mean over samples, each times its weight."""
    if isinstance(loss, keras.losses.Loss):
        value = ops.mean(loss(y, y_pred, sample_weight))
        of_all = loss.reduction == "sum"
        return value / ops.cast(batch_size((y_pred,)), value.dtype) if of_all else value
    each = loss(y, y_pred)
    if sample_weight is not None:
        if not len(each.shape):
            rule = "a function that returns the loss of each sample, where samples have weights"
            checks.refuse("loss", rule, loss)
        each *= ops.cast(sample_weight, each.dtype)
    return ops.mean(each)
