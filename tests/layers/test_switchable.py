"""Sub-nets' batch normalizations against `keras.layers.BatchNormalization`, one for each."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from spfde_keras.layers.switchable import SwitchableBatchNormalization
from spfde_keras.subnets import SubnetSwitch

SUBNETS, SHAPE = 3, (6, 5, 4, 3)


def inputs_of(shape, seed=0, dtype="float32"):
    random = np.random.default_rng(seed)
    return tf.constant(random.normal(0.7, 2.0, shape), dtype)


def switchable(subnets=SUBNETS, index=0, **kwargs):
    layer = SwitchableBatchNormalization(
        subnets, keras.layers.BatchNormalization(**kwargs).get_config()
    )
    layer.switch = SubnetSwitch(keras.Variable(index, dtype="int32"))
    return layer


def pair(shape=SHAPE, index=1, **kwargs):
    """A layer whose sets all differ, and Keras' own with the set of sub-net `index`."""
    layer, plain = switchable(index=index, **kwargs), keras.layers.BatchNormalization(**kwargs)
    random = np.random.default_rng(1)
    for each in (layer, plain):
        each.build(shape)
    for stacked, variable in zip(layer.variables, plain.variables, strict=True):
        assert stacked.shape == (SUBNETS, *variable.shape) and stacked.name == variable.name
        assert stacked.dtype == variable.dtype
        stacked.assign(random.uniform(0.5, 1.5, stacked.shape))
        variable.assign(stacked[index])
    return layer, plain


def step(layer, x, seed, training=True, **call):
    """One step of SGD; returns the outputs and the gradients."""
    upstream = inputs_of(x.shape, seed, x.dtype)
    variables = layer.trainable_variables
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=training, **call)
        # A product with y makes second-order terms of the statistics matter.
        loss = tf.reduce_mean(tf.cast(y * upstream * tf.cast(y, x.dtype), "float32"))
    gradients = tape.gradient(loss, [x, *(variable.value for variable in variables)])
    for variable, gradient in zip(variables, gradients[1:], strict=True):
        variable.assign_sub(0.1 * gradient)
    return y.numpy(), [gradient.numpy() for gradient in gradients]


def assert_trains_like_keras(x, index=1, tolerance=1e-5, call=None, **kwargs):
    layer, plain = pair(x.shape, index, **kwargs)
    others = np.arange(SUBNETS) != index
    before = [variable.numpy() for variable in layer.variables]
    for seed in range(2, 5):
        y, (dx, *found) = step(layer, x, seed, **(call or {}))
        expected_y, (expected_dx, *expected) = step(plain, x, seed, **(call or {}))
        assert y.dtype == expected_y.dtype
        np.testing.assert_allclose(y, expected_y, rtol=tolerance, atol=10 * tolerance)
        np.testing.assert_allclose(dx, expected_dx, rtol=tolerance, atol=tolerance)
        for gradient, other in zip(found, expected, strict=True):
            assert not gradient[others].any() and other.any()
            np.testing.assert_allclose(gradient[index], other, rtol=tolerance, atol=tolerance)
    for stacked, variable, old in zip(layer.variables, plain.variables, before, strict=True):
        np.testing.assert_allclose(stacked[index], variable, rtol=tolerance, atol=tolerance)
        assert np.any(stacked.numpy()[index] != old[index]), "the set did not train"
        np.testing.assert_array_equal(stacked.numpy()[others], old[others])


@pytest.mark.parametrize("index", range(SUBNETS))
def test_the_set_of_each_sub_net_trains_like_keras_and_the_others_rest(index):
    assert_trains_like_keras(inputs_of(SHAPE), index)


@pytest.mark.parametrize("shape", [(8, 3), (4, 6, 3), (2, 3, 4, 2, 3)], ids=str)
def test_inputs_of_other_ranks(shape):
    assert_trains_like_keras(inputs_of(shape))


