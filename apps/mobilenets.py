"""MobileNets in the form that runs sparse on phones.

XNNPACK uses its sparse kernels only if the stem reads three channels, and every stride-2 layer an
even image with explicit symmetric padding. So here

- a stage keeps its resolution where halving would read an odd image or leave less than 4x4:
  224x224 is halved five times as in the papers, 32x32 three times, 28x28 twice, 8x8 once;
- images of odd height or width are refused: the stem always halves;
- a grey image is repeated three times, and one of two channels, or of more than three, is mixed
  into three by a 1x1 convolution that is learned (`stem_rgb`).
"""

import keras
from keras import layers

from .model_parts import Channels, conv, norm, norm_relu

# Channels of the blocks of each stage (Howard et al. 2017, table 1).
VERSION1_STAGES = ((64,), (128,) * 2, (256,) * 2, (512,) * 6, (1024,) * 2)

# Expansion, channels, blocks and strides of each stage (Sandler et al. 2018, table 2).
VERSION2_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def version1(x: keras.KerasTensor, channels: Channels) -> keras.KerasTensor:
    """MobileNet v1: depthwise and 1x1 convolutions in turn."""
    x = norm_relu(_stem(x, channels(32), "mobilenet_sparse"), "stem")
    for stage, widths in enumerate(VERSION1_STAGES, start=1):
        for index, filters in enumerate(widths):
            name = f"stage{stage}_block{index}"
            x = _depthwise(x, stage > 1 and index == 0, f"{name}_depthwise")
            x = norm_relu(x, f"{name}_depthwise")
            x = conv(x, channels(filters), 1, f"{name}_pointwise")
            x = norm_relu(x, f"{name}_pointwise")
    return layers.GlobalAveragePooling2D(name="pool")(x)


def version2(x: keras.KerasTensor, channels: Channels) -> keras.KerasTensor:
    """MobileNet v2: inverted residuals with linear bottlenecks."""
    x = norm_relu(_stem(x, channels(32), "mobilenetv2_sparse"), "stem", 6)
    for stage, (expansion, filters, blocks, strides) in enumerate(VERSION2_STAGES, start=1):
        for index in range(blocks):
            halve = strides == 2 and index == 0
            name = f"stage{stage}_block{index}"
            x = _inverted_residual(x, expansion, channels(filters), halve, name)
    x = norm_relu(conv(x, channels(1280), 1, "head_conv"), "head", 6)
    return layers.GlobalAveragePooling2D(name="pool")(x)


def _inverted_residual(
    x: keras.KerasTensor, expansion: int, filters: int, halve: bool, name: str
) -> keras.KerasTensor:
    """1x1 to `expansion` times the channels, depthwise, 1x1 without activation; added to `x`."""
    y = x
    if expansion > 1:
        y = conv(y, expansion * x.shape[-1], 1, f"{name}_expand")
        y = norm_relu(y, f"{name}_expand", 6)
    y = norm_relu(_depthwise(y, halve, f"{name}_depthwise"), f"{name}_depthwise", 6)
    y = norm(conv(y, filters, 1, f"{name}_project"), f"{name}_project")
    return layers.Add(name=f"{name}_add")([x, y]) if x.shape == y.shape else y


def _stem(x: keras.KerasTensor, filters: int, model: str) -> keras.KerasTensor:
    """A 3x3 convolution that halves the image, after whatever gives it three channels."""
    height, width = x.shape[1:3]
    if height % 2 or width % 2:
        raise ValueError(
            f"`{model}` needs images of even height and width: its stem halves them. Received: "
            f"{height}x{width}; pad or resize the images to {height + height % 2}x"
            f"{width + width % 2}, or use another model"
        )
    if x.shape[-1] == 1:
        x = layers.Concatenate(name="stem_rgb")([x, x, x])
    elif x.shape[-1] != 3:
        x = conv(x, 3, 1, "stem_rgb")
    x = layers.ZeroPadding2D(1, name="stem_pad")(x)
    return conv(x, filters, 3, "stem_conv", 2, "valid")


def _depthwise(x: keras.KerasTensor, halve: bool, name: str) -> keras.KerasTensor:
    """A 3x3 depthwise convolution; it halves the image if `halve`, and if the size allows it."""
    height, width = x.shape[1:3]
    halve = halve and height % 2 == 0 and width % 2 == 0 and min(height, width) >= 8
    if halve:
        x = layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
    return layers.DepthwiseConv2D(
        3,
        strides=2 if halve else 1,
        padding="valid" if halve else "same",
        use_bias=False,
        depthwise_initializer="he_normal",
        name=name,
    )(x)
