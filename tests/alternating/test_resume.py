"""A run that is interrupted and resumed by another process."""

import keras
import numpy as np
import pytest

from spfde_keras import AlternatingSparseTraining, DataSieve
from spfde_keras.updaters import MESTEMS
from spfde_keras.updaters.prune_and_regrow import PruneAndRegrow
from tests.alternating.runs import fit, make_data, make_model
from tests.interruptions import BreakOff


def run(folder, epochs, updater, interval, break_off=(), optimizer=None, **kwargs):
    """Trains a new model; returns all that must be equal, None if interrupted."""
    keras.utils.set_random_seed(3)
    model = make_model(optimizer=optimizer and optimizer())
    sieve = DataSieve(make_data(), fraction=0.25, seed=5)
    callback = AlternatingSparseTraining(
        epochs, updater(), interval=interval, sieve=sieve, seed=2, **kwargs
    )
    backup = keras.callbacks.BackupAndRestore(folder, delete_checkpoint=False)
    more = [backup, BreakOff(*break_off)] if break_off else [backup]
    try:
        history = fit(model, sieve.batches(8), callback, more=more)
    except KeyboardInterrupt:
        return None
    variables = [v.numpy() for v in model.variables + model.optimizer.variables]
    return variables, callback.training_flops, callback.dense_training_flops, history


# 36 samples make 5 steps an epoch, which three sub-nets do not divide.
@pytest.mark.parametrize(
    ("updater", "interval", "breaks", "kwargs"),
    [
        # Updates between epochs: of sub-net 1 at the ends of epochs 0, 3 and 6, of 2 at 1 and 4.
        (lambda: PruneAndRegrow(end=0.5), 3, [(1, 1), (5, 0)], {}),
        # Updates within epochs, and blocks that freeze one after the other.
        (
            lambda: MESTEMS(stop=1.0),
            1,
            [(4, 3)],
            {"freeze": 0.15, "optimizer": lambda: keras.optimizers.Adam(0.01)},
        ),
    ],
    ids=["between", "within"],
)
def test_a_resumed_run_equals_an_uninterrupted_one(updater, interval, breaks, kwargs, tmp_path):
    epochs = 7
    expected = run(tmp_path / "whole", epochs, updater, interval, **kwargs)
    for break_off in breaks:
        assert run(tmp_path / "parts", epochs, updater, interval, break_off, **kwargs) is None
    got = run(tmp_path / "parts", epochs, updater, interval, **kwargs)
    for value, other in zip(got[0], expected[0], strict=True):
        np.testing.assert_array_equal(value, other)
    assert got[1:3] == expected[1:3]
    resumed = len(got[3]["loss"])
    assert resumed < epochs
    assert got[3] == {name: values[-resumed:] for name, values in expected[3].items()}
    assert sum(expected[3]["gradient_corrections"]) > 0
    if "freeze" in kwargs:
        assert expected[3]["frozen_blocks"][-1] > 0
