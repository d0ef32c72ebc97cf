"""What training holds in memory does not grow."""

import gc

import keras
import numpy as np
from tensorflow.python.framework.func_graph import FuncGraph

import spfde_keras


def test_a_step_compiled_before_a_freeze_does_not_stay_in_memory():
    def note(epoch, logs):
        graphs.append(sum(isinstance(one, FuncGraph) for one in gc.get_objects()))

    graphs = []
    layers = [keras.layers.Dense(8, activation="relu") for _ in range(6)]
    net = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(2)])
    model = spfde_keras.sparsify(net, 0.5)
    model.compile("sgd", "mse")
    training = spfde_keras.SpFDE(updater="rigl", interval=1, freeze=0.2)
    noting = keras.callbacks.LambdaCallback(on_epoch_end=note)
    history = model.fit(
        np.ones((8, 4)), np.ones((8, 2)), 4, 10, verbose=0, callbacks=[training, noting]
    )
    assert len(set(history.history["frozen_blocks"])) >= 3
    assert max(graphs) == graphs[0]
