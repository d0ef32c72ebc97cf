"""Masks that change within intervals, every so many steps."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from spfde_keras import AlternatingSparseTraining, DataSieve, Resume, SpFDE, mask_updates
from spfde_keras.updaters import SET, Magnitude, RigL
from tests.alternating.runs import EachStep, fit, make_data, make_model, masks_of
from tests.interruptions import BreakOff


def changes(masks):
    """The steps after which masks differ."""
    pairs = enumerate(zip(masks, masks[1:], strict=False), 1)
    return [
        step
        for step, (before, after) in pairs
        if any((a != b).any() for a, b in zip(before, after, strict=True))
    ]


def trained(callback, sparsity=0.75, data=None, **arguments):
    """Trains six steps an epoch; returns the model and the masks of each step."""
    model, record = make_model(sparsity, **arguments), EachStep(masks_of)
    fit(model, data or make_data(), callback, more=[record])
    return model, record.seen


def test_masks_change_at_their_steps_and_at_boundaries():
    _, masks = trained(SpFDE(4, SET(stop=1.0), interval=2, update_steps=5))
    # Steps 12 and 24 are boundaries, and 24 is the end.
    assert changes(masks) == [5, 10, 12, 17, 22]


def test_masks_rest_from_stop_on():
    _, masks = trained(SpFDE(4, SET(stop=0.5), interval=2, update_steps=5))
    assert changes(masks) == [5, 10]


def test_two_updates_of_an_epoch_draw_different_weights():
    seen = []
    original = mask_updates.generator

    def spy(seed, event, path):
        seen.append((event, path))
        return original(seed, event, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mask_updates, "generator", spy)
        trained(SpFDE(2, SET(stop=1.0), interval=1, update_steps=2))
    assert len(set(seen)) == len(seen) == 3 * (1 + 3 + 3)  # three kernels


def test_sub_nets_share_the_steps():
    seen = []
    callback = AlternatingSparseTraining(2, SET(stop=1.0), interval=2, update_steps=4)
    update = callback._update
    callback._update = lambda masks, subnet, t, event, moment, step=0: (
        seen.append((event, step, subnet)) if step else None,
        update(masks, subnet, t, event, moment, step),
    )
    trained(callback, [0.5, 0.75])
    assert seen == [(1, 2, 1), (1, 4, 0), (1, 6, 1), (2, 2, 0), (2, 4, 1)]


@pytest.mark.parametrize("updater", [SET(), RigL()], ids=["set", "rigl"])
def test_the_plan_is_what_is_spent(updater):
    callback = SpFDE(6, updater, interval=2, update_steps=5)
    trained(callback)
    planned = callback.planned_cost(samples=48, batch_size=8)
    assert callback.training_flops == pytest.approx(planned.total, rel=1e-9)


def test_a_ramp_is_planned_closely():
    """Asked for in the middle of each epoch, it is nearer than at the start of each interval."""
    callback = SpFDE(12, Magnitude(), interval=4, update_steps=2)
    trained(callback, initial="dense")
    assert callback.planned_cost(48, 8).total == pytest.approx(callback.training_flops, rel=0.03)
    coarse = SpFDE(12, Magnitude(), interval=4)
    trained(coarse, initial="dense")
    assert coarse.planned_cost(48, 8).total > 1.1 * callback.training_flops


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    def run(folder, interrupted=None):
        keras.utils.set_random_seed(0)
        callback = SpFDE(4, RigL(), interval=2, update_steps=5)
        model = make_model(0.75)
        more = [BreakOff(*interrupted)] if interrupted else []
        fit(model, make_data(), callback, more=[Resume(folder), *more])
        return model, callback

    whole, first = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", (3, 2))
    resumed, second = run(tmp_path / "broken")
    for a, b in zip(whole.variables, resumed.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.path)
    assert first.training_flops == second.training_flops

    callback = SpFDE(4, RigL(), interval=2, update_steps=4)
    with pytest.raises(ValueError, match="update_steps was 5, is 4"):
        fit(make_model(0.75), make_data(), callback, more=[Resume(tmp_path / "whole")])


@pytest.mark.parametrize("every", [6, 7])
def test_a_number_of_steps_that_an_interval_has_not_is_refused(every):
    with pytest.raises(ValueError, match=f"steps of an interval, 1 x 6: .* Received: {every}"):
        trained(SpFDE(2, SET(), interval=1, update_steps=every))


def test_steps_taken_at_once_are_no_more_than_those_between_updates():
    """Otherwise several updates would be one."""
    callback = SpFDE(2, SET(), interval=1, update_steps=2)
    with pytest.raises(ValueError, match="`update_steps` must not be below .*, 3: .* Received: 2"):
        trained(callback, compiled={"steps_per_execution": 3})


def test_epochs_of_fewer_steps_than_samples_are_for():
    x, y = make_data(160)
    sieve = DataSieve((x, y), fraction=0.25)
    callback = SpFDE(4, SET(stop=1.0), interval=2, sieve=sieve, update_steps=12)
    with pytest.raises(ValueError, match="steps of an interval, 2 x 6: .* Received: 12"):
        trained(callback, data=sieve.batches(8).take(6).prefetch(1))
    callback = SpFDE(4, SET(stop=1.0), interval=2, sieve=sieve, update_steps=5)
    _, masks = trained(callback, data=sieve.batches(8).take(9).take(6))
    assert changes(masks) == [5, 10, 12, 17, 22]


def test_data_of_unknown_length_is_refused():
    batches = tf.data.Dataset.from_tensor_slices(make_data()).batch(8).filter(lambda x, y: True)
    with pytest.raises(ValueError, match="`fit` must know the number of steps"):
        trained(SpFDE(2, SET(), interval=1, update_steps=2), data=batches)


def test_a_training_of_one_interval_changes_masks():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, masks = trained(SpFDE(2, SET(stop=1.0), interval=2, update_steps=5))
    assert changes(masks) == [5, 10]


def test_steps_are_those_of_sieved_data():
    x, y = make_data(64)
    sieve = DataSieve((x, y), fraction=0.25)
    callback = SpFDE(4, SET(stop=1.0), interval=2, sieve=sieve, update_steps=5)
    _, masks = trained(callback, data=sieve.batches(8))
    assert changes(masks) == [5, 10, 12, 17, 22]
