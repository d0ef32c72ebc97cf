"""Small nets of Keras' own layers."""

import keras
from keras import layers

SHAPE = (8, 8, 1)


def conv_net(channels=16):
    inputs = layers.Input(SHAPE, name="image")
    x = layers.Conv2D(channels, 3, padding="same")(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU()(x)
    x = layers.DepthwiseConv2D(3)(x)
    x = layers.Conv2D(channels, 3)(x)
    x = layers.Dropout(0.5)(x)
    x = layers.Flatten()(x)
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x))


def attention_net():
    inputs = layers.Input((6, 8))
    x = layers.MultiHeadAttention(2, 4)(inputs, inputs)
    x = layers.LayerNormalization()(x)
    x = layers.Dense(16, activation="gelu")(x)
    return keras.Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling1D()(x)))
