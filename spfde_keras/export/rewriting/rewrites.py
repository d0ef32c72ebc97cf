"""What `make_mobile_ready` rewrites: each function one kind of layer, `REWRITES` all of them.

A rewrite takes the graph and one of its calls. It returns the tensor that the new model has in
the place of what the call makes, or None where it has nothing to say. Each is exact.
"""

import keras
import numpy as np
from keras import layers, ops

from spfde_keras.export.rewriting.flip import DEPTHWISE_SIZES, STEM_SIZES
from spfde_keras.export.rewriting.graph import Call, Rewriting, is_per_channel, negates, pools_all
from spfde_keras.export.rewriting.windows import (
    depthwise,
    embedding,
    oriented,
    pad,
    pads_mean,
    place,
    scaled,
    stays,
    windows,
)

# SELU is this multiple of an ELU of this alpha. Source: Klambauer et al., NeurIPS 2017.
_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


def stem(rewriting: Rewriting, call: Call):
    """The first convolution: 3x3, padded by 1, on three channels; flipped if need be."""
    layer = call.layer
    if not rewriting.is_stem(call):
        return None
    image, rows, columns = windows(rewriting, call)
    found = embedding(rows, columns, STEM_SIZES)
    channels = image.shape[-1]
    if found is None or (channels == 3 and stays(rewriting, call, *found)):
        return None
    image = rewriting.new(image)
    if rewriting.is_flipped(call.outputs[0]):
        image = ops.flip(image, axis=(1, 2))
    if channels < 3:
        copy = np.eye(channels, 3, dtype="float32")[None, None]
        image = _convolution(rewriting, call, image, copy, None, "rgb")
    kernel = place(oriented(rewriting, call, _array(layer.kernel)), *found)
    kernel = np.pad(kernel, ((0, 0), (0, 0), (0, 3 - channels), (0, 0)))
    image, padding = pad(rewriting, call, image, 3, stride=2)
    options = {"strides": 2, "padding": padding}
    image = _convolution(rewriting, call, image, kernel, _bias(layer), "stem", **options)
    return _activated(rewriting, call, image)


def pointwise_convolution(rewriting: Rewriting, call: Call):
    """A 1x1 convolution without strides, dilation and groups: strides go to a depthwise one."""
    layer = call.layer
    is_pointwise = type(layer) is layers.Conv2D and tuple(layer.kernel_size) == (1, 1)
    if not is_pointwise or layer.data_format != "channels_last":
        return None
    strided = tuple(layer.strides) != (1, 1)
    plain = layer.groups == 1 and tuple(layer.dilation_rate) == (1, 1) and not strided
    if plain and not _is_awkward(rewriting, call):
        return None
    image = rewriting.new(call.inputs[0])
    if strided:
        tap = np.ones((1, 1, image.shape[-1], 1), "float32")
        image = _embedded(rewriting, call, tap)
        if image is None:
            return None
    kernel = _ungrouped(_array(layer.kernel), layer.groups)
    image = _convolution(rewriting, call, image, kernel, _bias(layer), "pointwise")
    return _activated(rewriting, call, image)


def depthwise_convolution(rewriting: Rewriting, call: Call):
    """A depthwise convolution of 3x3 or 5x5 that is padded by half its kernel."""
    layer = call.layer
    if type(layer) is not layers.DepthwiseConv2D:
        return None
    image = _depthwise(rewriting, call, _array(layer.kernel), _bias(layer))
    return None if image is None else _activated(rewriting, call, image)


def separable_convolution(rewriting: Rewriting, call: Call):
    """A separable convolution as the two that it is."""
    layer = call.layer
    if type(layer) is not layers.SeparableConv2D:
        return None
    image = _depthwise(rewriting, call, _array(layer.depthwise_kernel), None)
    if image is None:
        return None
    kernel = _array(layer.pointwise_kernel)
    image = _convolution(rewriting, call, image, kernel, _bias(layer), "pointwise")
    return _activated(rewriting, call, image)


def average_pooling(rewriting: Rewriting, call: Call):
    """A pooling of the whole image as global pooling, another one as depthwise convolution."""
    layer = call.layer
    if type(layer) is not layers.AveragePooling2D or layer.data_format != "channels_last":
        return None
    if pools_all(call):
        return _pooled(rewriting, call, call.inputs[0])
    if not rewriting.is_after_stem(call.inputs[0]) or pads_mean(rewriting, call):
        return None
    shape = (*layer.pool_size, call.inputs[0].shape[-1], 1)
    return _embedded(rewriting, call, np.full(shape, 1 / np.prod(layer.pool_size), "float32"))


