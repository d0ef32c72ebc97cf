"""Every optimizer of Keras: rates by block, and slots of weights that start over."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from spfde_keras import sparsify
from spfde_keras.freezing.learning_rate import BlockwiseLearningRate, inner_optimizer, reset_slots
from spfde_keras.masking import find_masks

OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.05),
    "momentum": lambda: keras.optimizers.SGD(0.05, momentum=0.9, weight_decay=0.01),
    "nesterov": lambda: keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "adam": lambda: keras.optimizers.Adam(0.01, amsgrad=True),
    "adamw": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1),
    "adamax": lambda: keras.optimizers.Adamax(0.01, weight_decay=0.1),
    "nadam": lambda: keras.optimizers.Nadam(0.01, weight_decay=0.1),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.01, momentum=0.9, centered=True),
    "adagrad": lambda: keras.optimizers.Adagrad(0.05, weight_decay=0.1),
    "adadelta": lambda: keras.optimizers.Adadelta(1.0, weight_decay=0.1),
    "lion": lambda: keras.optimizers.Lion(0.001, weight_decay=0.1),
    "ftrl": lambda: keras.optimizers.Ftrl(0.05, l1_regularization_strength=0.001),
    # With the default of 1e-30 a row and a column without gradients make Keras divide 0 by 0.
    "adafactor": lambda: keras.optimizers.Adafactor(0.01, epsilon_1=1e-16, weight_decay=0.1),
    "lamb": lambda: keras.optimizers.Lamb(0.01, weight_decay=0.1),
    "schedule_free": lambda: keras.optimizers.ScheduleFreeAdamW(0.01, weight_decay=0.1),
    "ema": lambda: keras.optimizers.SGD(
        0.05, momentum=0.9, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=10
    ),
    "accumulating": lambda: keras.optimizers.Adam(0.01, gradient_accumulation_steps=3),
    "loss_scale": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.AdamW(0.01, weight_decay=0.1)
    ),
    "muon": lambda: keras.optimizers.Muon(0.01, weight_decay=0.1, exclude_layers=["^b$"]),
}


def variables():
    return [
        keras.Variable(np.array([[1.0, -2.0], [3.0, 4.0]], np.float32), name="a"),
        keras.Variable(np.array([[0.5, 1.5], [-2.5, 1.0]], np.float32), name="b"),
    ]


GRADIENTS = [tf.constant([[0.3, -0.1], [0.2, 0.5]]), tf.constant([[-0.4, 0.2], [0.1, 0.6]])]


def train(optimizer, weights, factors=None, steps=3):
    """Applies the same gradients `steps` times in a graph; returns the weights."""
    optimizer.build(weights)

    @tf.function
    def step():
        optimizer.apply(list(GRADIENTS), weights)

    if factors is None:
        for _ in range(steps):
            step()
    else:
        with BlockwiseLearningRate(optimizer, [[weight] for weight in weights]) as rate:
            rate.assign(factors)
            for _ in range(steps):
                step()
    return [weight.numpy() for weight in weights]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_factor_1_is_the_plain_optimizer(name):
    plain = train(OPTIMIZERS[name](), variables())
    scaled = train(OPTIMIZERS[name](), variables(), factors=[1.0, 1.0])
    for one, other in zip(plain, scaled, strict=True):
        np.testing.assert_array_equal(one, other)


# Ftrl divides by its learning rate, ScheduleFreeAdamW recomputes the weights from an average.
@pytest.mark.parametrize("name", sorted(set(OPTIMIZERS) - {"ftrl", "schedule_free"}))
def test_factor_0_leaves_weights_bit_equal(name):
    before = variables()
    after = train(OPTIMIZERS[name](), variables(), factors=[0.0, 1.0])
    np.testing.assert_array_equal(after[0], before[0].numpy())
    assert (after[1] != before[1].numpy()).any()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_factor_is_a_smaller_learning_rate(name):
    """As far as one variable goes: the other keeps the optimizer's rate."""
    optimizer = OPTIMIZERS[name]()
    after = train(optimizer, variables(), factors=[0.5, 1.0])
    slow = OPTIMIZERS[name]()
    slow.learning_rate = 0.5 * slow.learning_rate
    np.testing.assert_allclose(after[0], train(slow, variables())[0], rtol=1e-6)
    np.testing.assert_allclose(after[1], train(OPTIMIZERS[name](), variables())[1], rtol=1e-6)


def test_half_the_rate_of_sgd_by_hand():
    weights = train(keras.optimizers.SGD(1.0), variables(), factors=[0.5, 1.0], steps=1)
    np.testing.assert_allclose(weights[0], [[0.85, -1.95], [2.9, 3.75]])
    np.testing.assert_allclose(weights[1], [[0.9, 1.3], [-2.6, 0.4]], rtol=1e-6)


