"""The models the programs can train, by name: plain functional Keras models that return logits."""

from collections.abc import Callable

import keras
from keras import layers


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
    section 4), in MobileNets the depthwise convolutions, which hold few weights.

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


Channels = Callable[[int], int]


def _conv(x, filters: int, size: int, name: str, strides: int = 1, padding: str = "same"):
    """Convolution without bias (a batch normalisation follows), He initialised."""
    return layers.Conv2D(
        filters,
        size,
        strides=strides,
        padding=padding,
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )(x)


def _norm(x, name: str):
    """Batch normalisation with the papers' momentum: Keras' 0.99 lags behind in short runs."""
    return layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)


def _norm_relu(x, name: str):
    return layers.ReLU(name=f"{name}_relu")(_norm(x, name))


def _small_cnn(x, channels: Channels):
    """Four 3x3 convolutions, 32-64-128-128 channels, halving the image twice."""
    x = _norm_relu(_conv(x, channels(32), 3, "stem_conv"), "stem")
    for index, (filters, strides) in enumerate([(64, 1), (128, 2), (128, 1)], start=1):
        name = f"stage{index}_conv"
        x = _norm_relu(_conv(x, channels(filters), 3, name, strides), f"stage{index}")
    return layers.GlobalAveragePooling2D(name="pool")(x)


def _mlp(x, channels: Channels):
    """Two hidden layers of 512 and 256 units."""
    x = layers.Flatten(name="flatten")(x)
    for index, units in enumerate((512, 256), start=1):
        name = f"hidden{index}"
        x = layers.Dense(
            channels(units), use_bias=False, kernel_initializer="he_normal", name=name
        )(x)
        x = _norm_relu(x, name)
    return x


def _residual(x, block: Callable, stages: list[tuple[int, int]], channels: Channels):
    """Stages of (blocks, filters); every stage but the first halves the image."""
    for stage, (blocks, filters) in enumerate(stages, start=1):
        for index in range(blocks):
            strides = 2 if stage > 1 and index == 0 else 1
            x = block(x, channels(filters), strides, f"stage{stage}_block{index}")
    return layers.GlobalAveragePooling2D(name="pool")(x)


def _join(x, residual, strides: int, name: str):
    """Adds the shortcut: the identity, or a 1x1 convolution where the shape changes."""
    if x.shape != residual.shape:
        x = _conv(x, residual.shape[-1], 1, f"{name}_shortcut", strides)
        x = _norm(x, f"{name}_shortcut")
    x = layers.Add(name=f"{name}_add")([x, residual])
    return layers.ReLU(name=f"{name}_relu")(x)


def _basic_block(x, filters: int, strides: int, name: str):
    y = _norm_relu(_conv(x, filters, 3, f"{name}_conv1", strides), f"{name}_conv1")
    y = _conv(y, filters, 3, f"{name}_conv2")
    return _join(x, _norm(y, f"{name}_conv2"), strides, name)


def _bottleneck_block(x, filters: int, strides: int, name: str):
    """1x1, 3x3, 1x1 (four times as wide); the stride is in the 3x3 (8.2e9 FLOPs at 224x224)."""
    y = _norm_relu(_conv(x, filters, 1, f"{name}_conv1"), f"{name}_conv1")
    y = _norm_relu(_conv(y, filters, 3, f"{name}_conv2", strides), f"{name}_conv2")
    y = _conv(y, 4 * filters, 1, f"{name}_conv3")
    return _join(x, _norm(y, f"{name}_conv3"), strides, name)


def _cifar_resnet(blocks: int) -> Callable:
    """The ResNets for 32x32 images (He et al. 2016, section 4.2), shortcuts of type B."""

    def features(x, channels: Channels):
        x = _norm_relu(_conv(x, channels(16), 3, "stem_conv"), "stem")
        return _residual(x, _basic_block, [(blocks, 16), (blocks, 32), (blocks, 64)], channels)

    return features


def _resnet50(x, channels: Channels):
    """ResNet-50 for ImageNet (He et al. 2016, table 1)."""
    x = layers.ZeroPadding2D(3, name="stem_pad")(x)
    x = _norm_relu(_conv(x, channels(64), 7, "stem_conv", 2, "valid"), "stem")
    x = layers.MaxPooling2D(3, 2, padding="same", name="stem_pool")(x)
    return _residual(x, _bottleneck_block, [(3, 64), (4, 128), (6, 256), (3, 512)], channels)


def _mobilenet_sparse(x, channels: Channels):
    """MobileNet v1 (Howard et al. 2017, table 1) in the form that runs sparse on phones.

    XNNPACK uses its sparse kernels only if every stride-2 layer reads an even image with
    explicit symmetric padding. So a stage keeps its resolution where halving would read an
    odd image or leave less than 4x4: 224x224 is halved five times as in the paper, 32x32 three
    times, 28x28 twice, 8x8 once. And its sparse stem reads three channels: a grey image is
    repeated.
    """
    height, width = x.shape[1:3]
    if height % 2 or width % 2:
        raise ValueError(
            "`mobilenet_sparse` needs images of even height and width: its stem halves them. "
            f"Received: {height}x{width}; pad or resize the images, or use another model"
        )
    if x.shape[-1] == 1:
        x = layers.Concatenate(name="stem_rgb")([x, x, x])
    x = layers.ZeroPadding2D(1, name="stem_pad")(x)
    x = _norm_relu(_conv(x, channels(32), 3, "stem_conv", 2, "valid"), "stem")
    for stage, widths in enumerate([[64], [128] * 2, [256] * 2, [512] * 6, [1024] * 2], start=1):
        for index, filters in enumerate(widths):
            name = f"stage{stage}_block{index}"
            halve = stage > 1 and index == 0 and _halves_well(*x.shape[1:3])
            if halve:
                x = layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
            x = layers.DepthwiseConv2D(
                3,
                strides=2 if halve else 1,
                padding="valid" if halve else "same",
                use_bias=False,
                depthwise_initializer="he_normal",
                name=f"{name}_depthwise",
            )(x)
            x = _norm_relu(x, f"{name}_depthwise")
            x = _norm_relu(_conv(x, channels(filters), 1, f"{name}_pointwise"), f"{name}_pointwise")
    return layers.GlobalAveragePooling2D(name="pool")(x)


def _halves_well(height: int, width: int) -> bool:
    return height % 2 == 0 and width % 2 == 0 and min(height, width) >= 8


_FEATURES: dict[str, Callable] = {
    "small_cnn": _small_cnn,
    "mlp": _mlp,
    "resnet20": _cifar_resnet(3),
    "resnet32": _cifar_resnet(5),
    "resnet50": _resnet50,
    "mobilenet_sparse": _mobilenet_sparse,
}

_ALSO_DENSE: dict[str, tuple[str, ...]] = {
    "resnet20": (".*_shortcut",),
    "resnet32": (".*_shortcut",),
    "resnet50": (".*_shortcut",),
    "mobilenet_sparse": (".*_depthwise",),
}
