"""Sub-nets of a model: their names, and which of them runs."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from spfde_keras import SparseModel, sparsify, wrap
from spfde_keras.layers.switchable import SwitchableBatchNormalization
from spfde_keras.masking import find_masks
from spfde_keras.subnets import SubnetSwitch, subnet_name

L = keras.layers
SPARSITIES = [0.5, 0.75, 0.875]
NAMES = ["subnet_50", "subnet_75", "subnet_87_5"]


@keras.saving.register_keras_serializable("test_subnets")
class Traced(L.Layer):
    """Counts how often it is called in Python."""

    calls = 0

    def call(self, inputs):
        self.__dict__["calls"] = self.calls + 1
        return inputs


def network():
    inputs = keras.Input((8,))
    x = L.Dense(16, name="a")(Traced(name="traced")(inputs))
    x = L.ReLU()(L.BatchNormalization(momentum=0.5, name="norm")(x))
    x = L.Dense(16, activation="relu", name="b")(x)
    return keras.Model(inputs, L.Dense(3, name="head")(x))


def sparse(**compile_arguments):
    """Three sub-nets, each with its own random statistics."""
    model = sparsify(network(), SPARSITIES, initial="random")
    random = np.random.default_rng(0)
    for weight in model.get_layer("norm").variables:
        weight.assign(random.uniform(0.5, 1.5, weight.shape))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"], **compile_arguments)
    return model


def data(samples=12):
    x = np.random.default_rng(1).normal(size=(samples, 8)).astype("float32")
    return x, np.arange(samples) % 3


def outputs(model, subnet, x):
    """What sub-net `subnet` computes, by hand."""
    x = np.asarray(x, np.float64)
    a, norm, b, head = (model.get_layer(name) for name in ("a", "norm", "b", "head"))
    one, two = (layer.masks[0].subnets[subnet].read()[0].astype(float) for layer in (a, b))
    gamma, beta, mean, variance = (w.numpy()[subnet].astype(float) for w in norm.variables)
    x = (x @ one + a.bias.numpy() - mean) / np.sqrt(variance + norm.single.epsilon)
    x = np.maximum(np.maximum(x * gamma + beta, 0) @ two + b.bias.numpy(), 0)
    return x @ head.kernel.numpy() + head.bias.numpy()


def assert_runs(found, model, subnet):
    np.testing.assert_allclose(found, outputs(model, subnet, data()[0]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "sparsity, name",
    [
        (0, "subnet_0"),
        (0.9, "subnet_90"),
        (1 - 0.1 / 5, "subnet_98"),
        (0.875, "subnet_87_5"),
        (2 / 3, "subnet_66_7"),
        (0.999, "subnet_99_9"),
    ],
)
def test_names_are_identifiers(sparsity, name):
    assert subnet_name(sparsity) == name and name.isidentifier()


@pytest.mark.parametrize("subnet", [-1, 3, 1.0, True, None, "subnet_90", [0]])
def test_other_indices_are_refused(subnet):
    message = "`subnet` must be an integer of at least 0 and less than 3. Received: "
    model = sparse()
    with pytest.raises(ValueError, match=message):
        model.activate(subnet)
    assert model.active == 0


def test_contexts_nest_and_end():
    switch = SubnetSwitch(keras.Variable(2, dtype="int32"))
    with switch.at(0):
        with switch.at(1):
            assert int(switch.index) == 1
        assert int(switch.index) == 0
        with pytest.raises(RuntimeError), switch.at(1):
            raise RuntimeError
        assert int(switch.index) == 0
    assert int(switch.index) == 2


def test_a_model_names_its_sub_nets_and_has_one_switch():
    model = sparse()
    assert model.subnets == NAMES and model.active == 0
    switched = [x for x in model._flatten_layers() if hasattr(x, "switch") and x is not model]
    assert len(switched) == 3 and all(layer.switch is model.switch for layer in switched)
    # One integer more than weights, masks and statistics.
    assert [w.name for w in model.non_trainable_weights if w.dtype == "int32"] == ["active_subnet"]


def test_models_of_one_sub_net_and_of_none_have_no_switch():
    one, none = sparsify(network(), 0.9), wrap(network())
    assert one.subnets == ["subnet_90"] and none.subnets == []
    for model in (one, none):
        assert model.switch is None and model.active == 0
        assert not any("active" in weight.path for weight in model.weights)
        model.activate(0)
        with model.at(0):
            assert model(data()[0]).shape == (12, 3)
        with pytest.raises(ValueError, match="less than 1. Received: 1"):
            model.activate(1)


def test_masks_of_unequal_number_are_refused():
    inputs = keras.Input((8,))
    x = sparsify(network(), SPARSITIES, initial="random").get_layer("a")(inputs)
    one = sparsify(network(), 0.5).get_layer("b")
    with pytest.raises(
        ValueError, match=r"All masks must have the same number of sub-nets. Received: \[1, 3"
    ):
        SparseModel(inputs, one(x))


@pytest.mark.parametrize("subnet", range(3))
def test_the_active_sub_net_is_the_model(subnet):
    model = sparse()
    model.activate(subnet)
    assert model.active == subnet
    x, y = data()
    assert_runs(model(x), model, subnet)
    assert_runs(model.predict(x, verbose=0), model, subnet)
    expected = np.mean(outputs(model, subnet, x).argmax(axis=-1) == y)
    assert model.evaluate(x, y, verbose=0)[1] == pytest.approx(expected)


def test_a_context_chooses_without_activating():
    model = sparse()
    model.activate(2)
    with model.at(1):
        assert_runs(model(data()[0]), model, 1)
        assert model.active == 2
    assert_runs(model(data()[0]), model, 2)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_context_chooses_for_the_loops_of_keras_and_no_longer(compiled):
    model, (x, y) = sparse(), data(60)
    right = [np.mean(outputs(model, k, x).argmax(axis=-1) == y) for k in range(3)]
    assert len(set(right)) == 3
    if compiled:
        model.evaluate(x, y, verbose=0)
        model.predict(x, verbose=0)
    for subnet in (1, 2, 0):
        with model.at(subnet):
            assert model.evaluate(x, y, verbose=0)[1] == pytest.approx(right[subnet])
            assert model.test_on_batch(x, y)[1] == pytest.approx(right[subnet])
            assert_runs(model.predict(x[:12], verbose=0), model, subnet)
            assert_runs(model.predict_on_batch(x[:12]), model, subnet)
    assert model.active == 0
    model.activate(2)
    assert model.evaluate(x, y, verbose=0)[1] == pytest.approx(right[2])
    assert_runs(model.predict(x[:12], verbose=0), model, 2)


@pytest.mark.parametrize("train", ["fit", "train_on_batch"])
def test_a_context_chooses_what_is_trained(train):
    model, (x, y) = sparse(), data()
    before = [mask.kernel.numpy() for mask in find_masks(model)]
    with model.at(2):
        getattr(model, train)(x, y)
    for mask, was in zip(find_masks(model), before, strict=True):
        changed = mask.kernel.numpy() != was
        assert np.any(changed) and not np.any(changed & ~mask.subnets[2].read()[1])


def test_changing_the_sub_net_traces_nothing_anew():
    model, (x, y) = sparse(), data()
    call = tf.function(model)
    for run in (lambda: model.predict(x, verbose=0), lambda: model.evaluate(x, y, verbose=0)):
        run()
        call(x)
        traced = model.get_layer("traced").calls
        results = []
        for subnet in (1, 2, 0, 2):
            model.activate(subnet)
            results.append(run())
            assert_runs(call(x), model, subnet)
        assert model.get_layer("traced").calls == traced
        np.testing.assert_array_equal(results[1], results[3])
        assert np.any(results[0] != results[1]) and np.any(results[1] != results[2])
    assert call.experimental_get_tracing_count() == 1


def test_a_trace_may_take_the_sub_net_as_a_tensor():
    model, (x, _) = sparse(), data()

    @tf.function
    def call(subnet):
        with model.at(subnet):
            return model(x)

    for subnet in range(3):
        assert_runs(call(tf.constant(subnet)), model, subnet)
    assert call.experimental_get_tracing_count() == 1


def test_training_outside_a_callback_trains_the_active_sub_net():
    model, (x, y) = sparse(), data()
    model.activate(1)
    norm = model.get_layer("norm")
    before = [weight.numpy() for weight in norm.weights]
    kernels = [mask.read() for mask in find_masks(model)]
    model.fit(x, y, batch_size=4, verbose=0)
    for weight, old in zip(norm.weights, before, strict=True):
        assert (weight.numpy() != old).any(axis=1).tolist() == [False, True, False]
    for mask, (kernel, masks) in zip(find_masks(model), kernels, strict=True):
        moved = mask.kernel.numpy() != kernel
        assert moved.any() and not moved[~masks[1]].any()


def test_saved_and_loaded_bit_for_bit_with_the_active_sub_net(tmp_path):
    model, (x, y) = sparse(), data()
    model.activate(1)
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is SparseModel and type(loaded.get_layer("norm")) is (
        SwitchableBatchNormalization
    )
    assert loaded.subnets == NAMES and loaded.active == 1
    for one, two in zip(model.variables, loaded.variables, strict=True):
        assert one.path == two.path
        np.testing.assert_array_equal(one, two)
    for one, two in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one, two)
    for subnet in (2, 0, 1):
        for each in (model, loaded):
            each.activate(subnet)
        np.testing.assert_array_equal(model(x), loaded(x))
        assert_runs(loaded(x), model, subnet)
    for each in (model, loaded):
        each.train_on_batch(x, y)
    np.testing.assert_array_equal(model(x), loaded(x))


def test_weights_are_saved_and_loaded_with_the_active_sub_net(tmp_path):
    model, other = sparse(), sparsify(network(), SPARSITIES, seed=1, initial="random")
    model.activate(2)
    model.save_weights(tmp_path / "model.weights.h5")
    other.load_weights(tmp_path / "model.weights.h5")
    assert other.active == 2
    for one, two in zip(model.weights, other.weights, strict=True):
        np.testing.assert_array_equal(one, two)
    assert_runs(other(data()[0]), model, 2)


def test_config_goes_through_json():
    model = sparse()
    config = json.loads(json.dumps(model.get_config()))
    copy = SparseModel.from_config(config)
    assert copy.subnets == NAMES and copy.switch is not model.switch
    copy.set_weights(model.get_weights())
    with copy.at(2):
        assert_runs(copy(data()[0]), model, 2)


def test_a_saved_model_serves_the_active_sub_net(tmp_path):
    model, (x, _) = sparse(), data()
    for subnet in (2, 1):
        model.activate(subnet)
        model.export(tmp_path / str(subnet), verbose=False)
        saved = tf.saved_model.load(tmp_path / str(subnet))
        assert_runs(saved.serve(x), model, subnet)
