"""The nets that `models` lists, apart from the MobileNets: images in, features out."""

from collections.abc import Callable, Sequence

import keras
from keras import layers

from .model_parts import Channels, conv, norm, norm_relu


def tiny_cnn(x: keras.KerasTensor, channels: Channels) -> keras.KerasTensor:
    """`small_cnn` of 8-8-16-16 channels: it has so few weights that sparsity costs accuracy."""
    return _cnn(x, (8, 8, 16, 16), channels)


def small_cnn(x: keras.KerasTensor, channels: Channels) -> keras.KerasTensor:
    """Four 3x3 convolutions, 32-64-128-128 channels, halving the image once."""
    return _cnn(x, (32, 64, 128, 128), channels)


def _cnn(x: keras.KerasTensor, widths: Sequence[int], channels: Channels) -> keras.KerasTensor:
    first, *others = widths
    x = norm_relu(conv(x, channels(first), 3, "stem_conv"), "stem")
    for index, (filters, strides) in enumerate(zip(others, (1, 2, 1), strict=True), start=1):
        name = f"stage{index}_conv"
        x = norm_relu(conv(x, channels(filters), 3, name, strides), f"stage{index}")
    return layers.GlobalAveragePooling2D(name="pool")(x)


def mlp(x: keras.KerasTensor, channels: Channels) -> keras.KerasTensor:
    """Two hidden layers of 512 and 256 units."""
    x = layers.Flatten(name="flatten")(x)
    for index, units in enumerate((512, 256), start=1):
        name = f"hidden{index}"
        x = layers.Dense(
            channels(units), use_bias=False, kernel_initializer="he_normal", name=name
        )(x)
        x = norm_relu(x, name)
    return x


def resnet20(x: keras.KerasTensor, channels: Channels) -> keras.KerasTensor:
    """ResNet-20 for 32x32 images (He et al. 2016, section 4.2), shortcuts of type B."""
    return _cifar_resnet(x, 3, channels)


def resnet32(x: keras.KerasTensor, channels: Channels) -> keras.KerasTensor:
    """ResNet-32 for 32x32 images (He et al. 2016, section 4.2), shortcuts of type B."""
    return _cifar_resnet(x, 5, channels)


def _cifar_resnet(x: keras.KerasTensor, blocks: int, channels: Channels) -> keras.KerasTensor:
    x = norm_relu(conv(x, channels(16), 3, "stem_conv"), "stem")
    return _residual(x, _basic_block, [(blocks, 16), (blocks, 32), (blocks, 64)], channels)


def resnet18(x: keras.KerasTensor, channels: Channels) -> keras.KerasTensor:
    """ResNet-18 for 32x32 images: the first convolution is 3x3, and nothing is pooled behind it."""
    x = norm_relu(conv(x, channels(64), 3, "stem_conv"), "stem")
    return _residual(x, _basic_block, [(2, 64), (2, 128), (2, 256), (2, 512)], channels)


def vgg19(x: keras.KerasTensor, channels: Channels) -> keras.KerasTensor:
    """VGG-19 for 32x32 images: 16 convolutions, normalized, and one dense layer behind them."""
    stages = [(2, 64), (2, 128), (4, 256), (4, 512), (4, 512)]
    for stage, (count, filters) in enumerate(stages, start=1):
        if stage > 1:
            x = layers.MaxPooling2D(2, padding="same", name=f"stage{stage}_pool")(x)
        for index in range(count):
            name = "stem" if stage == 1 and index == 0 else f"stage{stage}_block{index}"
            x = norm_relu(conv(x, channels(filters), 3, f"{name}_conv"), name)
    return layers.GlobalAveragePooling2D(name="pool")(x)


def wrn22_2(x: keras.KerasTensor, channels: Channels) -> keras.KerasTensor:
    """WRN-22-2 for 32x32 images (Zagoruyko and Komodakis 2016): normalized before convolutions."""
    x = conv(x, channels(16), 3, "stem_conv")
    stages = [(3, 32), (3, 64), (3, 128)]
    x = _stages(x, _preactivated_block, stages, channels)
    return layers.GlobalAveragePooling2D(name="pool")(norm_relu(x, "last"))


def resnet50(x: keras.KerasTensor, channels: Channels) -> keras.KerasTensor:
    """ResNet-50 for ImageNet (He et al. 2016, table 1)."""
    x = layers.ZeroPadding2D(3, name="stem_pad")(x)
    x = norm_relu(conv(x, channels(64), 7, "stem_conv", 2, "valid"), "stem")
    x = layers.MaxPooling2D(3, 2, padding="same", name="stem_pool")(x)
    return _residual(x, _bottleneck_block, [(3, 64), (4, 128), (6, 256), (3, 512)], channels)


def _residual(
    x: keras.KerasTensor, block: Callable, stages: list[tuple[int, int]], channels: Channels
) -> keras.KerasTensor:
    return layers.GlobalAveragePooling2D(name="pool")(_stages(x, block, stages, channels))


def _stages(
    x: keras.KerasTensor, block: Callable, stages: list[tuple[int, int]], channels: Channels
) -> keras.KerasTensor:
    """Stages of (blocks, filters); every stage but the first halves the image."""
    for stage, (blocks, filters) in enumerate(stages, start=1):
        for index in range(blocks):
            strides = 2 if stage > 1 and index == 0 else 1
            x = block(x, channels(filters), strides, f"stage{stage}_block{index}")
    return x


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


def _preactivated_block(
    x: keras.KerasTensor, filters: int, strides: int, name: str
) -> keras.KerasTensor:
    """Where the shape changes, the shortcut sees what the first convolution does."""
    activated = norm_relu(x, name)
    y = conv(activated, filters, 3, f"{name}_conv1", strides)
    y = conv(norm_relu(y, f"{name}_conv1"), filters, 3, f"{name}_conv2")
    if x.shape != y.shape:
        x = conv(activated, filters, 1, f"{name}_shortcut", strides)
    return layers.Add(name=f"{name}_add")([x, y])


def _bottleneck_block(
    x: keras.KerasTensor, filters: int, strides: int, name: str
) -> keras.KerasTensor:
    """1x1, 3x3, 1x1 (four times as wide); the stride is in the 3x3 (8.2e9 FLOPs at 224x224)."""
    y = norm_relu(conv(x, filters, 1, f"{name}_conv1"), f"{name}_conv1")
    y = norm_relu(conv(y, filters, 3, f"{name}_conv2", strides), f"{name}_conv2")
    y = conv(y, 4 * filters, 1, f"{name}_conv3")
    return _join(x, norm(y, f"{name}_conv3"), strides, name)
