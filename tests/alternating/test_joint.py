"""Joint training: every step by the mean of all sub-nets."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from spfde_keras import AlternatingSparseTraining, DataSieve, sparsify
from spfde_keras.alternating import JointSparseTraining
from spfde_keras.cost import profile
from spfde_keras.masking import find_masks
from tests.alternating.runs import fit, make_data, make_model, masks_of, normalizations


def mean_gradients(model, x, y):
    """The mean of the gradients at each sub-net, each on its own tape."""
    total = None
    for subnet in range(3):
        model.activate(subnet)
        with tf.GradientTape() as tape:
            outputs = model(x, training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, outputs)
            loss = tf.reduce_mean(losses) + sum(model.losses)
        gradients = tape.gradient(
            loss, [v.value for v in model.trainable_variables], unconnected_gradients="zero"
        )
        gradients = [gradient.numpy() / 3 for gradient in gradients]
        total = gradients if total is None else list(map(np.add, total, gradients))
    model.activate(0)
    return total


@pytest.mark.parametrize("scaled", [False, True])
def test_a_step_goes_by_the_mean_of_the_sub_nets_gradients(scaled):
    optimizer = keras.optimizers.SGD(0.5)
    if scaled:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=8.0)
    model, reference = (
        make_model(optimizer=one, initial="random")
        for one in (optimizer, keras.optimizers.SGD(0.5))
    )
    reference.set_weights(model.get_weights())
    data = x, y = make_data(8)
    before = [variable.numpy() for variable in model.trainable_variables]
    expected = mean_gradients(reference, x, y)
    fit(model, data, JointSparseTraining(1, updater="static"))
    for old, gradient, new in zip(before, expected, model.trainable_variables, strict=True):
        np.testing.assert_allclose(new.numpy(), old - 0.5 * gradient, atol=2e-6)
    assert int(model.optimizer.iterations.numpy()) == 1
    # The statistics of each sub-net have been updated once, too.
    for one, other in zip(normalizations(model), normalizations(reference), strict=True):
        for variable, value in zip(one.variables[2:], other.variables[2:], strict=True):
            np.testing.assert_allclose(variable.numpy(), value.numpy(), atol=1e-6)


def test_losses_of_layers_count_once_for_each_sub_net():
    """What regularizes a weight itself is the same in each of them, and so in the average."""
    plain = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(16, activity_regularizer=keras.regularizers.L2(0.1)),
            keras.layers.Dense(3, kernel_regularizer=keras.regularizers.L2(0.1)),
        ]
    )
    models = [sparsify(plain, sparsity=[0.25, 0.5, 0.75], initial="random") for _ in range(2)]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for model in models:
        model.compile(keras.optimizers.SGD(0.5), loss)
    model, reference = models
    data = make_data(8)
    expected = mean_gradients(reference, *data)
    fit(model, data, JointSparseTraining(1, updater="static"))
    for old, gradient, new in zip(
        reference.trainable_variables, expected, model.trainable_variables, strict=True
    ):
        np.testing.assert_allclose(new.numpy(), old.numpy() - 0.5 * gradient, atol=2e-6)


def test_each_batch_is_one_step_of_the_optimizer():
    model = make_model(compiled={"steps_per_execution": 2})
    fit(model, make_data(), JointSparseTraining(3, updater="static"))
    assert int(model.optimizer.iterations.numpy()) == 18


def test_a_step_is_booked_once_for_each_sub_net():
    flops = {}
    for kind in (AlternatingSparseTraining, JointSparseTraining):
        callback = kind(2, updater="static", interval=1)
        model = make_model()
        history = fit(model, make_data(), callback)
        flops[kind] = callback.training_flops
        assert callback.planned_cost(48, 8).total == pytest.approx(callback.training_flops)
        assert callback.dense_training_flops == 2 * 48 * profile(model).training({})
        assert history["active_samples"] == [48, 48]
    assert flops[JointSparseTraining] == pytest.approx(3 * flops[AlternatingSparseTraining])


def test_it_prunes_corrects_nothing_and_keeps_the_counts():
    model = make_model()
    callback = JointSparseTraining(4, updater="prune_and_regrow", interval=1)
    history = fit(model, make_data(), callback)
    assert history["gradient_corrections"] == [0] * 4
    assert history["loss"][-1] < history["loss"][0]
    for masks, mask in zip(masks_of(model), find_masks(model), strict=True):
        counts = [subnet.count(1 - subnet.sparsity) for subnet in mask.subnets]
        assert [one.sum() for one in masks] == counts
        assert not mask.read()[0][~masks.any(axis=0)].any()


def test_it_sieves():
    sieve = DataSieve(make_data(), fraction=0.25)
    history = fit(make_model(), sieve.batches(8), JointSparseTraining(2, sieve=sieve, interval=1))
    assert history["active_samples"] == [36, 36]


def test_a_visit_is_counted_once():
    """Right in one sub-net and wrong in the next is nothing forgotten."""
    sieve = DataSieve(make_data(), fraction=0.25)
    callback = JointSparseTraining(1, updater="static", sieve=sieve, interval=1)
    fit(make_model(initial="random"), sieve.batches(8), callback)
    assert sieve.forgets.numpy().max() == 0


def test_it_has_no_correction_to_be_chosen():
    with pytest.raises(TypeError, match="gradient_correction"):
        JointSparseTraining(2, gradient_correction=True)
