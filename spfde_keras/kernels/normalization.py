"""Batch normalization, and what follows it: an addition and a ReLU, in the same operator."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from spfde_keras import checks
from spfde_keras.kernels.library import operators

_INPUTS = ("x", "mean", "variance", "gamma", "beta")
_SETTINGS = ("epsilon", "relu", "of_batch", "isa")


def moments(inputs: tf.Tensor | np.ndarray) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns mean and variance of each channel, reading the inputs once.

    Args:
        inputs: float32 tensor (..., channels).

    Returns:
        Mean and variance of the population, float32 tensors (channels,).

    Example:

    >>> if spfde_keras.kernels.status().library:
    ...     mean, variance = moments(np.array([[1.0], [3.0]], "float32"))
    ...     assert mean[0] == 2.0 and variance[0] == 1.0
    """
    return operators().spfde_moments(x=inputs)


def normalize(
    inputs: tf.Tensor,
    mean: tf.Tensor,
    variance: tf.Tensor,
    gamma: tf.Tensor,
    beta: tf.Tensor,
    epsilon: float,
    of_batch: bool,
) -> tf.Tensor:
    """Returns (inputs - mean) / sqrt(variance + epsilon) * gamma + beta.

    Args:
        inputs: float32 tensor (..., channels).
        mean, variance, gamma, beta: float32 tensors (channels,).
        epsilon: float.
        of_batch: whether mean and variance are the `moments` of `inputs`. The gradient of the
            inputs takes account of that; mean and variance get none.

    Returns:
        Float32 tensor of the inputs' shape.

    Source: Ioffe and Szegedy, "Batch Normalization", 2015, algorithms 1 and 2.
    """
    checks.number("epsilon", epsilon, least=0)
    checks.switch("of_batch", of_batch)
    return operators().spfde_normalize(
        x=inputs,
        mean=mean,
        variance=variance,
        gamma=gamma,
        beta=beta,
        residual=[],
        epsilon=epsilon,
        relu=False,
        of_batch=of_batch,
    )


def relu(inputs: tf.Tensor, used_once: bool = False) -> tf.Tensor:
    """Returns the inputs with negative values set to 0.

    In a graph, where they come from `normalize`, or from its sum with something else, one operator
    does it all, so that memory is read and written fewer times, in gradients as well. The
    operators it replaces do not run unless something else needs them.

    Args:
        inputs: tensor.
        used_once: bool, whether a single layer needs the result. If that is a sparse convolution,
            it normalizes while it reads, and the result is never written to memory.

    Returns:
        Tensor of the inputs' shape.
    """
    used_once = checks.switch("used_once", used_once)
    if not tf.is_symbolic_tensor(inputs):
        return tf.nn.relu(inputs)
    if _is_bare_normalization(inputs):
        return _normalize_and_relu(inputs.op, [], used_once)
    if inputs.op.type == "AddV2":
        one, other = inputs.op.inputs
        for first, second in ((one, other), (other, one)):
            if _is_bare_normalization(first) and first.shape.as_list() == second.shape.as_list():
                return _normalize_and_relu(first.op, [second], False)
    return tf.nn.relu(inputs)


def _is_bare_normalization(tensor: tf.Tensor) -> bool:
    op = tensor.op
    return op.type == "SpfdeNormalize" and not op.get_attr("relu")


def _normalize_and_relu(op: tf.Operation, residual: list[tf.Tensor], foldable: bool) -> tf.Tensor:
    settings = _settings(op) | {"relu": True, "foldable": foldable}
    return operators().spfde_normalize(
        **dict(zip(_INPUTS, op.inputs, strict=False)), residual=residual, **settings
    )


def fold_into_images(images: tf.Tensor) -> tuple[tf.Tensor, dict[str, Any]]:
    """Lets a convolution normalize its images itself, if `relu` has allowed that.

    Args:
        images: float32 tensor.

    Returns:
        What the convolution reads, and arguments that say how to normalize it, if it is to.
    """
    if (
        tf.is_symbolic_tensor(images)
        and images.op.type == "SpfdeNormalize"
        and images.op.get_attr("foldable")
    ):
        read, *normalization = images.op.inputs
        return read, {"normalization": normalization} | statistics_settings(images.op)
    return images, {"normalization": []}


def statistics_settings(op: tf.Operation) -> dict[str, Any]:
    """Returns what an operator that normalizes knows of its statistics, as arguments."""
    return {name: op.get_attr(name) for name in ("epsilon", "of_batch")}


def fold_into_gradient(gradient: tf.Tensor) -> tuple[tf.Tensor, dict[str, Any]]:
    """Lets a convolution's gradients finish a batch normalization's gradient themselves.

    Args:
        gradient: float32 tensor, of the convolution's outputs.

    Returns:
        What they read, and arguments that say how to finish it, if they are to.
    """
    if tf.is_symbolic_tensor(gradient) and gradient.op.type == "SpfdeDerive":
        read, *derivation = gradient.op.inputs
        return read, {"derivation": derivation, "passing": gradient.op.get_attr("passing")}
    return gradient, {"derivation": []}


