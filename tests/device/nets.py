"""Small nets, their files, and both trained side by side."""

import keras
import numpy as np

import spfde_keras

L = keras.layers
LOSS = "sparse_categorical_crossentropy"


def small_cnn():
    """Two convolutions and two dense layers, four fifths of them zero."""
    layers = [
        keras.Input((8, 8, 1)),
        L.Conv2D(4, 3, padding="same", activation="relu"),
        L.Conv2D(8, 3, strides=2, padding="same", activation="relu"),
        L.Flatten(),
        L.Dense(16, activation="relu"),
        L.Dense(10, activation="softmax"),
    ]
    return spfde_keras.sparsify(keras.Sequential(layers), 0.8)


def batches(count, samples=8, classes=10, shape=(8, 8, 1)):
    random = np.random.default_rng(0)
    for _ in range(count):
        x = random.random((samples, *shape), "float32")
        yield x, random.integers(classes, size=samples).astype("int32")


class App:
    """What an app does with a file."""

    def __init__(self, path):
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_path=str(path), num_threads=1)

    def __getattr__(self, name):
        return self._interpreter.get_signature_runner(name)

    def step(self, x, y, rate=0.1):
        return self.train(x=x, y=y, rate=np.float32([rate]))

    @property
    def state(self):
        return self.save()["state"]
