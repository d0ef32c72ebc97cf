"""Which sub-net a step trains, with which gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from spfde_keras import AlternatingSparseTraining, sparsify
from spfde_keras.alternating import Alternation
from spfde_keras.masking import find_masks
from tests.alternating.runs import EachStep, fit, make_data, make_model, normalizations


def linear(masks, sparsity=(0.0, 0.25, 0.5), optimizer=None, **kwargs):
    """One kernel under the given masks, whose gradient is the batch's input, masked."""
    masks = np.array(masks, bool)
    size = masks.shape[1]
    plain = keras.Sequential([keras.Input((size,)), keras.layers.Dense(1, use_bias=False)])
    model = sparsify(plain, sparsity=sparsity[: len(masks)], dense=(), initial="dense")
    optimizer = optimizer or keras.optimizers.SGD(1.0)
    model.compile(optimizer, lambda y_true, y_pred: y_pred, **kwargs)
    mask = find_masks(model)[0]
    mask.write(np.zeros((size, 1), "float32"), masks[:, :, None])
    return model


def steps(model, gradients, **kwargs):
    """What each step takes off the kernel, given the unmasked gradients of the steps."""
    alternation = Alternation(model, **kwargs)
    model.attach(alternation=alternation)
    kernel, taken, fired = find_masks(model)[0].kernel, [], []
    for gradient in gradients:
        before, count = kernel.numpy(), int(alternation.corrections.numpy())
        model.train_on_batch(np.float32([gradient]), np.zeros((1, 1), "float32"))
        taken.append((before - kernel.numpy())[:, 0].tolist())
        fired.append(int(alternation.corrections.numpy()) - count)
    return taken, fired


ALL = [[1, 1]] * 3
# Conflicts of this round with the gradients before it: 1 with 0, and 2 with the uncorrected
# 1; corrected, 1 is (0, 1), to which 2 stands at right angles.
ROUND = [[1, 0], [-1, 1], [1, 0]]
CORRECTED = [[1, 0], [0, 1], [0.5, 0.5]]


def test_a_round_by_hand():
    taken, fired = steps(linear(ALL), ROUND)
    np.testing.assert_allclose(taken, CORRECTED, atol=1e-6)
    assert fired == [0, 1, 1]


def test_the_first_of_a_round_has_no_one_to_agree_with():
    taken, fired = steps(linear(ALL), [*ROUND, [-5, 0], [-4, 0], [-3, 0]])
    assert taken[3:] == [[-5, 0], [-4, 0], [-3, 0]]
    assert fired[3:] == [0, 0, 0]


def test_rounds_do_not_change_one_another():
    taken, fired = steps(linear(ALL), ROUND * 3)
    np.testing.assert_allclose(taken, CORRECTED * 3, atol=1e-6)
    assert fired == [0, 1, 1] * 3


def test_gradients_are_masked_again():
    masks = [[1, 1, 1], [1, 1, 0], [0, 1, 1]]
    taken, fired = steps(linear(masks), [[1, 1, 1], [-2, 1, 9], [9, -1, 1]])
    # 1: g = (-2, 1, 0) against (1, 1, 1): a third of p is added, not to the last weight.
    # 2: g = (0, -1, 1) against (-2, 1, 0): a fifth of p is added, not to the first weight.
    expected = [[1, 1, 1], [-5 / 3, 4 / 3, 0], [0, -4 / 5, 1]]
    np.testing.assert_allclose(taken, expected, rtol=1e-6)
    assert taken[1][2] == taken[2][0] == 0
    assert fired == [0, 1, 1]


def test_without_correction_gradients_are_left_alone():
    taken, fired = steps(linear(ALL), ROUND, correction=False)
    assert taken == ROUND
    assert fired == [0, 0, 0]


def test_one_sub_net_is_trained_as_ever():
    taken, fired = steps(linear([[1, 0]]), [[1, 1], [-1, 2], [1, -1]])
    assert taken == [[1, 0], [-1, 0], [1, 0]]
    assert fired == [0, 0, 0]


def test_infinite_gradients_spoil_nothing_later():
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(1.0), 2.0)
    taken, fired = steps(
        linear(ALL, optimizer=optimizer), [ROUND[0], [np.inf, 0], *ROUND[2:], *ROUND]
    )
    # The optimizer skips the step of the infinite gradient; its sub-net has had its turn.
    np.testing.assert_allclose(taken, [ROUND[0], [0, 0], ROUND[2], *CORRECTED], atol=1e-6)
    assert fired == [0, 0, 0, 0, 1, 1]


def test_accumulated_gradients_are_those_corrected():
    """Of 3 steps the mean is applied, in the third."""
    optimizer = keras.optimizers.SGD(1.0, gradient_accumulation_steps=3)
    taken, fired = steps(linear(ALL, optimizer=optimizer), ROUND * 2)
    mean = np.mean(CORRECTED, axis=0)
    expected = [[0, 0], [0, 0], mean] * 2
    np.testing.assert_allclose(taken, np.array(expected), atol=1e-6)
    assert fired == [0, 1, 1] * 2


