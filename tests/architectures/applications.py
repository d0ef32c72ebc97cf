"""The architectures of keras.applications, and of keras_hub where it is installed."""

import functools
import importlib.util

import keras
import numpy as np

from tests.architectures.nets import CLASSES, SAMPLES, Net, _floats, _ints

A = keras.applications
# The smallest of each family, and the smallest images that it takes.
FAMILIES = {
    "Xception": (A.Xception, 71),
    "VGG16": (A.VGG16, 32),
    "ResNet50": (A.ResNet50, 32),
    "ResNet50V2": (A.ResNet50V2, 32),
    "InceptionV3": (A.InceptionV3, 75),
    "InceptionResNetV2": (A.InceptionResNetV2, 75),
    "MobileNet": (A.MobileNet, 32),
    "MobileNetV2": (A.MobileNetV2, 32),
    "MobileNetV3Small": (A.MobileNetV3Small, 32),
    "DenseNet121": (A.DenseNet121, 32),
    "NASNetMobile": (A.NASNetMobile, 32),
    "EfficientNetB0": (A.EfficientNetB0, 32),
    "EfficientNetV2B0": (A.EfficientNetV2B0, 32),
    "ConvNeXtTiny": (A.ConvNeXtTiny, 32),
}


_LENGTH = 12  # of texts


def _application(make, size):
    return make(weights=None, input_shape=(size, size, 3), classes=CLASSES)


def groups() -> dict[str, dict[str, Net]]:
    """Returns nets by name, for each group that can be made here."""
    y = _ints(CLASSES)
    found = {
        "applications": {
            name: Net(functools.partial(_application, make, size), _floats(size, size, 3), y)
            for name, (make, size) in FAMILIES.items()
        }
    }
    if importlib.util.find_spec("keras_hub"):
        found["hub"] = _hub(y)
    return found


def _classifier(make, output=None):
    backbone = make()
    # A file needs inputs of a fixed length.
    inputs = keras.tree.map_structure(
        lambda x: keras.Input(
            [size or _LENGTH for size in x.shape[1:]], dtype=x.dtype, name=x.name
        ),
        backbone.input,
    )
    features = backbone(inputs) if output is None else backbone(inputs)[output]
    if len(features.shape) > 2:
        features = keras.ops.mean(features, axis=list(range(1, len(features.shape) - 1)))
    head = keras.layers.Dense(CLASSES, "softmax", name="classes")(features)
    return keras.Model(inputs, head)


def _hub(y: np.ndarray) -> dict[str, Net]:
    import keras_hub.models as hub

    words = {
        "token_ids": _ints(50, _LENGTH),
        "padding_mask": np.ones((SAMPLES, _LENGTH), "int32"),
    }
    small = {"vocabulary_size": 50, "num_layers": 3, "hidden_dim": 16, "intermediate_dim": 32}
    bert = functools.partial(hub.BertBackbone, num_heads=2, max_sequence_length=_LENGTH, **small)
    gpt = functools.partial(hub.GPT2Backbone, num_heads=2, max_sequence_length=_LENGTH, **small)
    llama = functools.partial(hub.LlamaBackbone, num_query_heads=4, num_key_value_heads=2, **small)
    vit = functools.partial(
        hub.ViTBackbone,
        image_shape=(16, 16, 3),
        patch_size=4,
        num_layers=3,
        num_heads=2,
        hidden_dim=16,
        mlp_dim=32,
    )
    resnet = functools.partial(
        hub.ResNetBackbone,
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128],
        stackwise_num_blocks=[2, 2],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        image_shape=(32, 32, 3),
    )
    return {
        "BERT": Net(
            functools.partial(_classifier, bert, "pooled_output"),
            words | {"segment_ids": np.zeros((SAMPLES, _LENGTH), "int32")},
            y,
        ),
        "GPT-2": Net(functools.partial(_classifier, gpt), words, y),
        "Llama": Net(functools.partial(_classifier, llama), words, y),
        "ViT": Net(functools.partial(_classifier, vit), _floats(16, 16, 3), y),
        "ResNet": Net(functools.partial(_classifier, resnet), _floats(32, 32, 3), y),
    }