@pytest.mark.parametrize(
    "kwargs",
    [
        {"axis": 1},
        {"scale": False},
        {"center": False},
        {"scale": False, "center": False},
        {"momentum": 0.5},
        {"epsilon": 1e-6},
        {"renorm": True},
    ],
    ids=str,
)
def test_configurations_of_keras(kwargs):
    assert_trains_like_keras(inputs_of(SHAPE), **kwargs)


def test_regularizers_and_constraints_are_those_of_the_sub_net():
    kwargs = {"gamma_regularizer": keras.regularizers.L2(0.5), "beta_constraint": "unit_norm"}
    x = inputs_of(SHAPE)
    for index in range(SUBNETS):
        layers = pair(index=index, **kwargs)
        before = layers[0].variables[0].numpy()
        losses = []
        for layer in layers:
            with tf.GradientTape() as tape:
                layer(x)
                losses.append(sum(layer.losses))
            gamma, beta = layer.trainable_variables
            gamma.assign_sub(0.1 * tape.gradient(losses[-1], gamma.value))
            beta.assign(beta.constraint(beta.value))
        np.testing.assert_allclose(*losses, rtol=1e-6)
        for stacked, variable in zip(layers[0].variables, layers[1].variables, strict=True):
            np.testing.assert_allclose(stacked[index], variable, rtol=1e-6)
        moved = (layers[0].variables[0].numpy() != before).any(axis=1)
        assert np.flatnonzero(moved).tolist() == [index]


def test_a_mask_of_the_inputs():
    mask = inputs_of(SHAPE[:-1], seed=3) > 0
    assert_trains_like_keras(inputs_of(SHAPE), call={"mask": mask})


def test_a_mask_passes_through():
    inputs = keras.Input((4, 3))
    x = keras.layers.Masking()(inputs)
    layers = switchable(), keras.layers.BatchNormalization()
    outputs = [layer(x) for layer in layers]
    sums = [keras.layers.GlobalAveragePooling1D()(output) for output in outputs]
    model = keras.Model(inputs, sums)
    x = inputs_of((5, 4, 3)).numpy()
    x[:, 2:] = 0  # masked steps, which neither layer may look at
    found, expected = model(x, training=True)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    for stacked, variable in zip(layers[0].variables, layers[1].variables, strict=True):
        np.testing.assert_allclose(stacked[0], variable, rtol=1e-5)


def test_mixed_precision_keeps_single_precision_sets():
    x = inputs_of(SHAPE, dtype="float16")
    assert_trains_like_keras(x, tolerance=4e-3, dtype="mixed_float16")
    layer, _ = pair(dtype="mixed_float16")
    assert {variable.dtype for variable in layer.variables} == {"float32"}
    assert layer(x).dtype == "float16"


@pytest.mark.parametrize("index", range(SUBNETS))
def test_inference_uses_the_moving_statistics_of_the_sub_net(index):
    layer, plain = pair(index=index)
    before = [variable.numpy() for variable in layer.variables]
    x = inputs_of(SHAPE)
    for training in (False, None):
        np.testing.assert_allclose(
            layer(x, training=training), plain(x, training=training), rtol=1e-5, atol=1e-5
        )
    for variable, old in zip(layer.variables, before, strict=True):
        np.testing.assert_array_equal(variable, old)


def test_a_frozen_layer_is_in_inference_until_it_is_thawed():
    layer, plain = pair()
    x = inputs_of(SHAPE)
    layer.trainable = plain.trainable = False
    before = [variable.numpy() for variable in layer.variables]
    y, (dx,) = step(layer, x, seed=2)
    expected, (expected_dx,) = step(plain, x, seed=2)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dx, expected_dx, rtol=1e-5, atol=1e-5)
    for variable, old in zip(layer.variables, before, strict=True):
        np.testing.assert_array_equal(variable, old)

    layer.trainable = plain.trainable = True
    np.testing.assert_allclose(
        step(layer, x, seed=2)[0], step(plain, x, seed=2)[0], rtol=1e-5, atol=1e-5
    )
    for stacked, variable in zip(layer.variables, plain.variables, strict=True):
        np.testing.assert_allclose(stacked[1], variable, rtol=1e-5)