@pytest.mark.parametrize("steps_per_execution", [1, 2, 3])
def test_steps_take_turns_across_epochs(steps_per_execution):
    """Two epochs of 5 steps, of sub-nets 0 1 2 0 1 and 2 0 1 2 0, which share no weight."""
    masks = np.repeat(np.eye(3), (4, 2, 1), axis=1)
    sparsity = (1 - masks.mean(axis=1)).tolist()
    model = linear(masks, sparsity, steps_per_execution=steps_per_execution)
    taken = []

    class After(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            kernel = find_masks(self.model)[0].kernel.numpy()[:, 0]
            taken.append((*-kernel[[0, 4, 6]], int(self.model.alternation.step.numpy())))

    data = np.ones((5, 7), "float32"), np.zeros((5, 1), "float32")
    callback = AlternatingSparseTraining(2, "static", interval=2)
    fit(model, data, callback, more=[After()], batch_size=1)
    assert taken == [(2, 2, 1, 5), (4, 3, 3, 10)]


def test_sub_nets_cost_no_further_trace():
    def traces(sparsity, epochs):
        calls = []

        def loss(y_true, y_pred):
            calls.append(y_pred)
            return keras.losses.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)

        model = make_model(sparsity, loss=loss, initial="random")
        fit(model, make_data(), AlternatingSparseTraining(epochs, "static", interval=1))
        return len(calls)

    assert traces([0.5, 0.75, 0.875], epochs=3) == traces(0.5, epochs=1)


@pytest.mark.parametrize("normalized", ["statistics", "all"])
def test_only_the_sub_net_that_runs_changes_its_batch_normalization(normalized):
    """Momentum moves what it has moved before: scale and offset rest only without it."""
    momentum = {"statistics": 0.9, "all": 0.0}[normalized]
    model = make_model(optimizer=keras.optimizers.SGD(0.05, momentum=momentum), initial="random")

    def sets(model):
        return [
            variable.numpy()
            for layer in normalizations(model)
            for variable in layer.variables
            if normalized == "all" or not variable.trainable
        ]

    record = EachStep(sets)
    # RigL's extra passes at updates change none.
    fit(model, make_data(), AlternatingSparseTraining(2, "rigl", interval=1), more=[record])
    changes = list(zip(record.seen, record.seen[1:], strict=False))
    assert len(changes) == 11
    for step, (before, after) in enumerate(changes):
        for old, new in zip(before, after, strict=True):
            changed = (old != new).any(axis=1).tolist()
            assert changed == [subnet == step % 3 for subnet in range(3)]


@pytest.mark.parametrize("regularizer", [None, keras.regularizers.L2(0.1)])
def test_a_step_leaves_alone_what_its_sub_net_does_not_keep(regularizer):
    plain = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(16, kernel_regularizer=regularizer),
            keras.layers.Dense(3),
        ]
    )
    model = sparsify(plain, sparsity=[0.5, 0.75], initial="random")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.5), loss)
    mask = find_masks(model)[0]
    kernel, masks = mask.read()
    assert (masks[0] & ~masks[1]).any()
    model.attach(alternation=Alternation(model))
    x, y = make_data()
    for turn in (0, 1, 0, 1):
        model.train_on_batch(x, y)
        after = mask.read()[0]
        np.testing.assert_array_equal(after[~masks[turn]], kernel[~masks[turn]])
        assert (after[masks[turn]] != kernel[masks[turn]]).any()
        kernel = after


