"""A model is frozen front to back, and left as it was."""

import keras
import numpy as np
import pytest

from spfde_keras import SpFDE
from spfde_keras.freezing.blocks import find_blocks
from spfde_keras.freezing.freezer import Freezer
from spfde_keras.freezing.plan import FreezePlan
from spfde_keras.masking import find_masks
from spfde_keras.sparsify import sparsify


@pytest.fixture
def model():
    inputs = keras.Input((6,))
    x = keras.layers.Dense(8, name="front")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.Dense(8, name="middle")(x)
    outputs = keras.layers.Dense(2, name="back")(x)
    model = sparsify(keras.Model(inputs, outputs), sparsity=0.5, dense=())
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def trainable(model):
    return [layer.name for layer in model.layers if layer.trainable and layer.variables]


def test_applies_the_plan_epoch_by_epoch(model):
    freezer = Freezer(find_blocks(model), FreezePlan([0, 1, 2, 0], 3))
    freezer.begin(model)
    seen = []
    for epoch in range(4):
        freezer.apply(model, epoch)
        seen.append(trainable(model))
        freezer.thaw()
    assert seen == [
        ["front", "norm", "middle", "back"],
        ["middle", "back"],
        ["back"],
        ["front", "norm", "middle", "back"],
    ]


def test_compiles_anew_only_when_something_was_frozen_or_thawed(model, monkeypatch):
    compiled = []
    monkeypatch.setattr(model, "make_train_function", lambda force: compiled.append(force))
    freezer = Freezer(find_blocks(model), FreezePlan([0, 0, 1, 1, 0], 3))
    changed = []
    for epoch in range(5):
        changed.append(freezer.apply(model, epoch))
        freezer.thaw()
    assert compiled == [True, True]
    assert changed == [False, False, True, False, True]


def test_a_layer_the_user_had_frozen_stays_frozen(model):
    model.get_layer("middle").trainable = False
    freezer = Freezer(find_blocks(model), FreezePlan([1, 0], 3))
    freezer.apply(model, 0)
    freezer.end(model)
    assert trainable(model) == ["front", "norm", "back"]


def test_blocks_learn_at_their_own_rates(model):
    plan = FreezePlan([0, 0, 0, 2], 3)
    freezer = Freezer(find_blocks(model), plan)
    freezer.begin(model)
    freezer.apply(model, 2)
    before = {v.path: v.numpy() for v in model.trainable_variables}
    gradients = [np.ones(v.shape, np.float32) for v in model.trainable_variables]
    model.optimizer.apply(
        [keras.ops.convert_to_tensor(g) for g in gradients], model.trainable_variables
    )
    moved = {v.path: float(np.mean(before[v.path] - v.numpy())) for v in model.trainable_variables}
    freezer.end(model)
    factors = plan.multipliers(2)
    assert moved["front/bias"] == pytest.approx(0.1 * factors[0], rel=1e-5)
    assert moved["back/bias"] == pytest.approx(0.1 * factors[2], rel=1e-5)
    assert factors[0] < factors[2]


def test_frozen_throughout(model):
    freezer = Freezer(find_blocks(model), FreezePlan([0, 1, 2, 1, 2, 2], 3))
    assert freezer.frozen_throughout(1, 4) == 1
    assert freezer.frozen_throughout(4, 9) == 2
    assert Freezer(find_blocks(model), None).frozen_throughout(0, 6) == 0


class FreezesBack(keras.callbacks.Callback):
    """As of a user: from the second epoch on."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            self.model.get_layer("back").trainable = False
            self.model.make_train_function(force=True)
            self.before = [w.numpy() for w in self.model.get_layer("back").variables]


@pytest.mark.parametrize("updater", ["static", "set", "mest_ems"])
@pytest.mark.parametrize("freeze", [None, 0.05])
def test_what_the_user_freezes_in_training_stays_so(model, updater, freeze):
    x, y = np.random.default_rng(0).normal(size=(2, 16, 6))
    user = FreezesBack()
    training = SpFDE(updater=updater, freeze=freeze)
    model.fit(x, y[:, :2], epochs=8, verbose=0, callbacks=[training, user])
    back = model.get_layer("back")
    assert not back.trainable and model.get_layer("front").trainable
    np.testing.assert_array_equal(back.bias, user.before[1])
    (mask,) = find_masks(back)
    kept = mask.read()[1][0]
    np.testing.assert_array_equal(back.kernel.numpy()[kept], user.before[0][kept])
    assert kept.mean() == 0.5  # settled, though its block had its bound open


def test_rates_stay_where_nothing_freezes(model):
    x, y = np.random.default_rng(0).normal(size=(2, 16, 6))
    freezer = Freezer(find_blocks(model), FreezePlan([0, 0], 3))
    freezer.begin(model)
    before = model.get_layer("back").bias.numpy()
    freezer.apply(model, 1)
    model.train_on_batch(x, y[:, :2])
    once = model.get_layer("back").bias.numpy() - before
    assert np.abs(once).max() > 0
    assert freezer._rate is None
