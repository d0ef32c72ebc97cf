"""The models the programs can train, by name: plain functional Keras models that return logits."""

from collections.abc import Callable

import keras
from keras import layers

from . import mobilenets
from .model_parts import Channels, conv, norm, norm_relu


def build(
    name: str, input_shape: tuple[int, int, int], classes: int, width: float = 1.0
) -> keras.Model:
    """Builds the model `name`: images in, logits out.

    Args:
        name: one of `names()`.
        input_shape: (height, width, channels) of one image.
        classes: number of logits, at least 2.
        width: factor on all channel counts, which are rounded to multiples of 8.

    Returns:
        A functional `keras.Model`, (batch, height, width, channels) -> (batch, classes). Layers
        are called `stem_conv`, `stage1_block0_conv1`, `stage2_block0_shortcut`, ...,
        `classifier`, so that regular expressions can pick them.

    Raises:
        ValueError: unknown name, or an argument out of range.

    Example:

    >>> build("small_cnn", (8, 8, 1), classes=10).output_shape
    (None, 10)
    """
    _check_name(name)
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise ValueError(
            f"`input_shape` must be (height, width, channels). Received: {input_shape}"
        )
    if classes < 2:
        raise ValueError(f"`classes` must be at least 2. Received: {classes}")
    if width <= 0:
        raise ValueError(f"`width` must be positive. Received: {width}")

    def channels(count: int) -> int:
        return max(8, 8 * round(count * width / 8))

    inputs = keras.Input(tuple(input_shape), name="image")
    features = _FEATURES[name](inputs, channels)
    logits = layers.Dense(classes, name="classifier")(features)
    return keras.Model(inputs, logits, name=name)


def dense_layers(name: str) -> tuple[str, ...]:
    """Returns what `sparsify(dense=...)` should leave dense in the model `name`.

    First convolution and classifier always; in residual nets the 1x1 shortcuts too (MEST,
    section 4), in MobileNets the depthwise convolutions, which hold few weights, and the stem
    where `stem_rgb` comes before it.

    >>> dense_layers("resnet32")
    ('first', 'last', '.*_shortcut')
    """
    _check_name(name)
    return ("first", "last", *_ALSO_DENSE.get(name, ()))


def names() -> list[str]:
    """Returns the names that `build` knows."""
    return list(_FEATURES)


def _check_name(name: str) -> None:
    if name not in _FEATURES:
        raise ValueError(f"`model` must be one of {', '.join(_FEATURES)}. Received: {name}")


def _small_cnn(x: keras.KerasTensor, channels: Channels) -> keras.KerasTensor:
    """Four 3x3 convolutions, 32-64-128-128 channels, halving the image twice."""
    x = norm_relu(conv(x, channels(32), 3, "stem_conv"), "stem")
    for index, (filters, strides) in enumerate([(64, 1), (128, 2), (128, 1)], start=1):
        name = f"stage{index}_conv"
        x = norm_relu(conv(x, channels(filters), 3, name, strides), f"stage{index}")
    return layers.GlobalAveragePooling2D(name="pool")(x)


def _mlp(x: keras.KerasTensor, channels: Channels) -> keras.KerasTensor:
    """Two hidden layers of 512 and 256 units."""
    x = layers.Flatten(name="flatten")(x)
    for index, units in enumerate((512, 256), start=1):
        name = f"hidden{index}"
        x = layers.Dense(
            channels(units), use_bias=False, kernel_initializer="he_normal", name=name
        )(x)
        x = norm_relu(x, name)
    return x


def _residual(
    x: keras.KerasTensor, block: Callable, stages: list[tuple[int, int]], channels: Channels
) -> keras.KerasTensor:
    """Stages of (blocks, filters); every stage but the first halves the image."""
    for stage, (blocks, filters) in enumerate(stages, start=1):
        for index in range(blocks):
            strides = 2 if stage > 1 and index == 0 else 1
            x = block(x, channels(filters), strides, f"stage{stage}_block{index}")
    return layers.GlobalAveragePooling2D(name="pool")(x)


def _join(
    x: keras.KerasTensor, residual: keras.KerasTensor, strides: int, name: str
) -> keras.KerasTensor:
    """Adds the shortcut: the identity, or a 1x1 convolution where the shape changes."""
    if x.shape != residual.shape:
        x = conv(x, residual.shape[-1], 1, f"{name}_shortcut", strides)
        x = norm(x, f"{name}_shortcut")
    x = layers.Add(name=f"{name}_add")([x, residual])
    return layers.ReLU(name=f"{name}_relu")(x)


def _basic_block(x: keras.KerasTensor, filters: int, strides: int, name: str) -> keras.KerasTensor:
    y = norm_relu(conv(x, filters, 3, f"{name}_conv1", strides), f"{name}_conv1")
    y = conv(y, filters, 3, f"{name}_conv2")
    return _join(x, norm(y, f"{name}_conv2"), strides, name)


def _bottleneck_block(
    x: keras.KerasTensor, filters: int, strides: int, name: str
) -> keras.KerasTensor:
    """1x1, 3x3, 1x1 (four times as wide); the stride is in the 3x3 (8.2e9 FLOPs at 224x224)."""
    y = norm_relu(conv(x, filters, 1, f"{name}_conv1"), f"{name}_conv1")
    y = norm_relu(conv(y, filters, 3, f"{name}_conv2", strides), f"{name}_conv2")
    y = conv(y, 4 * filters, 1, f"{name}_conv3")
    return _join(x, norm(y, f"{name}_conv3"), strides, name)


def _cifar_resnet(blocks: int) -> Callable:
    """The ResNets for 32x32 images (He et al. 2016, section 4.2), shortcuts of type B."""

    def features(x: keras.KerasTensor, channels: Channels) -> keras.KerasTensor:
        x = norm_relu(conv(x, channels(16), 3, "stem_conv"), "stem")
        return _residual(x, _basic_block, [(blocks, 16), (blocks, 32), (blocks, 64)], channels)

    return features


def _resnet50(x: keras.KerasTensor, channels: Channels) -> keras.KerasTensor:
    """ResNet-50 for ImageNet (He et al. 2016, table 1)."""
    x = layers.ZeroPadding2D(3, name="stem_pad")(x)
    x = norm_relu(conv(x, channels(64), 7, "stem_conv", 2, "valid"), "stem")
    x = layers.MaxPooling2D(3, 2, padding="same", name="stem_pool")(x)
    return _residual(x, _bottleneck_block, [(3, 64), (4, 128), (6, 256), (3, 512)], channels)


_FEATURES: dict[str, Callable] = {
    "small_cnn": _small_cnn,
    "mlp": _mlp,
    "resnet20": _cifar_resnet(3),
    "resnet32": _cifar_resnet(5),
    "resnet50": _resnet50,
    "mobilenet_sparse": mobilenets.version1,
    "mobilenetv2_sparse": mobilenets.version2,
}

_ALSO_DENSE: dict[str, tuple[str, ...]] = {
    "resnet20": (".*_shortcut",),
    "resnet32": (".*_shortcut",),
    "resnet50": (".*_shortcut",),
    "mobilenet_sparse": ("stem_conv", ".*_depthwise"),
    "mobilenetv2_sparse": ("stem_conv", ".*_depthwise"),
}
