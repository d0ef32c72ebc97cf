"""Layers as users write them."""

from keras import layers


class Two(layers.Layer):
    """Holds two others."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.a, self.b = layers.Dense(8), layers.Dense(8)

    def build(self, shape):
        self.a.build(shape)
        self.b.build(shape)

    def call(self, x):
        return self.b(self.a(x))
