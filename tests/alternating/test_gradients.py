"""Catching the gradients of Keras' own train step."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from spfde_keras.alternating.gradients import intercepted


@pytest.fixture
def data():
    return np.float32([[1, 2], [3, 4]]), np.float32([[1], [2]])


def make_model(optimizer):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(optimizer, "mse", run_eagerly=True)
    return model


def test_it_receives_the_gradients_of_the_train_step_and_the_optimizers_own_way(data):
    model = make_model(keras.optimizers.SGD(0.5))
    kernel, bias = model.trainable_variables
    before = kernel.numpy()
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(data[0]) - data[1]) ** 2)
    expected = tape.gradient(loss, [kernel.value, bias.value])
    received = []

    def receive(pairs, apply):
        received.extend(pairs)
        apply([(2 * gradient, variable) for gradient, variable in pairs])

    with intercepted(model.optimizer, receive):
        model.train_step(tuple(map(tf.constant, data)))
    assert [variable for _, variable in received] == [kernel, bias]
    for (gradient, _), value in zip(received, expected, strict=True):
        np.testing.assert_allclose(gradient, value, rtol=1e-6)
    np.testing.assert_allclose(kernel.numpy(), before - 0.5 * 2 * expected[0], rtol=1e-5)
    assert model.optimizer.iterations.numpy() == 1


def test_gradients_that_are_kept_back_change_nothing(data):
    model = make_model(keras.optimizers.SGD(0.5))
    before = model.get_weights()
    with intercepted(model.optimizer, lambda pairs, apply: None):
        model.train_step(tuple(map(tf.constant, data)))
    for value, weight in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(value, weight)
    assert model.optimizer.iterations.numpy() == 0


@pytest.mark.parametrize("scaled", [False, True])
def test_the_optimizer_is_the_users_own_again_behind_it(scaled):
    optimizer = keras.optimizers.Adam(0.1)
    if scaled:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    config, saved = optimizer.get_config(), keras.saving.serialize_keras_object(optimizer)
    with pytest.raises(KeyboardInterrupt), intercepted(optimizer, None):
        assert "apply_gradients" in vars(optimizer)
        raise KeyboardInterrupt
    assert "apply_gradients" not in vars(optimizer)
    assert optimizer.get_config() == config
    assert keras.saving.serialize_keras_object(optimizer) == saved
