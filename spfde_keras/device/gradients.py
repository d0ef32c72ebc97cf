"""Gradients in operators that LiteRT has, for operators whose own gradients it lacks."""

from typing import Any

import numpy as np
import tensorflow as tf

from spfde_keras.device.windows import Windows, added

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


@_overrides("StridedSlice")
def _strided_slice(op: tf.Operation, g: tf.Tensor) -> list[tf.Tensor | None]:
    """Of a slice by constants; others keep an operator that LiteRT lacks, and are refused."""
    x, *bounds = op.inputs
    begin, end, steps = (tf.get_static_value(bound) for bound in bounds)
    masks = {
        name: op.get_attr(f"{name}_mask")
        for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    }
    constant = begin is not None and end is not None and all(steps == 1)
    if not constant or masks["ellipsis"] or masks["new_axis"] or not x.shape.is_fully_defined():
        named = {f"{name}_mask": mask for name, mask in masks.items()}
        begin, end, steps = bounds
        shape = tf.shape(x)
        back = tf.raw_ops.StridedSliceGrad(
            shape=shape, begin=begin, end=end, strides=steps, dy=g, **named
        )
        return [back, None, None, None]
    pads, shape = [], []
    for axis, size in enumerate(x.shape.as_list()):
        first, last = 0, size
        if axis < len(begin) and masks["shrink_axis"] >> axis & 1:
            first = int(begin[axis]) % size
            last = first + 1
        elif axis < len(begin):
            first, last, _ = slice(
                None if masks["begin"] >> axis & 1 else int(begin[axis]),
                None if masks["end"] >> axis & 1 else int(end[axis]),
            ).indices(size)
        pads.append([first, size - last])
        shape.append(last - first)
    return [tf.pad(tf.reshape(g, shape), pads), None, None, None]
