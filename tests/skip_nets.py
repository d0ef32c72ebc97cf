"""Nets with connections that pass by most of their layers."""

import itertools

import keras
from keras import layers, ops


class _Named:
    """Makes layers of which no name is the start of another."""

    def __init__(self):
        self._numbers = itertools.count()

    def __call__(self, kind, *args, **kwargs):
        return kind(*args, name=f"{kind.__name__}{next(self._numbers)}x".lower(), **kwargs)


def unet(levels=2, size=8):
    """Two convolutions on each level, down and up again."""
    new = _Named()

    def convolved(x, filters):
        for _ in range(2):
            x = new(layers.Conv2D, filters, 3, padding="same", activation="relu")(x)
        return x

    x = inputs = keras.Input((size, size, 3))
    skipping = []
    for level in range(levels):
        x = convolved(x, 2 << level)
        skipping.append(x)
        x = new(layers.AveragePooling2D, 2)(x)
    x = convolved(x, 2 << levels)
    for level in reversed(range(levels)):
        x = new(layers.Conv2DTranspose, 2 << level, 2, strides=2)(x)
        x = convolved(new(layers.Concatenate)([skipping[level], x]), 2 << level)
    return keras.Model(inputs, new(layers.Conv2D, 1, 1)(x))


def wavenet(units=8):
    """Gated units, each with a residual and a skip connection."""
    new = _Named()
    inputs = keras.Input((16, 1))
    x, skipping = new(layers.Conv1D, 4, 2, padding="causal")(inputs), []
    for unit in range(units):
        gated = [
            new(layers.Conv1D, 4, 2, padding="causal", dilation_rate=1 + unit % 2, activation=name)
            for name in ("tanh", "sigmoid")
        ]
        z = new(layers.Multiply)([layer(x) for layer in gated])
        skipping.append(new(layers.Conv1D, 4, 1)(z))
        x = new(layers.Add)([x, new(layers.Conv1D, 4, 1)(z)])
    x = new(layers.ReLU)(new(layers.Add)(skipping))
    return keras.Model(inputs, new(layers.Conv1D, 2, 1)(x))


def bert(units=4):
    """Transformer blocks that share a mask, made of an input, and positions, made of a shape."""
    new, width = _Named(), 8
    ids, segments = (keras.Input((6,), dtype="int32") for _ in range(2))
    mask = keras.Input((6,), dtype="bool")
    positions = ops.cumsum(ops.ones_like(ids), axis=1) - 1
    x = new(layers.Embedding, 20, width)(ids) + new(layers.Embedding, 2, width)(segments)
    x = new(layers.LayerNormalization)(x + new(layers.Embedding, 6, width)(positions))
    allowed = ops.expand_dims(mask, 1)
    for _ in range(units):
        attended = new(layers.MultiHeadAttention, 2, 4)(x, x, attention_mask=allowed)
        x = new(layers.LayerNormalization)(x + attended)
        wide = new(layers.Dense, 16, activation="gelu")(x)
        x = new(layers.LayerNormalization)(x + new(layers.Dense, width)(wide))
    pooled = new(layers.Dense, width, activation="tanh")(x[:, 0])
    return keras.Model([ids, mask, segments], [x, pooled])


def wide_and_deep():
    """An input that joins the other one in front of the last layer."""
    new = _Named()
    wide, deep = keras.Input((10,)), keras.Input((6,))
    x = deep
    for _ in range(3):
        x = new(layers.Dense, 8, activation="relu")(x)
    joined = new(layers.Concatenate)([wide, x])
    return keras.Model([wide, deep], new(layers.Dense, 1)(joined))


def retinanet(stages=(2, 2, 3)):
    """A residual backbone, a feature pyramid on its stages, and two heads shared by all levels."""
    new, width = _Named(), 4

    def conv(x, filters, size=1, strides=1):
        return new(layers.Conv2D, filters, size, strides=strides, padding="same")(x)

    def head(outputs):
        body = [new(layers.Conv2D, width, 3, padding="same") for _ in range(2)]
        last = new(layers.Conv2D, outputs, 3, padding="same")
        return keras.Sequential([keras.Input((None, None, width)), *body, last])

    inputs = keras.Input((32, 32, 3))
    x, taps = conv(inputs, width, 3, 2), []
    for stage, units in enumerate(stages):
        for unit in range(units):
            strides, filters = (1 if unit else 2), width << stage
            y = conv(conv(conv(x, filters, 1, strides), filters, 3), 2 * filters)
            x = y + (x if unit else conv(x, 2 * filters, 1, strides))
            x = new(layers.ReLU)(x)
        taps.append(x)
    levels = [conv(tap, width) for tap in taps]
    for level in (1, 0):
        levels[level] = levels[level] + new(layers.UpSampling2D)(levels[level + 1])
    levels = [conv(level, width, 3) for level in levels]
    levels.append(conv(taps[-1], width, 3, 2))
    outputs = [
        new(layers.Concatenate, axis=1)(
            [new(layers.Reshape, (-1, count))(shared(level)) for level in levels]
        )
        for count, shared in ((4, head(4)), (6, head(6)))
    ]
    return keras.Model(inputs, outputs)
