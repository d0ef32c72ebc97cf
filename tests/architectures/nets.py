"""Architectures as Keras' example pages write them, small; each with data that it takes."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, ops

SAMPLES = 16


@dataclasses.dataclass(frozen=True)
class Net:
    """A model, and one batch of what it is trained on.

    Args:
        make: returns the model, of random weights.
        x: inputs, as `fit` takes them.
        y: labels.
        loss: a Keras loss.
        correct: for the sieve, where the loss does not tell what is right.
    """

    make: Callable[[], keras.Model]
    x: Any
    y: Any
    loss: Any = "sparse_categorical_crossentropy"
    correct: Callable | None = None


def near(y, y_pred):
    """Right is what is within one of the target, on average."""
    error = ops.abs(ops.cast(y, "float32") - ops.cast(y_pred, "float32"))
    return ops.mean(ops.reshape(error, (ops.shape(error)[0], -1)), axis=1) < 1.0


def sure(y, y_pred):
    """Right is what is predicted with some confidence, on average."""
    return ops.mean(ops.max(y_pred, axis=-1), axis=(1, 2)) > 0.5


def _floats(*shape):
    return np.random.default_rng(0).normal(size=(SAMPLES, *shape)).astype("float32")


def _ints(high, *shape):
    return np.random.default_rng(1).integers(0, high, (SAMPLES, *shape)).astype("int32")


CLASSES = 3
Y = _ints(CLASSES)


# Vision transformer: https://keras.io/examples/vision/image_classification_with_vision_transformer
class Patches(layers.Layer):
    def __init__(self, size):
        super().__init__()
        self.size = size

    def call(self, images):
        return ops.reshape(
            ops.image.extract_patches(images, self.size),
            (ops.shape(images)[0], (images.shape[1] // self.size) ** 2, self.size**2 * 3),
        )


class PatchEncoder(layers.Layer):
    def __init__(self, patches, width):
        super().__init__()
        self.patches = patches
        self.projection = layers.Dense(width)
        self.position = layers.Embedding(patches, width)

    def call(self, patch):
        positions = ops.expand_dims(ops.arange(self.patches), 0)
        return self.projection(patch) + self.position(positions)


def vision_transformer():
    inputs = keras.Input((16, 16, 3))
    x = PatchEncoder(16, 16)(Patches(4)(inputs))
    for _ in range(2):
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        x = layers.Add()([layers.MultiHeadAttention(2, 8, dropout=0.1)(y, y), x])
        y = layers.Dense(32, ops.gelu)(layers.LayerNormalization(epsilon=1e-6)(x))
        x = layers.Add()([layers.Dense(16, ops.gelu)(y), x])
    x = layers.Dropout(0.5)(layers.Flatten()(layers.LayerNormalization(epsilon=1e-6)(x)))
    return keras.Model(inputs, layers.Dense(CLASSES, "softmax")(layers.Dense(32, ops.gelu)(x)))


# https://keras.io/examples/vision/mlp_image_classification
class MixerLayer(layers.Layer):
    def __init__(self, patches, width, **kwargs):
        super().__init__(**kwargs)
        self.tokens = keras.Sequential([layers.Dense(patches, "gelu"), layers.Dense(patches)])
        self.channels = keras.Sequential([layers.Dense(width, "gelu"), layers.Dense(width)])
        self.normalize = layers.LayerNormalization(epsilon=1e-6)

    def build(self, input_shape):
        self.built = True

    def call(self, inputs):
        x = ops.transpose(self.normalize(inputs), (0, 2, 1))
        x = ops.transpose(self.tokens(x), (0, 2, 1)) + inputs
        return x + self.channels(self.normalize(x))


def mlp_mixer():
    inputs = keras.Input((16, 16, 3))
    x = layers.Dense(16)(Patches(4)(inputs))
    x = keras.Sequential([MixerLayer(16, 16) for _ in range(2)])(x)
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling1D()(x))
    return keras.Model(inputs, layers.Dense(CLASSES, "softmax")(x))


# https://keras.io/examples/vision/convmixer
def conv_mixer():
    def block(x):
        return layers.BatchNormalization()(layers.Activation("gelu")(x))

    inputs = keras.Input((16, 16, 3))
    x = block(layers.Conv2D(16, 2, 2)(layers.Rescaling(1 / 255)(inputs)))
    for _ in range(3):
        before = x
        x = layers.Add()([block(layers.DepthwiseConv2D(5, padding="same")(x)), before])
        x = block(layers.Conv2D(16, 1)(x))
    x = layers.GlobalAvgPool2D()(x)
    return keras.Model(inputs, layers.Dense(CLASSES, "softmax")(x))


# https://keras.io/examples/vision/oxford_pets_image_segmentation
def unet():
    inputs = keras.Input((16, 16, 3))
    x = layers.Activation("relu")(
        layers.BatchNormalization()(layers.Conv2D(8, 3, 2, padding="same")(inputs))
    )
    before = x
    for filters in (16, 24):
        for _ in range(2):
            x = layers.SeparableConv2D(filters, 3, padding="same")(layers.Activation("relu")(x))
            x = layers.BatchNormalization()(x)
        x = layers.MaxPooling2D(3, 2, padding="same")(x)
        x = layers.add([x, layers.Conv2D(filters, 1, 2, padding="same")(before)])
        before = x
    for filters in (24, 16, 8):
        for _ in range(2):
            x = layers.Conv2DTranspose(filters, 3, padding="same")(layers.Activation("relu")(x))
            x = layers.BatchNormalization()(x)
        x = layers.UpSampling2D(2)(x)
        y = layers.Conv2D(filters, 1, padding="same")(layers.UpSampling2D(2)(before))
        x = before = layers.add([x, y])
    return keras.Model(inputs, layers.Conv2D(CLASSES, 3, activation="softmax", padding="same")(x))


# https://keras.io/examples/nlp/text_classification_with_transformer
class TransformerBlock(layers.Layer):
    def __init__(self, width, heads, inner, rate=0.1):
        super().__init__()
        self.att = layers.MultiHeadAttention(num_heads=heads, key_dim=width)
        self.ffn = keras.Sequential([layers.Dense(inner, activation="relu"), layers.Dense(width)])
        self.layernorm1 = layers.LayerNormalization(epsilon=1e-6)
        self.layernorm2 = layers.LayerNormalization(epsilon=1e-6)
        self.dropout1 = layers.Dropout(rate)
        self.dropout2 = layers.Dropout(rate)

    def call(self, inputs):
        x = self.layernorm1(inputs + self.dropout1(self.att(inputs, inputs)))
        return self.layernorm2(x + self.dropout2(self.ffn(x)))


class TokenAndPositionEmbedding(layers.Layer):
    def __init__(self, length, vocabulary, width):
        super().__init__()
        self.token_emb = layers.Embedding(vocabulary, width)
        self.pos_emb = layers.Embedding(length, width)

    def call(self, x):
        return self.token_emb(x) + self.pos_emb(ops.arange(0, ops.shape(x)[-1]))


def text_transformer():
    inputs = keras.Input((12,), dtype="int32")
    x = TokenAndPositionEmbedding(12, 50, 16)(inputs)
    for _ in range(2):
        x = TransformerBlock(16, 2, 32)(x)
    x = layers.Dropout(0.1)(layers.GlobalAveragePooling1D()(x))
    x = layers.Dense(20, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(CLASSES, activation="softmax")(x))


# https://keras.io/examples/vision/autoencoder
def autoencoder():
    x = inputs = keras.Input((16, 16, 1))
    for _ in range(2):
        x = layers.Conv2D(16, 3, activation="relu", padding="same")(x)
        x = layers.MaxPooling2D(2, padding="same")(x)
    for _ in range(2):
        x = layers.Conv2DTranspose(16, 3, strides=2, activation="relu", padding="same")(x)
    return keras.Model(inputs, layers.Conv2D(1, 3, activation="sigmoid", padding="same")(x))


# https://keras.io/examples/vision/siamese_contrastive
def siamese():
    x = inputs = keras.Input((16, 16, 1))
    x = layers.BatchNormalization()(x)
    for filters in (8, 16):
        x = layers.AveragePooling2D(2)(layers.Conv2D(filters, 5, activation="tanh")(x))
    x = layers.Dense(10, activation="tanh")(layers.BatchNormalization()(layers.Flatten()(x)))
    tower = keras.Model(inputs, x)
    one, other = keras.Input((16, 16, 1)), keras.Input((16, 16, 1))
    apart = ops.sqrt(ops.sum(ops.square(tower(one) - tower(other)), axis=1, keepdims=True) + 1e-7)
    output = layers.Dense(1, activation="sigmoid")(layers.BatchNormalization()(apart))
    return keras.Model([one, other], output)


# https://keras.io/examples/structured_data/tabtransformer
def tab_transformer():
    categories = [keras.Input((), name=f"category_{n}", dtype="int32") for n in range(3)]
    numbers = keras.Input((4,), name="numbers")
    x = ops.stack([layers.Embedding(5, 8)(category) for category in categories], axis=1)
    for _ in range(2):
        y = layers.MultiHeadAttention(2, 8, dropout=0.1)(x, x)
        x = layers.LayerNormalization(epsilon=1e-6)(layers.Add()([y, x]))
        y = keras.Sequential([layers.Dense(16, "gelu"), layers.Dense(8)])(x)
        x = layers.LayerNormalization(epsilon=1e-6)(layers.Add()([y, x]))
    x = layers.Concatenate()([layers.Flatten()(x), layers.LayerNormalization()(numbers)])
    x = layers.Dense(32, "selu")(layers.BatchNormalization()(x))
    x = layers.Dense(16, "selu")(layers.BatchNormalization()(x))
    inputs = {tensor.name: tensor for tensor in (*categories, numbers)}
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))


# https://keras.io/examples/timeseries/timeseries_weather_forecasting
def time_series():
    inputs = keras.Input((12, 7))
    x = layers.Bidirectional(layers.LSTM(8, return_sequences=True))(inputs)
    x = layers.GRU(16)(x)
    return keras.Model(inputs, layers.Dense(1)(layers.Dense(16, "relu")(x)))


def wavenet():
    inputs = keras.Input((32, 1))
    x, skips = layers.Conv1D(8, 2, padding="causal")(inputs), []
    for dilation in (1, 2, 4, 8):
        gate = layers.Conv1D(8, 2, padding="causal", dilation_rate=dilation, activation="sigmoid")
        signal = layers.Conv1D(8, 2, padding="causal", dilation_rate=dilation, activation="tanh")
        y = layers.Multiply()([signal(x), gate(x)])
        skips.append(layers.Conv1D(16, 1)(y))
        x = layers.Add()([layers.Conv1D(8, 1)(y), x])
    x = layers.Conv1D(16, 1, activation="relu")(layers.Activation("relu")(layers.Add()(skips)))
    x = layers.Dense(CLASSES, "softmax")(layers.GlobalAveragePooling1D()(x))
    return keras.Model(inputs, x)


# https://keras.io/examples/structured_data/wide_deep_cross_networks
def wide_and_deep():
    wide = deep = inputs = keras.Input((10,))
    for _ in range(3):
        deep = layers.Dropout(0.1)(
            layers.ReLU()(layers.BatchNormalization()(layers.Dense(16)(deep)))
        )
    x = layers.concatenate([layers.BatchNormalization()(wide), deep])
    return keras.Model(inputs, layers.Dense(CLASSES, "softmax")(x))


# https://keras.io/guides/making_new_layers_and_models_via_subclassing
class Classifier(keras.Model):
    def __init__(self):
        super().__init__()
        self.stem = layers.Conv2D(8, 3, padding="same")
        self.blocks = [
            keras.Sequential([layers.Conv2D(8, 3, padding="same"), layers.BatchNormalization()])
            for _ in range(3)
        ]
        self.pool, self.head = layers.GlobalAveragePooling2D(), layers.Dense(CLASSES, "softmax")

    def call(self, x, training=None):
        x = self.stem(x)
        for block in self.blocks:
            x = x + ops.relu(block(x, training=training))
        return self.head(self.pool(x))


def subclassed():
    model = Classifier()
    model(_floats(16, 16, 3))
    return model


IMAGES = _floats(16, 16, 3)
EXAMPLES = {
    "vision transformer": Net(vision_transformer, IMAGES, Y),
    "MLP-Mixer": Net(mlp_mixer, IMAGES, Y),
    "ConvMixer": Net(conv_mixer, IMAGES, Y),
    "U-Net": Net(unet, IMAGES, _ints(CLASSES, 16, 16), correct=sure),
    "text transformer": Net(text_transformer, _ints(50, 12), Y),
    "autoencoder": Net(
        autoencoder, np.abs(_floats(16, 16, 1)), np.abs(_floats(16, 16, 1)), "mse", near
    ),
    "siamese": Net(
        siamese,
        [_floats(16, 16, 1), _floats(16, 16, 1)],
        _ints(2).astype("float32")[:, None],
        "binary_crossentropy",
    ),
    "TabTransformer": Net(
        tab_transformer,
        {f"category_{n}": _ints(5) for n in range(3)} | {"numbers": _floats(4)},
        _ints(2).astype("float32")[:, None],
        "binary_crossentropy",
    ),
    "LSTM and GRU": Net(time_series, _floats(12, 7), _floats(1), "mse", near),
    "WaveNet": Net(wavenet, _floats(32, 1), Y),
    "wide and deep": Net(wide_and_deep, _floats(10), Y),
    "subclassed": Net(subclassed, IMAGES, Y),
}
