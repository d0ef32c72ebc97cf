"""Keras models whose files run sparse on phones, or break one rule, or are a hazard there."""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
from keras import layers

from spfde_keras.export.conversion import convert_models

IMAGE = (16, 16, 3)


@dataclasses.dataclass(frozen=True)
class Net:
    """A model, and what is true of its file.

    Args:
        build: () -> keras.Model, or a dictionary of them by signature.
        rules: names of the rules that the file breaks.
        hazard: bool, whether phones give wrong results, or cannot load it.
        sparse: bool, whether it runs sparse there, and correctly.
        precision: as in `export_tflite`.
        encoded: bool, whether weights are stored sparse.
        sparsity: float, of the 1x1 convolutions and dense layers.
    """

    build: Callable
    rules: tuple[str, ...] = ()
    hazard: bool = False
    sparse: bool = False
    precision: str = "float32"
    encoded: bool = True
    sparsity: float = 0.9


def stem(x, channels=16):
    x = layers.ZeroPadding2D(1)(x)
    return layers.Conv2D(channels, 3, 2, "valid", activation="relu")(x)


def block(x, channels, activation="relu"):
    x = layers.DepthwiseConv2D(3, padding="same", activation="relu")(x)
    return layers.Conv2D(channels, 1, activation=activation)(x)


def halving_block(x, channels):
    x = layers.ZeroPadding2D(1)(x)
    x = layers.DepthwiseConv2D(3, 2, "valid", activation="relu")(x)
    return layers.Conv2D(channels, 1, activation="relu")(x)


def two_blocks(x):
    return halving_block(block(x, 32), 48)


def head(x):
    return layers.Dense(10)(layers.GlobalAveragePooling2D()(x))


def net(body=two_blocks, first=stem, last=head, shape=IMAGE):
    """Returns a builder of: stem, body, head."""

    def build():
        image = layers.Input(shape)
        return keras.Model(image, last(body(first(image))))

    return build


def between(layer, activation="relu"):
    """Returns a builder of a net with `layer` between two blocks."""
    return net(lambda x: block(layer(block(x, 32, activation)), 48))


def depthwise(**options):
    return between(lambda x: layers.DepthwiseConv2D(**options)(x))


def keepdims_head(x):
    x = layers.GlobalAveragePooling2D(keepdims=True)(x)
    return layers.Flatten()(layers.Conv2D(10, 1)(x))


def squeeze_and_excite(x):
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(8, 1, activation="relu")(gate)
    gate = layers.Conv2D(x.shape[-1], 1, activation="sigmoid")(gate)
    return layers.Multiply()([x, gate])


def stretched_gate(x):
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.UpSampling2D(x.shape[1], interpolation="bilinear")(gate)
    return layers.Multiply()([x, gate])


def residual(x):
    return layers.Add()([x, block(x, 32)])


def with_features():
    image = layers.Input(IMAGE)
    features = block(stem(image), 32)
    return keras.Model(image, {"logits": head(block(features, 48)), "features": features})


def resnet():
    image = layers.Input(IMAGE)
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(image)
    for _ in range(2):
        y = layers.Conv2D(16, 3, padding="same", activation="relu")(x)
        x = layers.Add()([x, layers.Conv2D(16, 3, padding="same")(y)])
    return keras.Model(image, head(x))


