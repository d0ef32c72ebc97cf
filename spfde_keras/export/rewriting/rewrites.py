"""What `make_mobile_ready` rewrites: each function one kind of layer, `REWRITES` all of them.

A rewrite takes a call. It returns the tensor that the new model has in place of what the call
makes, or None where it has nothing to say. Each is exact.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from spfde_keras.export.rewriting import activations
from spfde_keras.export.rewriting.activations import activated, needs_layer
from spfde_keras.export.rewriting.flip import DEPTHWISE_SIZES, STEM_SIZES
from spfde_keras.export.rewriting.graph import CallSite, is_per_channel, negates, pools_all
from spfde_keras.export.rewriting.replacements import (
    as_image,
    as_vector,
    convolution,
    dense,
    depthwise,
    pad,
    pooled,
    scaled,
)
from spfde_keras.export.rewriting.windows import (
    embedding,
    oriented,
    pads_mean,
    place,
    stays,
    windows,
)

Rewrite = Callable[[CallSite], keras.KerasTensor | None]


def stem(site: CallSite) -> keras.KerasTensor | None:
    """The first convolution: 3x3, padded by 1, on three channels; flipped if need be."""
    layer = site.layer
    seen = windows(site) if site.rewriting.is_stem(site) else None
    if seen is None:
        return None
    image, rows, columns = seen
    found = embedding(rows, columns, STEM_SIZES)
    channels = image.shape[-1]
    if found is None or (channels == 3 and stays(site, *found)):
        return None
    image = site.new(image)
    if site.is_flipped:
        image = ops.flip(image, axis=(1, 2))
    if channels < 3:
        image = convolution(site, "rgb", image, np.eye(channels, 3, dtype="float32")[None, None])
    kernel = place(oriented(site, _array(layer.kernel)), *found)
    kernel = np.pad(kernel, ((0, 0), (0, 0), (0, 3 - channels), (0, 0)))
    image, padding = pad(site, image, 3, stride=2)
    image = convolution(site, "stem", image, kernel, _bias(layer), strides=2, padding=padding)
    return activated(site, image)


def pointwise_convolution(site: CallSite) -> keras.KerasTensor | None:
    """A 1x1 convolution without strides, dilation and groups: strides go to a depthwise one."""
    layer = site.layer
    is_pointwise = type(layer) is layers.Conv2D and tuple(layer.kernel_size) == (1, 1)
    if not is_pointwise or layer.data_format != "channels_last":
        return None
    strided = tuple(layer.strides) != (1, 1)
    plain = layer.groups == 1 and tuple(layer.dilation_rate) == (1, 1) and not strided
    if plain and not needs_layer(site):
        return None
    image = site.new(site.input)
    if strided:
        image = _embedded(site, np.ones((1, 1, image.shape[-1], 1), "float32"))
        if image is None:
            return None
    kernel = _ungrouped(_array(layer.kernel), layer.groups)
    return activated(site, convolution(site, "pointwise", image, kernel, _bias(layer)))


def depthwise_convolution(site: CallSite) -> keras.KerasTensor | None:
    """A depthwise convolution of 3x3 or 5x5 that is padded by half its kernel."""
    layer = site.layer
    if type(layer) is not layers.DepthwiseConv2D:
        return None
    image = _depthwise(site, _array(layer.kernel), _bias(layer))
    return None if image is None else activated(site, image)


def separable_convolution(site: CallSite) -> keras.KerasTensor | None:
    """A separable convolution as the two that it is."""
    layer = site.layer
    if type(layer) is not layers.SeparableConv2D:
        return None
    image = _depthwise(site, _array(layer.depthwise_kernel), None)
    if image is None:
        return None
    kernel = _array(layer.pointwise_kernel)
    return activated(site, convolution(site, "pointwise", image, kernel, _bias(layer)))


def average_pooling(site: CallSite) -> keras.KerasTensor | None:
    """A pooling of the whole image as global pooling, another one as depthwise convolution."""
    layer = site.layer
    if type(layer) is not layers.AveragePooling2D or layer.data_format != "channels_last":
        return None
    if pools_all(site):
        return pooled(site, site.new(site.input))
    if not site.rewriting.is_after_stem(site.input) or pads_mean(site):
        return None
    shape = (*layer.pool_size, site.input.shape[-1], 1)
    return _embedded(site, np.full(shape, 1 / np.prod(layer.pool_size), "float32"))


def head_pooling(site: CallSite) -> keras.KerasTensor | None:
    """Global pooling at the end of the model without keepdims, which XNNPACK can leave by."""
    layer = site.layer
    is_kept = type(layer) is layers.GlobalAveragePooling2D and layer.keepdims
    if not is_kept or layer.data_format != "channels_last":
        return None
    return pooled(site, site.new(site.input)) if site.rewriting.is_head(site.output) else None


def gate_layer(site: CallSite) -> keras.KerasTensor | None:
    """A dense layer of a gate as the 1x1 convolution of one pixel, as which it stays inside."""
    layer = site.layer
    if type(layer) is not layers.Dense or len(site.input.shape) != 2:
        return None
    vector = site.input
    if not site.rewriting.is_pooled(vector) or site.rewriting.is_head(vector):
        return None
    kernel, image = _array(layer.kernel)[None, None], as_image(site, site.new(vector))
    options = {"activation": layer.activation}
    return as_vector(site, convolution(site, "pointwise", image, kernel, _bias(layer), **options))


def head_layer(site: CallSite) -> keras.KerasTensor | None:
    """A 1x1 convolution of one pooled pixel at the end of the model as a dense layer."""
    layer = site.layer
    if type(layer) not in (layers.Conv2D, layers.Dense):
        return None
    image = site.input
    if not site.rewriting.is_head(image) or len(image.shape) != 4:
        return None
    if image.shape[1:3] != (1, 1):
        return None
    kernel = _array(layer.kernel)
    if kernel.ndim == 4:
        if kernel.shape[:2] != (1, 1) or layer.data_format != "channels_last":
            return None
        kernel = _ungrouped(kernel, layer.groups)[0, 0]
    vector = as_vector(site, site.new(image))
    vector = dense(site, vector, kernel, _bias(layer), activation=layer.activation)
    return as_image(site, vector)


def per_channel(site: CallSite) -> keras.KerasTensor | None:
    """A scale and offset of each channel that no convolution before it can take in."""
    if not is_per_channel(site) or not site.rewriting.is_inside(site.output):
        return None
    image = site.input
    if site.rewriting.folds(image) and not negates(site):
        return None
    probe = np.zeros((2, 1, 1, image.shape[-1]), "float32")
    probe[1] = 1024  # Far from 0, where the offset would cost digits.
    offset, end = _array(site.call.repeat({id(image): ops.convert_to_tensor(probe)}))
    scale = (end - offset) / 1024
    return scaled(site, site.new(image), scale.ravel(), offset.ravel())


def repeated_operand(site: CallSite) -> keras.KerasTensor | None:
    """An image that is added to itself as a multiple of it."""
    if type(site.layer) is not layers.Add or len(set(map(id, site.inputs))) > 1:
        return None
    if not site.rewriting.is_inside(site.input):
        return None
    return scaled(site, site.new(site.input), len(site.inputs))


def activation(site: CallSite) -> keras.KerasTensor | None:
    """An activation that has no kernel as a sum or clipping of some that have."""
    if not site.inputs or not site.rewriting.is_inside(site.input):
        return None
    return activations.rewritten(site, site.new(site.input))


REWRITES: tuple[Rewrite, ...] = (
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
"""In the order in which they are tried."""


def _array(variable: Any) -> np.ndarray:
    return ops.convert_to_numpy(variable)


def _bias(layer: Any) -> np.ndarray | None:
    return _array(layer.bias) if layer.use_bias else None


def _ungrouped(kernel: np.ndarray, groups: int) -> np.ndarray:
    """A kernel (rows, columns, inputs of a group, outputs) with zeros between the groups."""
    rows, columns, inputs, outputs = kernel.shape
    full = np.zeros((rows, columns, groups, inputs, groups, outputs // groups), kernel.dtype)
    for group in range(groups):
        full[:, :, group, :, group] = np.split(kernel, groups, axis=-1)[group]
    return full.reshape(rows, columns, groups * inputs, outputs)


def _depthwise(
    site: CallSite, kernel: np.ndarray, bias: np.ndarray | None
) -> keras.KerasTensor | None:
    """What a depthwise kernel (rows, columns, channels, multiplier) makes; None to keep it."""
    layer, multiplier = site.layer, kernel.shape[-1]
    found = _embedding(site)
    if found is None:
        return None
    must_change = (
        type(layer) is not layers.DepthwiseConv2D
        or multiplier > 1
        or not stays(site, *found)
        or needs_layer(site)
    )
    return _embedded(site, kernel, bias) if must_change else None


def _embedding(site: CallSite) -> tuple[int, tuple[int, int]] | None:
    found = windows(site)
    return found and embedding(*found[1:], DEPTHWISE_SIZES)


def _embedded(
    site: CallSite, kernel: np.ndarray, bias: np.ndarray | None = None
) -> keras.KerasTensor | None:
    """A depthwise convolution with a call's windows; None if it does not fit."""
    seen, found = windows(site), _embedding(site)
    if seen is None or found is None:
        return None
    image, rows, _ = seen
    image, multiplier = site.new(image), kernel.shape[-1]
    if multiplier > 1:
        repeat = np.repeat(np.eye(image.shape[-1], dtype="float32"), multiplier, axis=1)
        image = convolution(site, "repeat", image, repeat[None, None])
        kernel = kernel.reshape(*kernel.shape[:2], -1, 1)
    kernel = place(oriented(site, kernel), *found)
    return depthwise(site, image, kernel, bias, rows.stride)