class Reference:
    """Algorithm 1 of AST for the dense network of `runs`, told step by step."""

    def __init__(self, model, optimizer, correction):
        self.masks = [mask.read()[1] for mask in find_masks(model)]
        self.kernels = [keras.Variable(mask.read()[0]) for mask in find_masks(model)]
        head = model.get_layer("head")
        self.head = [keras.Variable(head.kernel.numpy()), keras.Variable(head.bias.numpy())]
        rows = range(len(self.masks[0]))
        self.scales = [[keras.Variable(np.ones(16, "float32")) for _ in rows] for _ in range(3)]
        self.offsets = [[keras.Variable(np.zeros(16, "float32")) for _ in rows] for _ in range(3)]
        self.means = np.zeros((3, len(rows), 16))
        self.variances = np.ones((3, len(rows), 16))
        self.optimizer, self.correction = optimizer, correction
        self.optimizer.build(self.variables)
        self.step, self.corrections, self.previous = 0, 0, None

    @property
    def variables(self):
        return self.kernels + self.head + sum(self.scales + self.offsets, [])

    def forward(self, x, turn):
        for layer in range(3):
            x = x @ (self.kernels[layer].value * self.masks[layer][turn].astype("float32"))
            mean = tf.reduce_mean(x, axis=0)
            variance = tf.reduce_mean((x - mean) ** 2, axis=0)
            self.means[layer, turn] += 0.1 * (mean - self.means[layer, turn])
            self.variances[layer, turn] += 0.1 * (variance - self.variances[layer, turn])
            x = (x - mean) / tf.sqrt(variance + 1e-3)
            x = x * self.scales[layer][turn].value + self.offsets[layer][turn].value
            x = tf.nn.relu(x)
        return x @ self.head[0].value + self.head[1].value

    def train(self, x, y):
        turn = self.step % len(self.masks[0])
        with tf.GradientTape() as tape:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, self.forward(x, turn))
            loss = tf.reduce_mean(losses)
        variables = self.variables
        gradients = tape.gradient(loss, [v.value for v in variables], unconnected_gradients="zero")
        gradients = [gradient.numpy().astype("float64") for gradient in gradients]
        uncorrected = gradients[:3]
        for layer in range(3 if turn and self.correction else 0):
            g, p = uncorrected[layer], self.previous[layer]
            if np.sum(g * p) < 0:
                gradients[layer] = self.masks[layer][turn] * (g - np.sum(g * p) / np.sum(p * p) * p)
                self.corrections += 1
        self.previous = uncorrected
        self.optimizer.apply(
            [tf.constant(gradient, "float32") for gradient in gradients], variables
        )
        self.step += 1


def check_equal(model, reference):
    for mask, kernel in zip(find_masks(model), reference.kernels, strict=True):
        np.testing.assert_allclose(mask.kernel.numpy(), kernel.numpy(), atol=2e-5)
    for variable, expected in zip(model.get_layer("head").weights, reference.head, strict=True):
        np.testing.assert_allclose(variable.numpy(), expected.numpy(), atol=2e-5)
    for layer, norm in enumerate(normalizations(model)):
        expected = [
            np.stack([v.numpy() for v in reference.scales[layer]]),
            np.stack([v.numpy() for v in reference.offsets[layer]]),
            reference.means[layer],
            reference.variances[layer],
        ]
        for variable, value in zip(norm.variables, expected, strict=True):
            np.testing.assert_allclose(variable.numpy(), value, atol=2e-5)


OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=1e-2),
    "adam": lambda: keras.optimizers.Adam(0.01, epsilon=1e-3),
    "accumulating": lambda: keras.optimizers.SGD(0.1, gradient_accumulation_steps=2),
    "scaling": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.1), dynamic_growth_steps=4
    ),
}


@pytest.mark.parametrize("correction", [True, False])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_training_equals_algorithm_1_step_by_step(name, correction):
    model = make_model(optimizer=OPTIMIZERS[name](), initial="random")
    inner = getattr(OPTIMIZERS[name](), "inner_optimizer", OPTIMIZERS[name]())
    reference = Reference(model, inner, correction)
    alternation = Alternation(model, correction)
    model.attach(alternation=alternation)
    x, y = make_data(8 * 14)
    for step in range(14):
        batch = x[8 * step : 8 * step + 8], y[8 * step : 8 * step + 8]
        model.train_on_batch(*batch)
        reference.train(*batch)
        check_equal(model, reference)
        assert int(alternation.corrections.numpy()) == reference.corrections
    # Some gradients were in conflict, and some were not.
    assert 0 < reference.corrections < 9 * 3 if correction else reference.corrections == 0


@pytest.mark.parametrize("steps_per_execution", [1, 2, 4])
def test_a_fit_equals_algorithm_1_and_logs_its_corrections(steps_per_execution):
    """Seven steps an epoch: rounds go on across epochs."""
    compiled = {"steps_per_execution": steps_per_execution}
    model = make_model(optimizer=OPTIMIZERS["sgd"](), compiled=compiled, initial="random")
    reference = Reference(model, OPTIMIZERS["sgd"](), True)
    data = x, y = make_data(8 * 6 + 4)
    history = fit(model, data, AlternatingSparseTraining(3, "static", interval=3))
    counts = []
    for _ in range(3):
        before = reference.corrections
        for first in range(0, len(x), 8):
            reference.train(x[first : first + 8], y[first : first + 8])
        counts.append(reference.corrections - before)
    check_equal(model, reference)
    assert history["gradient_corrections"] == counts and sum(counts) > 0


def test_half_precision_trains_and_corrects():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = make_model(initial="random")
    finally:
        keras.config.set_dtype_policy("float32")
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    before = [mask.read() for mask in find_masks(model)]
    history = fit(model, make_data(), AlternatingSparseTraining(4, "static", interval=1))
    assert sum(history["gradient_corrections"]) > 0
    assert history["loss"][-1] < history["loss"][0]
    for mask, (kernel, masks) in zip(find_masks(model), before, strict=True):
        after = mask.read()[0]
        assert np.isfinite(after).all() and (after != kernel).any()
        assert not after[~masks.any(axis=0)].any()
