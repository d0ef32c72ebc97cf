"""What the tests of several sub-nets share: a small model, its data, and a way to train it."""

import keras
import numpy as np

from spfde_keras import sparsify
from spfde_keras.layers.switchable import SwitchableBatchNormalization
from spfde_keras.masking import find_masks

SPARSITIES = [0.5, 0.75, 0.875]


def make_data(samples: int = 48) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).normal(size=(samples, 8)).astype("float32")
    return x, np.argmax(x[:, :3] + x[:, 3:6] * x[:, 5:8], axis=1).astype("int32")


def network() -> keras.Model:
    layers = [keras.Input((8,))]
    for index in range(3):
        layers.append(keras.layers.Dense(16, use_bias=False, name=f"dense{index}"))
        layers.append(keras.layers.BatchNormalization(momentum=0.9, name=f"norm{index}"))
        layers.append(keras.layers.ReLU(name=f"relu{index}"))
    return keras.Sequential([*layers, keras.layers.Dense(3, name="head")])


def make_model(sparsity=SPARSITIES, optimizer=None, loss=None, compiled=None, **kwargs):
    """A compiled `SparseModel`; `compiled` holds further arguments of `compile`."""
    model = sparsify(network(), sparsity=sparsity, **kwargs)
    loss = loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = optimizer or keras.optimizers.SGD(0.05, momentum=0.9)
    model.compile(optimizer, loss, **(compiled or {}))
    # Keras compiles a step that makes variables twice.
    model.optimizer.build(model.trainable_variables)
    return model


def fit(model, data, callback, more=(), **kwargs) -> dict:
    """Trains on arrays, or on the batches of a sieve; returns the history."""
    arguments = {"epochs": callback.epochs, "verbose": 0, "shuffle": False} | kwargs
    if isinstance(data, tuple):
        arguments = {"x": data[0], "y": data[1], "batch_size": 8} | arguments
    else:
        arguments["x"] = data
    return model.fit(callbacks=[callback, *more], **arguments).history


def masks_of(model) -> list[np.ndarray]:
    """The masks of each kernel, sub-nets first."""
    return [mask.read()[1] for mask in find_masks(model)]


def normalizations(model) -> list[keras.layers.Layer]:
    return [x for x in model._flatten_layers() if isinstance(x, SwitchableBatchNormalization)]


class EachStep(keras.callbacks.Callback):
    """Calls `look` before each step, after the callback before this one."""

    def __init__(self, look):
        super().__init__()
        self.look = look
        self.seen = []

    def on_train_batch_begin(self, batch, logs=None):
        self.seen.append(self.look(self.model))