def test_one_trace_serves_all_sub_nets():
    layer, _ = pair()
    x = inputs_of(SHAPE)
    call = tf.function(lambda: layer(x, training=True))
    for index in (2, 0, 1):
        layer.switch.active.assign(index)
        before = [variable.numpy() for variable in layer.variables]
        _, plain = pair(index=index)
        np.testing.assert_allclose(call(), plain(x, training=True), rtol=1e-5, atol=1e-5)
        changed = [
            (variable.numpy() != old).any(axis=1)
            for variable, old in zip(layer.variables, before, strict=True)
        ]
        assert np.argwhere(np.any(changed, axis=0)).ravel().tolist() == [index]
    assert call.experimental_get_tracing_count() == 1


def test_a_step_may_choose_the_sub_net_by_a_tensor():
    layer, _ = pair(index=0)

    @tf.function
    def call(x, index):
        with layer.switch.at(index):
            return layer(x)

    x = inputs_of(SHAPE)
    for index in range(SUBNETS):
        _, plain = pair(index=index)
        np.testing.assert_allclose(call(x, tf.constant(index)), plain(x), rtol=1e-5, atol=1e-5)
    assert call.experimental_get_tracing_count() == 1


def test_without_a_switch_the_first_set_is_in_use():
    layer, plain = pair(index=0)
    layer.switch = None
    x = inputs_of(SHAPE)
    np.testing.assert_allclose(layer(x), plain(x), rtol=1e-5, atol=1e-5)


def test_its_weights_are_those_of_k_layers_and_start_as_keras_does():
    plain = keras.layers.BatchNormalization(gamma_initializer=keras.initializers.Constant(0.5))
    layer = SwitchableBatchNormalization(SUBNETS, plain.get_config())
    for each in (layer, plain):
        each.build(SHAPE)
    assert layer.count_params() == SUBNETS * plain.count_params()
    assert len(layer.variables) == len({id(variable) for variable in layer.variables}) == 4
    assert [w.path for w in layer.trainable_weights] == [w.path for w in plain.trainable_weights]
    for stacked, variable in zip(layer.variables, plain.variables, strict=True):
        np.testing.assert_array_equal(stacked, np.stack([variable.numpy()] * SUBNETS))
    assert layer.compute_output_shape(SHAPE) == SHAPE


@pytest.mark.parametrize("trainable", [True, False])
def test_config_goes_through_json_and_makes_an_equal_layer(trainable):
    layer, _ = pair(momentum=0.9, center=False, name="norm")
    layer.trainable = trainable
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    copy = keras.saving.deserialize_keras_object(config)
    assert copy.get_config() == layer.get_config()
    assert (copy.name, copy.subnets, copy.trainable) == ("norm", SUBNETS, trainable)
    copy.switch = layer.switch
    copy.set_weights(layer.get_weights())
    x = inputs_of(SHAPE)
    np.testing.assert_array_equal(copy(x, training=True), layer(x, training=True))


def test_saved_and_loaded_bit_for_bit(tmp_path):
    model = keras.Sequential([keras.Input(SHAPE[1:]), switchable(name="norm")])
    random = np.random.default_rng(1)
    for variable in model.variables:
        variable.assign(random.uniform(0.5, 1.5, variable.shape))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.layers[0]) is SwitchableBatchNormalization
    for one, two in zip(model.variables, loaded.variables, strict=True):
        assert one.name == two.name
        np.testing.assert_array_equal(one, two)
    x = inputs_of(SHAPE)
    np.testing.assert_array_equal(model(x), loaded(x))