def test_half_the_rate_of_sgd_with_momentum_by_hand():
    """Velocity -0.05 g, then 0.9 times that less 0.05 g: 0.145 g in two steps."""
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    weights = train(optimizer, variables(), factors=[0.5, 1.0], steps=2)
    np.testing.assert_allclose(
        weights[0], variables()[0].numpy() - 0.145 * GRADIENTS[0].numpy(), rtol=1e-6
    )


def test_decoupled_decay_is_scaled_and_exclusions_hold():
    """Without gradient AdamW only decays: by 0.5 * 0.1 * 0.5 = 2.5 %."""
    weights = variables()
    optimizer = keras.optimizers.AdamW(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["b"])
    optimizer.build(weights)
    with BlockwiseLearningRate(optimizer, [weights]) as rate:
        rate.assign([0.5])
        optimizer.apply([tf.zeros((2, 2))] * 2, weights)
    np.testing.assert_allclose(weights[0].numpy(), 0.975 * variables()[0].numpy(), rtol=1e-6)
    np.testing.assert_array_equal(weights[1].numpy(), variables()[1].numpy())


def test_a_schedule_of_the_optimizer_is_multiplied():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0], [1.0, 0.1])
    weights = train(keras.optimizers.SGD(schedule), variables(), factors=[0.5, 1.0], steps=2)
    # 0.5 * 1.0 and 0.5 * 0.1 times the gradient.
    np.testing.assert_allclose(
        weights[0], variables()[0].numpy() - 0.55 * GRADIENTS[0].numpy(), rtol=1e-6
    )


def test_factors_change_between_steps_without_compiling_anew():
    weights, traces = variables(), []
    optimizer = keras.optimizers.SGD(1.0)
    optimizer.build(weights)

    @tf.function
    def step():
        traces.append(1)
        optimizer.apply(list(GRADIENTS), weights)

    with BlockwiseLearningRate(optimizer, [[weights[0]], [weights[1]]]) as rate:
        for factors in ([1.0, 0.0], [0.25, 0.5]):
            rate.assign(factors)
            step()
    assert len(traces) == 1
    np.testing.assert_allclose(
        weights[0].numpy(), variables()[0].numpy() - 1.25 * GRADIENTS[0].numpy(), rtol=1e-6
    )


def test_variables_of_no_block_keep_the_rate():
    weights = variables()
    optimizer = keras.optimizers.SGD(1.0)
    optimizer.build(weights)
    with BlockwiseLearningRate(optimizer, [[weights[0]]]) as rate:
        rate.assign([0.0])
        optimizer.apply(list(GRADIENTS), weights)
    np.testing.assert_array_equal(weights[0].numpy(), variables()[0].numpy())
    np.testing.assert_allclose(
        weights[1].numpy(), variables()[1].numpy() - GRADIENTS[1].numpy(), rtol=1e-6
    )


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_optimizer_is_its_own_again_after_exit(name):
    optimizer = OPTIMIZERS[name]()
    kind, weights = type(optimizer), variables()
    optimizer.build(weights)
    attributes = set(vars(inner_optimizer(optimizer)))
    with BlockwiseLearningRate(optimizer, [weights]) as rate:
        rate.assign([0.5])
        optimizer.apply(list(GRADIENTS), weights)
        assert type(optimizer) is kind
        inside = keras.saving.serialize_keras_object(optimizer)
    added = set(vars(inner_optimizer(optimizer))) - attributes
    assert not added - {"_exclude_from_weight_decay_cache"}
    config = keras.saving.serialize_keras_object(optimizer)
    assert config == inside
    assert type(keras.saving.deserialize_keras_object(config)) is kind


def test_entering_again_does_not_scale_twice():
    weights = variables()
    optimizer = keras.optimizers.SGD(1.0)
    optimizer.build(weights)
    outer = BlockwiseLearningRate(optimizer, [weights])
    with outer:
        outer.assign([0.25])
        with BlockwiseLearningRate(optimizer, [weights]) as inner:
            inner.assign([0.5])
            optimizer.apply(list(GRADIENTS), weights)
    np.testing.assert_allclose(
        weights[0].numpy(), variables()[0].numpy() - 0.5 * GRADIENTS[0].numpy(), rtol=1e-6
    )
    assert "update_step" not in vars(optimizer)


def test_an_error_inside_leaves_the_optimizer_as_it_was():
    weights = variables()
    optimizer = keras.optimizers.SGD(1.0)
    optimizer.build(weights)
    with pytest.raises(RuntimeError), BlockwiseLearningRate(optimizer, [weights]):
        raise RuntimeError
    assert "update_step" not in vars(optimizer)