def head_pooling(rewriting: Rewriting, call: Call):
    """Global pooling at the end of the model without keepdims, which XNNPACK can leave by."""
    layer = call.layer
    is_kept = type(layer) is layers.GlobalAveragePooling2D and layer.keepdims
    if not is_kept or layer.data_format != "channels_last":
        return None
    return _pooled(rewriting, call, call.inputs[0]) if rewriting.is_head(call.outputs[0]) else None


def gate_layer(rewriting: Rewriting, call: Call):
    """A dense layer of a gate as the 1x1 convolution of one pixel, as which it stays inside."""
    layer, vector = call.layer, call.inputs[0] if call.inputs else None
    if type(layer) is not layers.Dense or len(vector.shape) != 2:
        return None
    if not rewriting.is_pooled(vector) or rewriting.is_head(vector):
        return None
    kernel = _array(layer.kernel)[None, None]
    x = rewriting.add(
        layers.Reshape, call, "image", rewriting.new(vector), target_shape=(1, 1, kernel.shape[2])
    )
    options = {"activation": layer.activation}
    x = _convolution(rewriting, call, x, kernel, _bias(layer), "pointwise", **options)
    return rewriting.add(layers.Reshape, call, "flat", x, target_shape=(kernel.shape[3],))


def head_layer(rewriting: Rewriting, call: Call):
    """A 1x1 convolution of one pooled pixel at the end of the model as a dense layer."""
    layer, image = call.layer, call.inputs[0] if call.inputs else None
    if type(layer) not in (layers.Conv2D, layers.Dense) or not rewriting.is_head(image):
        return None
    if len(image.shape) != 4 or image.shape[1:3] != (1, 1):
        return None
    kernel = _array(layer.kernel)
    if kernel.ndim == 4:
        if kernel.shape[:2] != (1, 1) or layer.data_format != "channels_last":
            return None
        kernel = _ungrouped(kernel, layer.groups)[0, 0]
    channels, units = kernel.shape
    x = rewriting.add(layers.Reshape, call, "flat", rewriting.new(image), target_shape=(channels,))
    x = rewriting.add(
        layers.Dense,
        call,
        "dense",
        x,
        weights=[kernel] if _bias(layer) is None else [kernel, _bias(layer)],
        units=units,
        use_bias=layer.use_bias,
        activation=layer.activation,
    )
    return rewriting.add(layers.Reshape, call, "image", x, target_shape=(1, 1, units))


def per_channel(rewriting: Rewriting, call: Call):
    """A scale and offset of each channel that no convolution in front can take in."""
    if not is_per_channel(call) or not rewriting.is_inside(call.outputs[0]):
        return None
    image = call.inputs[0]
    if rewriting.folds(image) and not negates(call):
        return None
    probe = np.zeros((2, 1, 1, image.shape[-1]), "float32")
    probe[1] = 1024  # Far from 0, where the offset would cost digits.
    args, kwargs = call.arguments.fill_in({id(image): ops.convert_to_tensor(probe)})
    offset, end = ops.convert_to_numpy(call.layer(*args, **kwargs))
    scale = (end - offset) / 1024
    return scaled(rewriting, call, rewriting.new(image), scale.ravel(), offset.ravel())


def repeated_operand(rewriting: Rewriting, call: Call):
    """An image that is added to itself as a multiple of it."""
    if type(call.layer) is not layers.Add or len(set(map(id, call.inputs))) > 1:
        return None
    if not rewriting.is_inside(call.inputs[0]):
        return None
    return scaled(rewriting, call, rewriting.new(call.inputs[0]), len(call.inputs), 0)


def activation(rewriting: Rewriting, call: Call):
    """An activation that has no kernel as a sum or clipping of some that have."""
    if not call.inputs or not rewriting.is_inside(call.inputs[0]):
        return None
    runnable = _runnable(call.layer)
    return runnable and runnable(rewriting, call, rewriting.new(call.inputs[0]))


REWRITES = (
    stem,
    head_pooling,
    gate_layer,
    head_layer,
    pointwise_convolution,
    depthwise_convolution,
    separable_convolution,
    average_pooling,
    per_channel,
    repeated_operand,
    activation,
)
"""In the order in which they are asked."""


def _array(variable) -> np.ndarray:
    return ops.convert_to_numpy(variable)


def _bias(layer) -> np.ndarray | None:
    return _array(layer.bias) if layer.use_bias else None


def _convolution(rewriting, call, image, kernel, bias, suffix: str, **options):
    return rewriting.add(
        layers.Conv2D,
        call,
        suffix,
        image,
        weights=[kernel] if bias is None else [kernel, bias],
        filters=kernel.shape[-1],
        kernel_size=kernel.shape[:2],
        use_bias=bias is not None,
        **options,
    )


