"""The models the programs can train, by name: plain functional Keras models that return logits."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras  # otherwise imported to build one: names are had without it


def build(
    name: str, input_shape: tuple[int, int, int], classes: int, width: float = 1.0
) -> "keras.Model":
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
    from spfde_keras import checks  # with TensorFlow, for which `--help` need not wait

    classes, width = checks.whole("classes", classes, 2), checks.number("width", width, above=0)

    def channels(count: int) -> int:
        return max(8, 8 * round(count * width / 8))

    import keras

    module, function = _FEATURES[name].split(".")
    features = getattr(importlib.import_module(f".{module}", __package__), function)
    inputs = keras.Input(tuple(input_shape), name="image")
    logits = keras.layers.Dense(classes, name="classifier")(features(inputs, channels))
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


# Where the features are: modules beside this one, and functions in them.
_FEATURES = {
    "tiny_cnn": "nets.tiny_cnn",
    "small_cnn": "nets.small_cnn",
    "mlp": "nets.mlp",
    "resnet18": "nets.resnet18",
    "resnet20": "nets.resnet20",
    "resnet32": "nets.resnet32",
    "resnet50": "nets.resnet50",
    "vgg19": "nets.vgg19",
    "wrn22_2": "nets.wrn22_2",
    "mobilenet_sparse": "mobilenets.version1",
    "mobilenetv2_sparse": "mobilenets.version2",
}

_ALSO_DENSE: dict[str, tuple[str, ...]] = {
    "resnet18": (".*_shortcut",),
    "resnet20": (".*_shortcut",),
    "resnet32": (".*_shortcut",),
    "resnet50": (".*_shortcut",),
    "wrn22_2": (".*_shortcut",),
    "mobilenet_sparse": ("stem_conv", ".*_depthwise"),
    "mobilenetv2_sparse": ("stem_conv", ".*_depthwise"),
}