def usual():
    image = layers.Input(IMAGE)
    x = layers.Rescaling(2.0, -1.0)(image)
    x = layers.Conv2D(8, 3, activation="relu")(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Conv2D(16, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.Conv2D(32, 1, activation="relu")(x)
    x = layers.DepthwiseConv2D(3, strides=2, padding="same")(x)
    return keras.Model(image, layers.Dense(10)(layers.Flatten()(x)))


def convolutions():
    """Whose dense layers alone are stored sparse."""
    image = layers.Input(IMAGE)
    x = layers.MaxPooling2D()(layers.Conv2D(3, 3, activation="relu")(image))
    x = layers.Flatten()(layers.Conv2D(4, 3, activation="relu")(x))
    x = layers.Dense(40, activation="relu", name="blocks")(x)
    return keras.Model(image, layers.Dense(32)(x))


def dense_layer(inputs):
    def build():
        x = layers.Input((inputs,))
        return keras.Model(x, layers.Dense(32, use_bias=False, name="blocks")(x))

    return build


# By rule: a file that breaks it.
RULE_NETS = {
    "flatten": Net(net(last=lambda x: layers.Dense(10)(layers.Flatten()(x))), ("flatten",)),
    "no_kernel": Net(between(lambda x: layers.MaxPooling2D(2)(x)), ("no_kernel",), hazard=True),
    "not_float": Net(net(), ("not_float", "stored_dense"), precision="int8_full", encoded=False),
    "groups": Net(between(lambda x: layers.Conv2D(32, 1, groups=4)(x)), ("groups",), hazard=True),
    "dilation": Net(
        depthwise(kernel_size=3, padding="same", dilation_rate=2), ("dilation",), hazard=True
    ),
    "pointwise_stride": Net(
        between(lambda x: layers.Conv2D(32, 1, 2)(x)), ("pointwise_stride",), hazard=True
    ),
    "pointwise_padding": Net(
        between(lambda x: layers.Conv2D(32, 1)(layers.ZeroPadding2D(1)(x))),
        ("pointwise_padding",),
        hazard=True,
    ),
    "kernel_size": Net(
        net(first=lambda x: layers.Conv2D(16, 5, 2, "valid")(layers.ZeroPadding2D(2)(x))),
        ("kernel_size",),
    ),
    "stem_stride": Net(
        net(first=lambda x: layers.Conv2D(16, 3, padding="same", activation="relu")(x)),
        ("stem_stride",),
    ),
    "stem_padding": Net(
        net(first=lambda x: layers.Conv2D(16, 3, 2, "same", activation="relu")(x)),
        ("stem_padding",),
    ),
    "stem_channels": Net(net(shape=(16, 16, 1)), ("stem_channels",)),
    "depthwise_same": Net(
        depthwise(kernel_size=3, strides=2, padding="same"), ("depthwise_same",), hazard=True
    ),
    "depthwise_multiplier": Net(
        depthwise(kernel_size=3, padding="same", depth_multiplier=2),
        ("depthwise_multiplier",),
        hazard=True,
    ),
    "depthwise_stride": Net(
        depthwise(kernel_size=3, strides=3, padding="valid"),
        ("depthwise_stride", "depthwise_padding"),
        hazard=True,
    ),
    "depthwise_kernel": Net(
        depthwise(kernel_size=7, padding="same"), ("depthwise_kernel",), hazard=True
    ),
    "depthwise_padding": Net(depthwise(kernel_size=3), ("depthwise_padding",), hazard=True),
    "rank": Net(between(lambda x: layers.Rescaling(2.0, 1.0)(x)), ("rank",), hazard=True),
    "dense_layer": Net(dense_layer(64), ("dense_layer",)),
    "constant_operand": Net(
        between(lambda x: x + np.linspace(-1, 1, 8 * 8 * 32, dtype="f").reshape(1, 8, 8, 32)),
        ("constant_operand",),
        hazard=True,
    ),
    "two_images": Net(between(lambda x: layers.Maximum()([x, block(x, 32)])), ("two_images",)),
    "resize_size": Net(between(stretched_gate), ("resize_size",)),
    "inner_kernel": Net(
        net(lambda x: layers.Conv2D(32, 3, 2, "same", activation="relu")(block(x, 32))),
        ("inner_kernel",),
    ),
    "stored_dense": Net(net(), ("stored_dense",), encoded=False),
    "too_dense": Net(net(), ("too_dense",), sparsity=0.6),
    "no_stem": Net(net(first=lambda x: x), ("no_stem",)),
    "late_stem": Net(between(lambda x: stem(block(x, 3), 32)), ("late_stem",), hazard=True),
    "also_output": Net(with_features, ("also_output",), hazard=True),
    "pooled_head": Net(net(last=keepdims_head), ("pooled_head",), hazard=True),
    "same_operand": Net(between(lambda x: layers.Add()([x, x])), ("same_operand",)),
    "foreign": Net(between(lambda x: keras.ops.floor_divide(x, 0.5)), ("foreign",)),
    "mean_axes": Net(
        between(lambda x: layers.Multiply()([x, keras.ops.mean(x, 1, keepdims=True)])),
        ("mean_axes",),
        hazard=True,
    ),
    "sparse_int8": Net(net(), ("sparse_int8",), hazard=True, precision="int8_dynamic"),
    "sparse_blocks": Net(dense_layer(63), ("sparse_blocks",), hazard=True),
    "sparse_reader": Net(
        dense_layer(64), ("sparse_reader", "dense_layer"), hazard=True, precision="float16"
    ),
}

OTHER_NETS = {
    "qualifying": Net(net(), sparse=True),
    "qualifying float16": Net(net(), sparse=True, precision="float16"),
    "residual, activations": Net(
        net(lambda x: residual(layers.Activation("hard_swish")(block(x, 32, "gelu")))),
        sparse=True,
    ),
    "squeeze and excite": Net(between(squeeze_and_excite), sparse=True),
    "dense layer on pixels": Net(between(lambda x: layers.Dense(32)(x)), sparse=True),
    "one channel, repeated": Net(
        net(first=lambda x: stem(layers.Concatenate()([x] * 3)), shape=(16, 16, 1)), sparse=True
    ),
    "resnet": Net(resnet, ("stem_stride", "inner_kernel")),
    "int8 full, sparse convolutions": Net(
        net(last=lambda x: layers.GlobalAveragePooling2D()(x)),
        ("not_float",),
        precision="int8_full",
    ),
    "int8 dynamic": Net(
        net(), ("not_float", "stored_dense"), precision="int8_dynamic", encoded=False
    ),
    "usual": Net(usual, ("stem_stride", "no_kernel", "inner_kernel", "depthwise_same", "flatten")),
    "usual, stored dense": Net(
        usual,
        ("stored_dense", "stem_stride", "no_kernel", "inner_kernel", "depthwise_same", "flatten"),
        encoded=False,
    ),
    "usual, int8": Net(
        usual,
        (
            *("not_float", "stored_dense"),
            *("stem_stride", "no_kernel", "inner_kernel", "depthwise_same", "flatten"),
        ),
        precision="int8_full",
        encoded=False,
    ),
    "dense layers after convolutions": Net(
        convolutions, ("dense_layer", "stem_stride", "no_kernel", "inner_kernel", "flatten")
    ),
    "odd images": Net(net(shape=(15, 15, 3)), ("stem_padding",)),
    "two signatures": Net(lambda: {"light": net()(), "heavy": net()()}, sparse=True),
}
NETS = RULE_NETS | OTHER_NETS


def build(net: Net) -> dict[str, keras.Model]:
    """Returns the models of a net by signature, with weights."""
    models = net.build()
    models = models if isinstance(models, dict) else {"serving_default": models}
    for seed, model in enumerate(models.values()):
        _fill(model, net.sparsity, np.random.default_rng(seed))
    return models


def _fill(model: keras.Model, sparsity: float, random: np.random.Generator) -> None:
    """Sets weights that keep activations in scale; depthwise kernels and the stem are dense."""
    for layer in model.layers:
        for variable in layer.weights:
            shape = variable.shape
            if variable.name == "bias":
                variable.assign(random.normal(0, 0.1, shape))
            elif variable.name == "kernel" and max(shape[:2]) > 1 and len(shape) == 4:
                share = sparsity if shape[2] > 3 else 0
                variable.assign(_kernel(shape, share, random))
            elif variable.name == "kernel":
                mask_shape = (-(-shape[0] // 4), shape[1]) if layer.name == "blocks" else shape
                keep = random.random(mask_shape) >= sparsity
                if layer.name == "blocks":
                    keep[-1, ::2] = True  # the last, incomplete block counts
                    keep = np.repeat(keep, 4, axis=0)[: shape[0]]
                scale = np.sqrt(2 / (np.prod(shape[:-1]) * (1 - sparsity)))
                variable.assign(random.normal(0, scale, shape) * keep)
            else:
                variable.assign(random.normal(0, np.sqrt(2 / 9), shape))


def _kernel(shape, sparsity: float, random: np.random.Generator) -> np.ndarray:
    scale = np.sqrt(2 / (np.prod(shape[:-1]) * (1 - sparsity)))
    return random.normal(0, scale, shape) * (random.random(shape) >= sparsity)


def write(net: Net, models: dict[str, keras.Model], path, encoded: bool | None = None) -> None:
    """Writes the file of a net, without the checks that `export_tflite` makes first.

    Args:
        net: which.
        models: as `build` returns them.
        path: where to.
        encoded: bool, whether weights are stored sparse; as the net says by default.
    """
    samples = inputs(models)
    stored_sparse = net.encoded if encoded is None else encoded
    content = convert_models(models, net.precision, stored_sparse, samples)
    path.write_bytes(content)


def inputs(models: dict[str, keras.Model]) -> dict[str, np.ndarray]:
    """Returns samples for a net, by the name of the input in its file."""
    shape = next(iter(models.values())).input_shape[1:]
    return {"input_0": np.random.default_rng(9).random((4, *shape), dtype="float32")}
