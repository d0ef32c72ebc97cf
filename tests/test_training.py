"""SparseModel's one train step, the monitor, and gradients against hand-made ones."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from spfde_keras import SparseModel, sparsify, wrap
from spfde_keras.masking import find_masks
from spfde_keras.sieve.identified import Identified, strip_ids
from spfde_keras.training import Monitor, kernel_gradients

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
    np.testing.assert_array_equal(last.inputs["a"], x[8:])
    np.testing.assert_array_equal(last.sample_id, ids(10)[8:])
    np.testing.assert_array_equal(labels, y[8:])
    np.testing.assert_allclose(weights, samples[2][8:])


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
def test_the_monitor_counts_samples_and_keeps_the_last_batch(steps_per_execution):
    model = mlp(steps_per_execution=steps_per_execution)
    model.attach(Monitor(keep_batch=True), None)
    x, y = data()
    model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    assert int(model.monitor.samples) == 20
    last_x, last_y = model.monitor.last_batch.read()
    np.testing.assert_array_equal(last_x, x[8:])
    np.testing.assert_array_equal(last_y, y[8:])


def test_batches_are_kept_where_xla_would_refuse():
    with pytest.warns(UserWarning, match="Proceeding with `jit_compile=False`"):
        model = mlp(jit_compile=True)
    model.attach(Monitor(keep_batch=True), None)
    model.fit(*data(), batch_size=4, verbose=0)
    assert len(model.monitor.last_batch.read()[0]) == 2


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


def mlp_gradients(model, x, y, weight=None, subnet=0):
    """The gradients of the mean square error of `mlp`, of all weights, by hand in NumPy."""
    w1, w2 = (mask.subnets[subnet].read()[0].astype(np.float64) for mask in find_masks(model))
    b1, b2 = (np.asarray(model.get_layer(name).bias, np.float64) for name in ("hidden", "head"))
    weight = np.ones(len(x)) if weight is None else weight
    h = np.tanh(x @ w1 + b1)
    error = weight[:, None] * (h @ w2 + b2 - y) * 2 / y.size
    return {
        "hidden/kernel": x.T @ ((error @ w2.T) * (1 - h**2)),
        "head/kernel": h.T @ error,
    }


@pytest.mark.parametrize("identified", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_gradients_by_hand(weighted, identified):
    model = mlp()
    x, y = data()
    weight = np.linspace(0.5, 1.5, len(x)).astype("float32") if weighted else None
    expected = mlp_gradients(model, x, y, weight)
    given = Identified(x, ids(10)) if identified else x
    batch = (given, y, weight) if weighted else (given, y)
    masks = find_masks(model)
    dense = kernel_gradients(model, batch, masks, dense=True)
    sparse = kernel_gradients(model, batch, masks)
    assert list(dense) == list(sparse) == ["hidden/kernel", "head/kernel"]
    for mask in masks:
        kept = mask.read()[1][0]
        gradient = expected[mask.kernel_path]
        np.testing.assert_allclose(dense[mask.kernel_path], gradient, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(
            sparse[mask.kernel_path], np.where(kept, gradient, 0), rtol=1e-4, atol=1e-6
        )
        assert np.any(gradient[~kept]) and np.any(gradient[kept])
    only = kernel_gradients(model, batch, masks[1:], dense=True)
    np.testing.assert_allclose(only["head/kernel"], dense["head/kernel"], rtol=1e-6)


@pytest.mark.parametrize("subnet", range(3))
def test_gradients_of_one_sub_net_by_hand(subnet):
    model = mlp([0.25, 0.5, 0.75])
    random = np.random.default_rng(1)
    for mask in find_masks(model):  # not nested: each sub-net has weights that no other has
        mask.write(
            random.normal(size=mask.layout.shape), random.random((3, *mask.layout.shape)) < 0.5
        )
    x, y = data()
    expected = mlp_gradients(model, x, y, subnet=subnet)
    model.activate((subnet + 1) % 3)
    with model.at(subnet):
        dense = kernel_gradients(model, (x, y), find_masks(model), dense=True)
        masked = kernel_gradients(model, (x, y), find_masks(model))
    for mask in find_masks(model):
        kernel, masks = mask.read()
        kept = masks[subnet]
        # What another sub-net keeps and this one masks counts as zero here.
        assert kernel[~kept].any()
        gradient = expected[mask.kernel_path]
        assert np.any(gradient[~kept]) and np.any(gradient[kept])
        np.testing.assert_allclose(dense[mask.kernel_path], gradient, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(
            masked[mask.kernel_path], np.where(kept, gradient, 0), rtol=1e-4, atol=1e-6
        )


def with_state(sparsity=0.5):
    """Normalization, dropout, attention, a regularizer: all that a forward pass may change."""
    inputs = keras.Input((4, 4, 4))
    x = L.Conv2D(8, 3, padding="same", kernel_regularizer="l2", name="conv")(inputs)
    x = L.Dropout(0.3)(L.BatchNormalization()(x))
    x = L.Reshape((16, 8))(x)
    x = L.MultiHeadAttention(2, 4, dropout=0.2, name="mha")(x, x)
    model = keras.Model(inputs, L.Dense(2, name="head")(L.Flatten()(x)))
    sparse = sparsify(model, sparsity, dense=())
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    sparse.compile("adam", loss, metrics=["accuracy"], run_eagerly=True)
    random = np.random.default_rng(0)
    batch = random.normal(size=(6, 4, 4, 4)).astype("float32"), np.arange(6) % 2
    sparse.fit(*batch, verbose=0)
    return sparse, batch


@pytest.mark.parametrize("sparsity", [0.5, [0.5, 0.75]])
@pytest.mark.parametrize("dense", [False, True])
def test_gradients_change_nothing_in_the_model(dense, sparsity):
    model, batch = with_state(sparsity)
    variables = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    before = [variable.numpy() for variable in variables]
    gradients = kernel_gradients(model, batch, find_masks(model), dense)
    assert all(np.any(gradient) for gradient in gradients.values())
    for variable, value in zip(variables, before, strict=True):
        np.testing.assert_array_equal(variable, value, err_msg=variable.path)
    assert model.losses and len(model.losses) == 1
    # The same random numbers each time.
    for path, gradient in kernel_gradients(model, batch, find_masks(model), dense).items():
        np.testing.assert_allclose(gradient, gradients[path], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("sparsity, subnet", [(0.5, 0), ([0.5, 0.75], 1), ([0.75, 0.5], 0)])
def test_dense_gradient_is_that_of_the_model_without_masks(sparsity, subnet):
    model, batch = with_state(sparsity)
    masks = find_masks(model)
    with model.at(subnet):
        gradients = kernel_gradients(model, batch, masks, dense=True)
        before = model(batch[0], training=False)
    # Opening the masks for real leaves the function as it is: what they hide is zero, once
    # what only other sub-nets keep is.
    for mask in masks:
        mask.write(mask.subnets[subnet].read()[0], np.ones(mask.values.shape, bool))
    kernels = [mask.kernel.value for mask in masks]
    with model.at(subnet), tf.GradientTape() as tape:
        np.testing.assert_array_equal(model(batch[0], training=False), before)
        outputs = model(batch[0], training=True)
        loss = model.loss(batch[1], outputs) + sum(model.losses)
    for mask, expected in zip(masks, tape.gradient(loss, kernels), strict=True):
        np.testing.assert_allclose(gradients[mask.kernel_path], expected, rtol=1e-4, atol=1e-6)


def test_gradients_of_frozen_and_unconnected_kernels():
    inputs = keras.Input((4,))
    x = L.Dense(4, name="trunk")(inputs)
    outputs = [L.Dense(2, name="used")(x), L.Dense(2, name="free")(x)]
    model = sparsify(keras.Model(inputs, outputs), 0.5, dense=())
    model.get_layer("trunk").trainable = False
    model.compile("sgd", ["mse", None])
    x, y = data()
    gradients = kernel_gradients(model, (x, [y, y]), find_masks(model), dense=True)
    assert np.any(gradients["trunk/kernel"]) and np.any(gradients["used/kernel"])
    np.testing.assert_array_equal(gradients["free/kernel"], np.zeros((4, 2)))


def test_half_precision_gradients_do_not_vanish():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = mlp(loss_weights=1e-7)
    finally:
        keras.config.set_dtype_policy("float32")
    x, y = data()
    # Half precision ends at 6e-8.
    gradients = kernel_gradients(model, (x, y), find_masks(model), dense=True)
    for path, expected in mlp_gradients(model, x, y).items():
        assert gradients[path].dtype == "float32"
        np.testing.assert_allclose(gradients[path] * 1e7, expected, rtol=0.02, atol=0.005)
