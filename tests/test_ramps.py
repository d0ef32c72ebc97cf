"""Densities that fall: where they start, and that they have fallen when a block freezes."""

import warnings

import keras
import numpy as np
import pytest

from spfde_keras import AlternatingSparseTraining, Freezing, SpFDE, settle, sparsify
from spfde_keras.freezing.schemes import FreezingScheme
from spfde_keras.masking import find_masks
from spfde_keras.updaters import Magnitude, Moment, PruneAndRegrow, Static
from tests.alternating.runs import EachStep, make_data

EPOCHS, INTERVAL, SIZES = 8, 2, [128, 256, 256, 256]


class Fixed(FreezingScheme):
    """Freezes so many front blocks in each epoch."""

    needs_reduction = False

    def __init__(self, *counts):
        self.counts = counts

    def starts(self, horizon):
        return [0]

    def frozen(self, horizon, start):
        return np.array(self.counts)


# The first block is settled after 4 epochs, the second one after 6.
FREEZE = Freezing(None, Fixed(0, 0, 0, 0, 1, 1, 2, 2))
# As the second one is settled when it freezes first, it has fallen by then.
THAWING = Freezing(None, Fixed(0, 0, 0, 0, 2, 2, 1, 1))


def make_model(sparsity=0.75, initial=None):
    hidden = [keras.layers.Dense(16, activation="relu", name=f"d{index}") for index in range(4)]
    plain = keras.Sequential([keras.Input((8,)), *hidden, keras.layers.Dense(3, name="head")])
    model = sparsify(plain, sparsity, initial=initial, dense="last")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.05), loss)
    return model


def fit(model, callback, *more, **kwargs):
    x, y = make_data()
    arguments = {"epochs": callback.epochs, "batch_size": 8, "verbose": 0} | kwargs
    return model.fit(x, y, callbacks=[callback, *more], **arguments).history