def gradients(
    gradient: tf.Tensor,
    inputs: Sequence[tf.Tensor],
    y: Sequence[tf.Tensor] = (),
    **settings: Any,
) -> list[tf.Tensor | None]:
    """Returns the gradients of `normalize` and `relu`.

    Args:
        gradient: of the result.
        inputs: as of `normalize`: five tensors.
        y: the result, if something was added before the ReLU.
        **settings: the attributes of the operator.

    Returns:
        Of each input, then of what was added, if it was.
    """
    arguments = dict(zip(_INPUTS, inputs, strict=True))
    gradient, *more = _summands(gradient) if y else [gradient]
    sums = operators().spfde_normalize_sums(
        gradient=gradient, y=list(y), more=more, **arguments, **settings
    )
    of_x = operators().spfde_derive(
        gradient=sums.of_residual[0] if y else gradient,
        x=arguments["x"],
        mean=arguments["mean"],
        diff_scale=sums.diff_scale,
        deviation_scale=sums.deviation_scale,
        diff_mean=sums.diff_mean,
        scale=sums.scale,
        shift=sums.shift,
        passing=settings["relu"] and not y,
        isa=settings.get("isa", ""),
    )
    return [of_x, None, None, sums.of_gamma, sums.of_beta, *sums.of_residual]


def _summands(gradient: tf.Tensor) -> list[tf.Tensor]:
    """What a gradient is the sum of, if it is one of two, as where a residual block branches."""
    if tf.is_symbolic_tensor(gradient) and gradient.op.type in ("AddN", "AddV2"):
        summands = list(gradient.op.inputs)
        shapes = {tuple(summand.shape.as_list()) for summand in summands}
        if len(summands) == 2 and len(shapes) == 1:
            return summands
    return [gradient]


def through_tape(
    compute: Callable, inputs: Sequence[tf.Tensor], of_outputs: Sequence[tf.Tensor]
) -> list[tf.Tensor | None]:
    """Returns the gradients of `compute` through its operators."""
    floats = [tensor for tensor in inputs if tensor.dtype.is_floating]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(floats)
        outputs = tf.nest.flatten(compute(*inputs))
    found = iter(tape.gradient(outputs, floats, output_gradients=list(of_outputs)))
    return [next(found) if tensor.dtype.is_floating else None for tensor in inputs]


def _settings(op: tf.Operation) -> dict[str, Any]:
    return {name: op.get_attr(name) for name in _SETTINGS}


@tf.RegisterGradient("SpfdeNormalize")
def _gradient(op: tf.Operation, gradient: tf.Tensor) -> list[tf.Tensor | None]:
    y = op.outputs if op.get_attr("residuals") else ()
    return gradients(gradient, op.inputs[:5], y, **_settings(op))


# Second derivatives go through TensorFlow's operators: no training step asks for them.


@tf.RegisterGradient("SpfdeMoments")
def _gradient_of_moments(op: tf.Operation, of_mean: tf.Tensor, of_variance: tf.Tensor) -> tf.Tensor:
    x, mean = op.inputs[0], op.outputs[0]
    return (of_mean + 2 * of_variance * (x - mean)) / _rows(x)


@tf.RegisterGradient("SpfdeNormalizeSums")
def _gradient_of_sums(op: tf.Operation, *of_outputs: tf.Tensor) -> list[tf.Tensor | None]:
    def compute(
        gradient: tf.Tensor,
        x: tf.Tensor,
        mean: tf.Tensor,
        variance: tf.Tensor,
        gamma: tf.Tensor,
        beta: tf.Tensor,
        *rest: tf.Tensor,
    ) -> list[tf.Tensor]:
        y, more = rest[:1], rest[1:]
        gradient = tf.add_n([gradient, *more])
        inverse = tf.math.rsqrt(variance + op.get_attr("epsilon"))
        scale = gamma * inverse
        shift = beta - mean * scale
        if op.get_attr("relu"):
            gradient = _passing(gradient, y[0] if y else x * scale + shift)
        axes = list(range(len(x.shape) - 1))
        sums = tf.reduce_sum(gradient, axes)
        products = tf.reduce_sum(gradient * (x - mean), axes)
        share = 1 / _rows(x) if op.get_attr("of_batch") else 0.0
        deviation_scale = -scale * inverse**2 * products * share
        outputs = [products * inverse, sums, scale, deviation_scale, sums * share, scale, shift]
        return outputs + [gradient] * len(y)

    return through_tape(compute, op.inputs, of_outputs)


@tf.RegisterGradient("SpfdeDerive")
def _gradient_of_derive(op: tf.Operation, of_x: tf.Tensor) -> list[tf.Tensor | None]:
    def compute(
        gradient: tf.Tensor,
        x: tf.Tensor,
        mean: tf.Tensor,
        diff_scale: tf.Tensor,
        deviation_scale: tf.Tensor,
        diff_mean: tf.Tensor,
        scale: tf.Tensor,
        shift: tf.Tensor,
    ) -> tf.Tensor:
        if op.get_attr("passing"):
            gradient = _passing(gradient, x * scale + shift)
        return (gradient - diff_mean) * diff_scale + (x - mean) * deviation_scale

    return through_tape(compute, op.inputs, [of_x])


def _passing(gradient: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    return tf.where(y > 0, gradient, 0.0)


def _rows(x: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.size(x) // tf.shape(x)[-1], x.dtype)