def test_an_optimizer_made_of_several_is_refused():
    several = keras.optimizers.MultiOptimizer({"a": keras.optimizers.SGD()})
    with pytest.raises(ValueError, match="MultiOptimizer"):
        inner_optimizer(several)


def sparse_mlp():
    layers = keras.layers
    mlp = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(12, activation="relu"),
            layers.Dense(12, activation="relu"),
            layers.Dense(3),
        ]
    )
    return sparsify(mlp, sparsity=0.75, seed=0)


def fit(model, steps):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((16, 8)).astype(np.float32)
    y = rng.integers(0, 3, 16)
    model.fit(tf.data.Dataset.from_tensors((x, y)).repeat(steps), shuffle=False, verbose=0)


def compiled_mlp(optimizer, **kwargs):
    model = sparse_mlp()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, **kwargs)
    # Keras compiles a step that makes variables twice.
    optimizer.build(model.trainable_variables)
    return model


def follows(slot, kernel):
    """Whether an optimizer's variable is a slot of `kernel`, and of its shape."""
    return kernel.path.replace("/", "_") in slot.path and slot.shape == kernel.shape


@pytest.mark.parametrize("name", sorted(set(OPTIMIZERS) - {"sgd"}))
def test_slots_start_anew_where_fresh_and_stay_elsewhere(name):
    optimizer = OPTIMIZERS[name]()
    model = compiled_mlp(optimizer, run_eagerly=True)
    fit(model, steps=4)
    mask = find_masks(model)[1]
    fresh = np.random.default_rng(1).random(mask.layout.shape) < 0.3
    before = [variable.numpy() for variable in optimizer.variables]
    reset_slots(optimizer, mask, fresh)

    slots = [follows(variable, mask.kernel) for variable in optimizer.variables]
    assert any(slots)
    for variable, old, slot in zip(optimizer.variables, before, slots, strict=True):
        new = variable.numpy()
        if slot:
            # These two divide by what they have accumulated, so they begin above zero.
            first = 0.1 if name in ("adagrad", "ftrl") and "accumulator" in variable.path else 0
            np.testing.assert_array_equal(new[fresh], np.float32(first))
            np.testing.assert_array_equal(new[~fresh], old[~fresh])
        else:
            np.testing.assert_array_equal(new, old)


def test_slots_that_start_anew_are_those_of_a_new_optimizer():
    for name in sorted(set(OPTIMIZERS) - {"sgd", "schedule_free"}):
        optimizer = OPTIMIZERS[name]()
        model = compiled_mlp(optimizer)
        mask = find_masks(model)[1]
        before = [variable.numpy() for variable in optimizer.variables]
        reset_slots(optimizer, mask, np.ones(mask.layout.shape, bool))
        for variable, old in zip(optimizer.variables, before, strict=True):
            if follows(variable, mask.kernel) and "average" not in variable.path:
                np.testing.assert_array_equal(variable.numpy(), old)


@pytest.mark.parametrize("name", sorted(set(OPTIMIZERS) - {"muon"}))
def test_zeros_stay_zero(name):
    """In 100 steps with weight decay, and 30 more after weights were dropped and grown."""
    optimizer = OPTIMIZERS[name]()
    model = compiled_mlp(optimizer)
    fit(model, steps=100)
    for mask in find_masks(model):
        kernel, masks = mask.read()
        assert np.isfinite(kernel).all() and kernel[masks[0]].any()
        assert not kernel[~masks[0]].any()
        small = np.abs(kernel) <= np.median(np.abs(kernel[masks[0]]))
        changed = (masks[0] & small) | (np.random.default_rng(0).random(kernel.shape) < 0.1)
        mask.write(np.where(changed, 0, kernel), masks ^ changed)
        reset_slots(optimizer, mask, changed)
    fit(model, steps=30)
    for mask in find_masks(model):
        kernel, masks = mask.read()
        assert np.isfinite(kernel).all()
        assert not kernel[~masks[0]].any()


def test_muon_moves_masked_weights_which_the_mask_hides():
    """Muon turns the whole momentum matrix: no update of it is zero where a mask drops."""
    model = compiled_mlp(keras.optimizers.Muon(0.01))
    fit(model, steps=3)
    x = np.random.default_rng(2).standard_normal((4, 8)).astype(np.float32)
    y = model.predict(x, verbose=0)
    for mask in find_masks(model):
        kernel, masks = mask.read()
        assert kernel[~masks[0]].any()
        mask.write(kernel, masks)
        assert not mask.read()[0][~masks[0]].any()
    np.testing.assert_array_equal(model.predict(x, verbose=0), y)
