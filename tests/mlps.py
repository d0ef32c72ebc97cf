"""A small sparse network, and data for it."""

import keras
import numpy as np

from spfde_keras import sparsify

L = keras.layers


def mlp(sparsity=0.5, **compile_arguments):
    model = keras.Sequential(
        [
            keras.Input((4,)),
            L.Dense(6, activation="tanh", name="hidden"),
            L.Dense(2, name="head"),
        ]
    )
    sparse = sparsify(model, sparsity, dense=())
    sparse.compile(
        **{"optimizer": keras.optimizers.SGD(0.1), "loss": "mse", "metrics": ["mae"]}
        | compile_arguments
    )
    return sparse


def data(samples=10, seed=0):
    random = np.random.default_rng(seed)
    return (
        random.normal(size=(samples, 4)).astype("float32"),
        random.normal(size=(samples, 2)).astype("float32"),
    )


def ids(samples):
    return np.arange(samples, dtype="int64") + 100
