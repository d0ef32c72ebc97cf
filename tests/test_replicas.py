"""What there is of replicas with one of them; tests/replicas has several."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from spfde_keras import SpFDE, sparsify
from spfde_keras.replicas import (
    ALONE,
    Replicas,
    _shares,
    index_here,
    never_empty,
    of_too_small,
    outside_scopes,
)
from tests.mlps import data, mlp

ONE = tf.distribute.MirroredStrategy(["CPU:0"])


def test_alone():
    assert (ALONE.count, ALONE.here, ALONE.workers, ALONE.worker, ALONE.chief) == (1, 1, 1, 0, True)
    with ONE.scope():
        assert mlp().replicas.strategy is ONE
    assert mlp().replicas == ALONE
    assert index_here() == 0
    assert ALONE.summed(np.array([1, 2])).tolist() == [1, 2]
    ALONE.check_same(lambda: {"a": np.zeros(2)})


def test_variables_can_be_made_outside_of_all_scopes():
    with ONE.scope():
        assert isinstance(outside_scopes(lambda: tf.Variable(1.0)), tf.Variable)
        assert not isinstance(
            outside_scopes(lambda: tf.Variable(1.0)), tf.distribute.DistributedValues
        )
        assert isinstance(tf.Variable(1.0), tf.distribute.DistributedValues)


def test_a_model_made_in_a_scope_of_one_device_trains_like_any_other():
    found = []
    for strategy in (ALONE.strategy, ONE):
        keras.utils.set_random_seed(0)
        with strategy.scope():
            model = mlp()
        x, y = data(20)
        model.fit(x, y, epochs=3, verbose=0, callbacks=[SpFDE(3, "rigl", interval=1)])
        found.append([weight.numpy() for weight in model.weights])
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_call_never_gets_an_empty_batch():
    seen = []

    def call(x):
        seen.append(len(x))
        return {"double": 2 * x}

    assert never_empty(call, tf.zeros((0, 2)))["double"].shape == (0, 2)
    assert never_empty(call, tf.ones((3, 2)))["double"].shape == (3, 2)
    assert seen == [1, 3]


def test_losses_of_what_it_gives_are_exact():
    logits, y = tf.constant([[300.0, -300], [-500, 500]]), tf.constant([1, 1])
    probabilities = never_empty(keras.ops.softmax, logits)
    loss = keras.losses.sparse_categorical_crossentropy(y, probabilities)
    assert loss.numpy().tolist() == [600, 0]


def test_a_batch_without_a_sample_for_each_device_is_one_line():
    x, y = map(tf.constant, data(2))
    assert [len(share[0]) for share in _shares((x, y), range(2), 2, True)] == [1, 1]
    assert [len(share[0]) for share in _shares((x, y), range(3), 3, False)] == [0, 1, 1]
    with pytest.raises(tf.errors.InvalidArgumentError) as raised:
        list(tf.data.Dataset.from_tensors(x).flat_map(lambda x: _shares(x, range(3), 3, True)))
    assert str(of_too_small(raised.value)) == (
        "Each batch must have a sample for each of the 3 devices: drop or enlarge the smaller "
        "ones. Received: one of 2"
    )
    assert of_too_small(ValueError("anything else")) is None


def test_keras_distribution_is_refused(monkeypatch):
    distribution = keras.distribution.DataParallel(devices=["cpu:0"])
    monkeypatch.setattr(keras.distribution, "distribution", lambda: distribution)
    x, y = data()
    with pytest.raises(ValueError, match="keras.distribution distributes nothing.*DataParallel"):
        mlp().fit(x, y, verbose=0)


def test_a_model_made_outside_is_not_trained_on_one_device_in_silence():
    model = mlp()
    x, y = data()
    with ONE.scope(), pytest.raises(ValueError, match="The model must be made .*in the scope"):
        model.fit(x, y, verbose=0)


def test_strategies_that_were_not_tried_are_refused(monkeypatch):
    model = mlp()

    class Untried:
        num_replicas_in_sync = 2

        class extended:  # noqa: N801
            worker_devices = ("a", "b")

    monkeypatch.setattr(type(model), "replicas", Replicas(Untried()))
    x, y = data()
    with pytest.raises(ValueError, match="Several devices need a .*Received: Untried"):
        model.fit(x, y, verbose=0)


def test_sparsify_keeps_to_the_scope():
    with ONE.scope():
        model = sparsify(
            keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)]), 0.5, dense=()
        )
    kernel = model.layers[-1].kernel.value
    assert isinstance(kernel, tf.distribute.DistributedValues)
