"""Gradients in operators that LiteRT has, for operators whose own gradients it lacks."""

import math
from typing import Any

import numpy as np
import tensorflow as tf

from spfde_keras.device.windows import Windows, added, apart, placed

OVERRIDES: dict[str, str] = {}
"""What `gradient_override_map` takes: registered gradients by types of operators."""


def _overrides(*kinds: str) -> Any:
    def register(gradient: Any) -> Any:
        for kind in kinds:
            name = OVERRIDES[kind] = f"SpfdeDevice{kind}"
            tf.RegisterGradient(name)(gradient)
        return gradient

    return register


# Signs by casts: `zeros_like` would be stored in the file, as large as a batch.


@_overrides("Relu")
def _relu(op: tf.Operation, g: tf.Tensor) -> tf.Tensor:
    return g * tf.cast(op.outputs[0] > 0, g.dtype)


@_overrides("Relu6")
def _relu6(op: tf.Operation, g: tf.Tensor) -> tf.Tensor:
    y = op.outputs[0]
    return g * tf.cast(y > 0, g.dtype) * tf.cast(y < 6, g.dtype)


@_overrides("LeakyRelu")
def _leaky_relu(op: tf.Operation, g: tf.Tensor) -> tf.Tensor:
    positive = tf.cast(op.inputs[0] > 0, g.dtype)
    return g * (positive + op.get_attr("alpha") * (1.0 - positive))


@_overrides("Elu")
def _elu(op: tf.Operation, g: tf.Tensor) -> tf.Tensor:
    return g * (1.0 + tf.minimum(op.outputs[0], 0.0))


_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


@_overrides("Selu")
def _selu(op: tf.Operation, g: tf.Tensor) -> tf.Tensor:
    # As TensorFlow's own, zero is on the side of the positive ones.
    y = op.outputs[0]
    positive = tf.cast(y >= 0, g.dtype)
    slope = y + _SELU_SCALE * _SELU_ALPHA
    return g * (positive * _SELU_SCALE + (1.0 - positive) * slope)


@_overrides("Tanh")
def _tanh(op: tf.Operation, g: tf.Tensor) -> tf.Tensor:
    return g * (1.0 - tf.square(op.outputs[0]))


@_overrides("Sigmoid")
def _sigmoid(op: tf.Operation, g: tf.Tensor) -> tf.Tensor:
    y = op.outputs[0]
    return g * y * (1.0 - y)


@_overrides("Rsqrt")
def _rsqrt(op: tf.Operation, g: tf.Tensor) -> tf.Tensor:
    y = op.outputs[0]
    return g * -0.5 * y * y * y


@_overrides("Sqrt")
def _sqrt(op: tf.Operation, g: tf.Tensor) -> tf.Tensor:
    return g * 0.5 / op.outputs[0]


def _pools(op: tf.Operation) -> Windows:
    size, window = op.inputs[0].shape[1:3], op.get_attr("ksize")[1:3]
    same = op.get_attr("padding") == b"SAME"
    return Windows(tuple(size), tuple(window), tuple(op.get_attr("strides")[1:3]), same=same)


@_overrides("MaxPool")
def _max_pool(op: tf.Operation, g: tf.Tensor) -> tf.Tensor:
    pools, y = _pools(op), op.outputs[0]
    padded = pools.pad(op.inputs[0], tf.float32.min)
    # The first of equals takes all, as in TensorFlow.
    free: Any = 1.0
    parts = []
    for at in pools.positions:
        taken = free * tf.cast(tf.equal(pools.seen(padded, at), y), g.dtype)
        free = free - taken
        parts.append(pools.put_back(g * taken, at))
    return pools.unpad(added(parts))


@_overrides("AvgPool")
def _average_pool(op: tf.Operation, g: tf.Tensor) -> tf.Tensor:
    pools = _pools(op)
    # TensorFlow averages over what lies inside of the image.
    inside = np.pad(np.ones(pools.size), pools.pads)
    (rows, columns), (down, across) = pools.count, pools.strides
    count = sum(inside[r::down, c::across][:rows, :columns] for r, c in pools.positions)
    share = g * tf.constant((1 / np.asarray(count))[None, :, :, None], g.dtype)
    return pools.unpad(added([pools.put_back(share, at) for at in pools.positions]))


@_overrides("Tile")
def _tile(op: tf.Operation, g: tf.Tensor) -> list[tf.Tensor | None]:
    for axis, size in enumerate(op.inputs[0].shape.as_list()):
        if g.shape[axis] > size:  # one axis after the other: LiteRT sums over few axes only
            lead, rest = math.prod(g.shape[:axis]), g.shape[axis + 1 :]
            parts = tf.reshape(g, [lead, -1, size * math.prod(rest)])
            g = tf.reshape(tf.reduce_sum(parts, 1), [*g.shape[:axis], size, *rest])
    return [g, None]


@_overrides("Softsign")
def _softsign(op: tf.Operation, g: tf.Tensor) -> tf.Tensor:
    return g / tf.square(1.0 + tf.abs(op.inputs[0]))


@_overrides("StridedSlice")
def _strided_slice(op: tf.Operation, g: tf.Tensor) -> list[tf.Tensor | None]:
    """Of a slice by constants; others keep an operator that LiteRT lacks, and are refused."""
    x, *bounds = op.inputs
    begin, end, steps = (tf.get_static_value(bound) for bound in bounds)
    names = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")
    masks = {name: op.get_attr(name) for name in names}
    if begin is None or end is None or not all(steps > 0):
        begin, end, steps = bounds
        back = tf.raw_ops.StridedSliceGrad(
            shape=tf.shape(x), begin=begin, end=end, strides=steps, dy=g, **masks
        )
        return [back, None, None, None]
    sizes, taken = iter(x.shape.as_list()), []

    def is_set(name: str, place: int) -> bool:
        return bool(masks[f"{name}_mask"] >> place & 1)

    new = sum(is_set("new_axis", place) for place in range(len(begin)))
    unnamed = len(x.shape) - (len(begin) - new - bool(masks["ellipsis_mask"]))
    for place, (first, last, step) in enumerate(zip(begin, end, steps, strict=True)):
        if is_set("ellipsis", place):
            taken += [range(next(sizes)) for _ in range(unnamed)]
        elif is_set("new_axis", place):
            continue
        elif is_set("shrink_axis", place):
            at = range(next(sizes))[first]
            taken.append(range(at, at + 1))
        else:
            first = None if is_set("begin", place) else first
            last = None if is_set("end", place) else last
            taken.append(range(next(sizes))[first:last:step])
    taken += map(range, sizes)
    g = tf.reshape(g, [len(entries) for entries in taken])
    for axis, entries in enumerate(taken):
        g = placed(apart(g, axis, entries.step), {axis: (entries.start, x.shape[axis])})
    return [g, None, None, None]