def _ungrouped(kernel: np.ndarray, groups: int) -> np.ndarray:
    """A kernel (rows, columns, inputs of a group, outputs) with zeros between the groups."""
    rows, columns, inputs, outputs = kernel.shape
    full = np.zeros((rows, columns, groups, inputs, groups, outputs // groups), kernel.dtype)
    for group in range(groups):
        full[:, :, group, :, group] = np.split(kernel, groups, axis=-1)[group]
    return full.reshape(rows, columns, groups * inputs, outputs)


def _depthwise(rewriting, call, kernel, bias):
    """What a depthwise kernel (rows, columns, channels, multiplier) makes; None to keep it."""
    layer, multiplier = call.layer, kernel.shape[-1]
    found = _embedding(rewriting, call)
    if found is None:
        return None
    must_change = (
        type(layer) is not layers.DepthwiseConv2D
        or multiplier > 1
        or not stays(rewriting, call, *found)
        or _is_awkward(rewriting, call)
    )
    return _embedded(rewriting, call, kernel, bias) if must_change else None


def _embedding(rewriting, call):
    found = windows(rewriting, call)
    return found and embedding(*found[1:], DEPTHWISE_SIZES)


def _embedded(rewriting, call, kernel, bias=None):
    """A depthwise convolution with a call's windows; None if it does not fit."""
    found = _embedding(rewriting, call)
    if found is None:
        return None
    image, rows, _ = windows(rewriting, call)
    image, multiplier = rewriting.new(image), kernel.shape[-1]
    if multiplier > 1:
        repeat = np.repeat(np.eye(image.shape[-1], dtype="float32"), multiplier, axis=1)
        image = _convolution(rewriting, call, image, repeat[None, None], None, "repeat")
        kernel = kernel.reshape(*kernel.shape[:2], -1, 1)
    kernel = place(oriented(rewriting, call, kernel), *found)
    return depthwise(rewriting, call, image, kernel, bias, rows.stride)


def _pooled(rewriting, call, image):
    image = rewriting.new(image)
    if not rewriting.is_head(call.outputs[0]):
        return rewriting.add(layers.GlobalAveragePooling2D, call, "pool", image, keepdims=True)
    x = rewriting.add(layers.GlobalAveragePooling2D, call, "pool", image)
    return rewriting.add(layers.Reshape, call, "image", x, target_shape=(1, 1, x.shape[-1]))


def _is_awkward(rewriting, call) -> bool:
    """Whether a layer's activation must be a layer of its own to be rewritten."""
    return rewriting.is_inside(call.outputs[0]) and call.layer.activation in _FUNCTIONS


def _activated(rewriting, call, image):
    function = call.layer.activation
    if function is keras.activations.linear:
        return image
    if _is_awkward(rewriting, call):
        return _FUNCTIONS[function](rewriting, call, image)
    return rewriting.add(layers.Activation, call, "activation", image, activation=function)


def _runnable(layer):
    if type(layer) is layers.Activation:
        return _FUNCTIONS.get(layer.activation)
    if type(layer) is layers.ELU and layer.alpha != 1:
        return lambda *at: _elu(*at, alpha=layer.alpha)
    if type(layer) is layers.PReLU:
        return lambda *at: _prelu(*at, alpha=_array(layer.alpha))
    return None


def _hard_sigmoid(rewriting, call, image):
    image = scaled(rewriting, call, image, 1 / 6, 0.5)
    return rewriting.add(layers.ReLU, call, "clip", image, max_value=1.0)


def _elu(rewriting, call, image, alpha, scale=1.0):
    """An ELU of any alpha: between those of 0, which is ReLU, and of 1."""
    elu = rewriting.add(layers.ELU, call, "elu", image)
    return _mixed(rewriting, call, image, scale * (1 - alpha), elu, scale * alpha)


def _selu(rewriting, call, image):
    return _elu(rewriting, call, image, _SELU_ALPHA, _SELU_SCALE)


def _prelu(rewriting, call, image, alpha):
    """A slope for each channel: between those of 0, which is ReLU, and of 1."""
    alpha = alpha.reshape(-1, alpha.shape[-1])
    if np.any(alpha != alpha[0]):
        return None  # It differs from pixel to pixel.
    return _mixed(rewriting, call, image, 1 - alpha[0], image, alpha[0])


def _mixed(rewriting, call, image, share, other, other_share):
    """Returns share * relu(image) + other_share * other."""
    relu = rewriting.add(layers.ReLU, call, "relu", image)
    terms = [
        scaled(rewriting, call, relu, share, 0),
        scaled(rewriting, call, other, other_share, 0),
    ]
    return rewriting.add(layers.Add, call, "sum", terms)


_FUNCTIONS = {
    keras.activations.hard_sigmoid: _hard_sigmoid,
    keras.activations.selu: _selu,
}