class Kept(keras.callbacks.Callback):
    """How many weights each kernel keeps after each epoch."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append([int(mask.read()[1].sum()) for mask in find_masks(self.model)])


def test_each_block_falls_in_the_time_until_it_freezes():
    """On a cubic from 1 to 0.25, of which at half time an eighth is left, at a third 8/27, ..."""
    callback = SpFDE(EPOCHS, Magnitude(stop=1.0), INTERVAL, freeze=FREEZE)
    record = Kept()
    fit(make_model(initial="dense"), callback, record)
    seen = np.array(record.seen)
    # 128 and 256 weights, after 2, 4, 6 and 8 epochs.
    by_hand = {0: [44, 32, 32, 32], 1: [121, 71, 64, 64], 2: [145, 88, 67, 64]}
    for kernel, counts in by_hand.items():
        assert seen[1::2, kernel].tolist() == counts
    np.testing.assert_array_equal(seen[1::2, 2], seen[1::2, 3])
    assert seen[0].tolist() == SIZES
    planned = callback.planned_cost(samples=48, batch_size=8)
    assert callback.training_flops == pytest.approx(planned.total, rel=2e-3)


@pytest.mark.parametrize("freeze", [FREEZE, THAWING], ids=["for good", "thawing"])
def test_ramps_of_sub_nets_end_with_their_block(freeze):
    updater = PruneAndRegrow(0.75, end=1.0)
    callback = AlternatingSparseTraining(EPOCHS, updater, INTERVAL, freeze=freeze)
    model, changes = make_model([0.5, 0.75]), {}
    update = callback._update

    def record(masks, subnet, t, event, moment, step=0):
        update(masks, subnet, t, event, moment, step)
        for mask in masks:
            kept = mask.subnets[subnet].density
            changes.setdefault((mask.kernel_path, subnet), []).append((moment, t * EPOCHS, kept))

    callback._update = record
    fit(model, callback)
    ends = {"d0/kernel": 4, "d1/kernel": 4 if freeze is THAWING else 6}
    for (path, subnet), seen in changes.items():
        final, end = [0.5, 0.25][subnet], ends.get(path, EPOCHS)
        for moment, done, kept in seen:
            left = (1 - min(1.0, done / end)) ** 3
            expected = final if moment is Moment.SETTLE else final + (0.75 - final) * left
            assert kept == pytest.approx(expected, abs=0.005)
        steps = -np.diff([kept for *_, kept in seen])
        settled = [moment for moment, *_ in seen].index(Moment.SETTLE)
        # It falls least at last, also where it freezes.
        assert 0 <= steps[settled - 1] <= steps[0]
    planned = callback.planned_cost(samples=48, batch_size=8)
    assert callback.training_flops == pytest.approx(planned.total, rel=0.04)


def test_what_would_fall_in_one_step_is_refused_before_training():
    model = make_model(initial="dense")
    before = model.get_weights()
    for scheme in ("periodic", Fixed(0, 0, 1, 1, 1, 1, 1, 1)):
        with pytest.raises(ValueError, match="must train for 2 intervals before any is frozen"):
            fit(model, SpFDE(EPOCHS, "magnitude", INTERVAL, freeze=Freezing(None, scheme)))
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    fit(model, SpFDE(EPOCHS, "set", INTERVAL, freeze=Freezing(None, "periodic")))


@pytest.mark.parametrize("initial_density", [0.5, 1.0])
def test_sub_nets_start_with_initialised_weights(initial_density):
    model = make_model([0.75, 0.9])
    start = [mask.kernel.numpy() for mask in find_masks(model)]
    assert all(mask.density == 1 for mask in find_masks(model))
    record = EachStep(lambda model: [mask.read() for mask in find_masks(model)])
    callback = AlternatingSparseTraining(2, PruneAndRegrow(initial_density), interval=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(model, callback, record)
    for (kernel, masks), whole in zip(record.seen[0], start, strict=True):
        assert masks.mean(axis=(1, 2)).tolist() == [initial_density] * 2
        np.testing.assert_array_equal(masks[0], masks[1])
        np.testing.assert_array_equal(kernel, np.where(masks[0], whole, 0))
        assert (kernel != 0).mean() == initial_density


def test_static_sub_nets_start_nested_at_their_densities():
    model = make_model([0.5, 0.75])
    start = [mask.kernel.numpy() for mask in find_masks(model)]
    record = EachStep(lambda model: [mask.read() for mask in find_masks(model)])
    fit(model, AlternatingSparseTraining(2, Static(), interval=1), record)
    for (kernel, masks), whole in zip(record.seen[0], start, strict=True):
        assert masks.mean(axis=(1, 2)).tolist() == [0.5, 0.25]
        assert not (masks[1] & ~masks[0]).any()
        np.testing.assert_array_equal(kernel, np.where(masks[0], whole, 0))
    for mask, (_, masks) in zip(find_masks(model), record.seen[0], strict=True):
        np.testing.assert_array_equal(mask.read()[1], masks)


@pytest.mark.parametrize("updater", ["set", "rigl", "mest_em", "mest_ems"])
def test_dense_masks_drop_to_those_of_a_start_at_random(updater):
    model = make_model(initial="dense")
    record = EachStep(lambda model: [mask.density for mask in find_masks(model)])
    fit(model, SpFDE(4, updater, 1), record)
    assert record.seen[0] == pytest.approx([0.3 if updater == "mest_ems" else 0.25] * 4, abs=0.005)


def test_weights_that_a_start_adds_at_zero_are_told():
    line = (
        "PruneAndRegrow starts with 0.5 of 'd0/kernel', and its masks keep 0.25: the weights "
        r"between start at zero. `sparsify\(..., initial='dense'\)` begins with initialised ones."
    )
    with pytest.warns(UserWarning, match=line):
        fit(make_model(), AlternatingSparseTraining(2, interval=1))
    with pytest.raises(ValueError, match="from a dense model: .*Received: masks that keep 0.25 of"):
        fit(make_model(), SpFDE(2, "magnitude", 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(make_model(), AlternatingSparseTraining(2, PruneAndRegrow(0.2), interval=1))


def test_gradual_pruning_goes_on_with_the_same_callback():
    model, callback = make_model(initial="dense"), SpFDE(4, "magnitude", 1)
    stop = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, _: setattr(model, "stop_training", epoch == 0)
    )
    with pytest.warns(UserWarning, match="Training ended before its last epoch"):
        fit(model, callback, stop)
    fit(model, callback, initial_epoch=1)
    assert all(mask.density == 0.25 for mask in find_masks(model))


@pytest.mark.parametrize(
    ("sparsity", "initial", "name"),
    [([0.5, 0.75], None, "AlternatingSparseTraining"), (0.75, "dense", "SpFDE")],
)
def test_training_without_a_callback_that_drops_weights_is_told(sparsity, initial, name):
    x, y = make_data()
    model = make_model(sparsity, initial)
    with pytest.warns(UserWarning, match=rf"Masks keep more .* pass callbacks=\[{name}\(\)\]"):
        model.fit(x, y, verbose=0)
    settle(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(x, y, verbose=0)


def test_a_list_of_callbacks_of_keras_own_trains_sparse_too():
    model = make_model(initial="dense")
    callbacks = [SpFDE(2, "magnitude", 1)]
    made = keras.callbacks.CallbackList(callbacks, add_history=True, model=model, epochs=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(*make_data(), epochs=2, verbose=0, callbacks=made)


def test_several_sub_nets_are_dense_at_first_and_one_is_not():
    several, one = (find_masks(make_model(shares))[0] for shares in ([0.5, 0.75], 0.75))
    assert [subnet.density for subnet in several.subnets] == [1.0, 1.0]
    assert one.density == find_masks(make_model([0.75]))[0].density == 0.25
