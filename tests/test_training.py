"""SparseModel's one train step, the monitor, and gradients against hand-made ones."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from spfde_keras import SparseModel, wrap
from spfde_keras.monitor import Monitor
from spfde_keras.sieve.identified import Identified, strip_ids
from tests.mlps import data, ids, mlp

L = keras.layers


class Recorder:
    """Stands in for a sieve: keeps what it is told in variables."""

    def __init__(self):
        self.ids = tf.Variable(tf.zeros([0], tf.int64), shape=[None])
        self.right = tf.Variable(tf.zeros([0], tf.bool), shape=[None])
        self.calls = tf.Variable(0)

    def judge(self, loss, outputs):
        assert [tuple(output.shape) for output in outputs] == [(None, 2)]
        return lambda y, y_pred: y_pred[:, 0] > tf.cast(y[:, 0], tf.float32)

    def count(self, sample_id, correct):
        self.ids.assign(tf.concat([self.ids, tf.cast(sample_id, tf.int64)], axis=0))
        self.right.assign(tf.concat([self.right, correct], axis=0))
        self.calls.assign_add(1)


def test_strip_ids():
    x = {"a": 1}
    assert strip_ids(Identified(x, [1])) is x
    assert strip_ids((1, 2)) == (1, 2)


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_ids_change_nothing_in_fit_evaluate_predict(run_eagerly):
    x, y = data()
    plain, identified = mlp(run_eagerly=run_eagerly), mlp(run_eagerly=run_eagerly)
    identified.set_weights(plain.get_weights())
    arguments = {"epochs": 2, "batch_size": 4, "shuffle": False, "verbose": 0}
    histories = [
        plain.fit(x, y, **arguments).history,
        identified.fit(Identified(x, ids(10)), y, **arguments).history,
    ]
    assert histories[0] == histories[1]
    for one, two in zip(plain.weights, identified.weights, strict=True):
        np.testing.assert_array_equal(one, two)
    assert plain.evaluate(x, y, verbose=0) == identified.evaluate(
        Identified(x, ids(10)), y, verbose=0
    )
    np.testing.assert_array_equal(
        plain.predict(x, verbose=0), identified.predict(Identified(x, ids(10)), verbose=0)
    )
    np.testing.assert_array_equal(plain(x), identified(Identified(x, ids(10))))


def test_ids_travel_in_datasets_with_dictionaries_and_sample_weights():
    inputs = {"a": keras.Input((4,), name="a"), "b": keras.Input((4,), name="b")}
    outputs = L.Dense(2)(L.Add()([inputs["a"], inputs["b"]]))
    model = wrap(keras.Model(inputs, outputs))
    model.compile("sgd", "mse", weighted_metrics=["mse"])
    x, y = data()
    samples = (Identified({"a": x, "b": x}, ids(10)), y, np.linspace(0, 1, 10))
    model.attach(Monitor(keep_batch=True), Recorder())
    model.fit(tf.data.Dataset.from_tensor_slices(samples).batch(4), epochs=1, verbose=0)
    np.testing.assert_array_equal(np.unique(model.sieve.ids), ids(10))
    last, labels, weights = model.monitor.last_batch.read()
    assert isinstance(last, Identified)
    np.testing.assert_array_equal(last.inputs["a"], x[4:8])
    np.testing.assert_array_equal(last.sample_id, ids(10)[4:8])
    np.testing.assert_array_equal(labels, y[4:8])
    np.testing.assert_allclose(weights, samples[2][4:8])


def fitted_with_sieve(loss, x=None):
    model = mlp(loss=loss, metrics=[])
    samples, y = data()
    model.fit(samples, y, verbose=0)  # builds everything, before anyone observes
    model.attach(None, Recorder())
    x = Identified(samples, ids(10)) if x is None else x
    model.fit(x, y, batch_size=4, shuffle=False, epochs=1, verbose=0)
    return model


def test_the_sieve_sees_each_sample_once_in_order():
    model = fitted_with_sieve("mse")
    np.testing.assert_array_equal(model.sieve.ids, ids(10))
    assert int(model.sieve.calls) == 3


def test_the_sieve_sees_nothing_without_ids():
    assert int(fitted_with_sieve("mse", data()[0]).sieve.calls) == 0


def test_the_sieve_is_told_which_samples_its_judge_calls_right():
    model = mlp(optimizer=keras.optimizers.SGD(0.0), metrics=[])
    x, y = data()
    model.attach(None, Recorder())
    model.fit(Identified(x, ids(10)), y, batch_size=4, shuffle=False, verbose=0)
    expected = model.predict(x, verbose=0)[:, 0] > y[:, 0]
    assert 0 < expected.sum() < 10
    np.testing.assert_array_equal(model.sieve.right, expected)


def test_left_dense_is_part_of_the_configuration():
    model = mlp()
    model.left_dense = {"other": "because"}
    copy = SparseModel.from_config(model.get_config())
    assert copy.left_dense == {"other": "because"}
    copy.left_dense["changed"] = "outside"
    assert copy.left_dense == {"other": "because"}
    assert wrap(mlp()).left_dense == {}


@pytest.mark.parametrize("steps_per_execution", [1, 2])
def test_the_monitor_counts_samples_and_keeps_the_last_full_batch(steps_per_execution):
    model = mlp(steps_per_execution=steps_per_execution)
    model.attach(Monitor(keep_batch=True), None)
    x, y = data()
    model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    assert int(model.monitor.samples) == 20
    last_x, last_y = model.monitor.last_batch.read()
    np.testing.assert_array_equal(last_x, x[4:8])
    np.testing.assert_array_equal(last_y, y[4:8])
    assert model.monitor.last_batch.samples == 4
    # A new epoch may have smaller ones.
    model.monitor.start_epoch()
    model.fit(x, y, batch_size=3, epochs=1, shuffle=False, verbose=0)
    np.testing.assert_array_equal(model.monitor.last_batch.read()[0], x[6:9])


def test_batches_are_kept_where_xla_would_refuse():
    with pytest.warns(UserWarning, match="Proceeding with `jit_compile=False`"):
        model = mlp(jit_compile=True)
    model.attach(Monitor(keep_batch=True), None)
    model.fit(*data(), batch_size=4, verbose=0)
    assert len(model.monitor.last_batch.read()[0]) == 4


def test_the_monitor_keeps_no_batch_unless_asked():
    model = mlp()
    model.attach(Monitor(), None)
    model.fit(*data(), epochs=1, verbose=0)
    assert int(model.monitor.samples) == 10
    assert model.monitor.last_batch is None


def test_the_monitors_counters_are_saved_with_the_weights(tmp_path):
    models = mlp(), mlp()
    for model in models:
        model.attach(Monitor(), None)
    models[0].monitor.samples.assign(7)
    models[0].monitor.totals.assign([1e15 + 1, 2.0])
    models[0].save_weights(tmp_path / "model.weights.h5")
    models[1].load_weights(tmp_path / "model.weights.h5")
    assert int(models[1].monitor.samples) == 7
    assert models[1].monitor.totals.numpy().tolist() == [1e15 + 1, 2.0]
    # It is no part of the network.
    assert len(models[1].trainable_variables) == 4
    assert [layer.name for layer in models[1].layers][1:] == ["hidden", "head"]
