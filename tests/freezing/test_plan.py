import re

import keras
import numpy as np
import pytest

from spfde_keras.freezing.plan import FreezePlan, Freezing
from spfde_keras.updaters import MESTEMS, SET, Magnitude, PruneAndRegrow

SOLVED = ("single_shot", "single_shot_resume", "delayed_periodic")


def uniform(blocks):
    """Each block costs 1 forward and 2 backward in every epoch."""
    return lambda plan: (3.0 * blocks - 2.0 * plan.frozen).sum()


def falling(plan):
    """Six unequal blocks whose backward pass gets cheaper over time."""
    backward = np.array([5.0, 1.0, 3.0, 2.0, 2.0, 8.0])
    rates = np.where(np.arange(plan.epochs) < 20, 1.5, 1.0)
    return sum(10.0 + backward[n:].sum() * rate for n, rate in zip(plan.frozen, rates, strict=True))


def saved(plan, cost):
    return 1 - cost(plan) / cost(FreezePlan([0] * plan.epochs, plan.blocks))


def test_single_shot_by_hand():
    # 6 blocks, 4 of them freezable, cost 18 an epoch, 216 in all. Frozen from 4: 1 1 2 2 3 3 4 4,
    # 20 block epochs save 40. From 6: 1 1 2 2 3 3, 12 save 24. A ninth is 24, so 6 will do.
    plan = Freezing(1 / 9).plan(uniform(6), [1] * 6, epochs=12, interval=2)
    assert plan.frozen.tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 3, 3]
    # 26 needs 13 block epochs: from 4 on, where two blocks (2 + 6 * 2 = 14) are enough.
    plan = Freezing(26 / 216).plan(uniform(6), [1] * 6, epochs=12, interval=2)
    assert plan.frozen.tolist() == [0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 2, 2]


@pytest.mark.parametrize("reduction", [0.05, 0.1, 0.15, 0.2])
@pytest.mark.parametrize("epochs, interval", [(30, 3), (32, 5), (40, 1)])
def test_single_shot_is_the_latest_and_smallest_that_reaches_the_target(
    reduction, epochs, interval
):
    plan = Freezing(reduction).plan(falling, [1] * 6, epochs, interval)
    assert saved(plan, falling) >= reduction
    fewer = FreezePlan(np.minimum(plan.frozen, plan.frozen.max() - 1), 6)
    assert saved(fewer, falling) < reduction
    starts = np.flatnonzero(plan.frozen)[0]
    assert starts > 0
    steps = np.arange(epochs) // interval
    later = FreezePlan(np.clip(steps - starts // interval, 0, 4), 6)
    assert saved(later, falling) < reduction


@pytest.mark.parametrize("scheme", SOLVED)
@pytest.mark.parametrize("reduction", [0.05, 0.12, 0.18])
def test_freezing_changes_at_updates_only_and_never_at_the_start(scheme, reduction):
    plan = Freezing(reduction, scheme).plan(falling, [1] * 6, epochs=40, interval=2)
    assert saved(plan, falling) >= reduction
    changes = np.flatnonzero(np.diff(plan.frozen)) + 1
    assert np.all(changes % 2 == 0)
    assert plan.frozen[0] == 0
    assert plan.frozen.max() <= 4


def test_single_shot_freezes_one_block_per_interval_and_never_thaws():
    plan = Freezing(0.2).plan(falling, [1] * 6, epochs=40, interval=2)
    assert set(np.diff(plan.frozen)) <= {0, 1}


def test_resume_freezes_earlier_and_thaws_everything_at_the_end():
    # A tenth of 40 epochs is 4. With equal epochs the same FLOPs mean 4 epochs earlier.
    straight = Freezing(0.2).plan(uniform(6), [1] * 6, epochs=40, interval=2)
    resumed = Freezing(0.2, "single_shot_resume").plan(uniform(6), [1] * 6, epochs=40, interval=2)
    assert resumed.frozen.tolist() == [*straight.frozen[4:], 0, 0, 0, 0]


def test_resume_thaws_at_an_update_when_epochs_do_not_divide():
    plan = Freezing(0.1, "single_shot_resume").plan(uniform(6), [1] * 6, epochs=32, interval=5)
    assert plan.frozen[24] > 0
    assert np.all(plan.frozen[25:] == 0)


def test_periodic_trains_thirds_in_every_fourth_second_and_each_interval():
    plan = Freezing(None, "periodic").plan(uniform(6), [1] * 6, epochs=16, interval=2)
    assert plan.frozen.tolist() == [0, 0, 4, 4, 2, 2, 4, 4] * 2


def test_periodic_leaves_trailing_blocks_out_down_to_a_reduction():
    # The whole pattern saves 2 * (4 + 2 + 4) of 4 * 18 FLOPs, three blocks at most 2 * (3 + 2 + 3).
    plan = Freezing(0.2, "periodic").plan(uniform(6), [1] * 6, epochs=8, interval=1)
    assert plan.frozen.tolist() == [0, 3, 2, 3] * 2
    with pytest.raises(ValueError, match="at most 0.277"):
        Freezing(0.3, "periodic").plan(uniform(6), [1] * 6, epochs=8, interval=1)


def test_delayed_periodic_trains_everything_first():
    plan = Freezing(0.2, "delayed_periodic").plan(uniform(6), [1] * 6, epochs=16, interval=1)
    start = np.flatnonzero(plan.frozen)[0]
    assert start > 1
    pattern = [plan.frozen.max(), 2, plan.frozen.max(), 0]
    assert plan.frozen[start:].tolist() == (pattern * 4)[: 16 - start]


@pytest.mark.parametrize("scheme", ["single_shot", "single_shot_resume", "delayed_periodic"])
def test_an_unreachable_reduction_names_the_largest_that_is_reachable(scheme):
    with pytest.raises(ValueError, match=r"`reduction` must be at most (0\.\d+).*0.9;") as caught:
        Freezing(0.9, scheme).plan(falling, [1] * 6, 30, 3)
    largest = float(str(caught.value).split("at most ")[1].split()[0])
    assert saved(Freezing(largest, scheme).plan(falling, [1] * 6, 30, 3), falling) >= largest
    with pytest.raises(ValueError, match="must be at most"):
        Freezing(largest + 0.0011, scheme).plan(falling, [1] * 6, 30, 3)


@pytest.mark.parametrize(
    ("reduction", "interval", "words"),
    [
        (0.3, 8, "interval=3"),
        (0.45, 1, r"Freezing\(0.45, share=0.9\)"),
        (0.45, 8, r"interval=1 and Freezing\(0.45, share=0.9\)"),
        (0.6, 8, "save less, or train longer"),
    ],
)
def test_what_an_unreachable_reduction_advises_reaches_it(reduction, interval, words):
    with pytest.raises(ValueError, match=rf"Received: {reduction}; {words}") as caught:
        Freezing(reduction).plan(uniform(6), [1] * 6, 30, interval)
    found = re.search(r"interval=(\d+)( and|$| reaches)", str(caught.value).split(";")[1])
    wide = "share=0.9" in str(caught.value)
    if "reaches it" in str(caught.value):
        interval = int(found[1]) if found else interval
        plan = Freezing(reduction, share=0.9 if wide else 2 / 3)
        plan = plan.plan(uniform(6), [1] * 6, 30, interval)
        assert saved(plan, uniform(6)) >= reduction


def test_small_shares_keep_two_digits():
    # The front block has almost nothing to save.
    def cost(plan):
        return (10_000.0 - 4 * (plan.frozen > 0)).sum()

    with pytest.warns(UserWarning, match="saves 0.00030 of the training FLOPs"):
        Freezing().plan(cost, [1, 1, 1], 4, 1)
    with pytest.raises(ValueError, match="at most 0.00030 with scheme='single_shot', 4 epochs"):
        Freezing(0.1).plan(cost, [1, 1, 1], 4, 1)


def test_the_default_share_is_what_can_be_reached():
    whole = Freezing().plan(uniform(6), [1] * 6, epochs=40, interval=1)
    assert saved(whole, uniform(6)) == pytest.approx(0.2, abs=0.02)
    with pytest.warns(UserWarning, match="saves 0.167 .* that 4 epochs with interval 1 allow"):
        short = Freezing().plan(uniform(6), [1] * 6, epochs=4, interval=1)
    assert saved(short, uniform(6)) < 0.2 and short.frozen.tolist() == [0, 1, 2, 3]
    for sizes, epochs in (([1] * 6, 1), ([1], 10)):
        with pytest.warns(UserWarning, match="Nothing is frozen. "):
            none = Freezing().plan(uniform(len(sizes)), sizes, epochs, 1)
        assert not none.frozen.any()


def test_shares_are_called_as_the_caller_calls_them():
    with pytest.raises(ValueError, match="`freeze` must be at most"):
        Freezing.get(0.9).plan(uniform(6), [1] * 6, 30, 1)
    assert Freezing.get(True).reduction == "auto" and Freezing.get(False) is None
    with pytest.raises(ValueError, match=r"`freeze` must be .* in \(0, 1\), None.* Received: 1.5"):
        Freezing.get(1.5)


def test_more_blocks_than_intervals_freeze_as_many_as_there_is_time_for():
    # 1 + 2 + ... + 9 block epochs save 90 of 900.
    plan = Freezing(0.1).plan(uniform(30), [1] * 30, epochs=10, interval=1)
    assert plan.frozen.tolist() == list(range(10))
    with pytest.raises(ValueError, match="at most 0.100 "):
        Freezing(0.11).plan(uniform(30), [1] * 30, epochs=10, interval=1)


@pytest.mark.parametrize(
    "sizes, share, most",
    [
        ([1, 1, 1], 2 / 3, 2),
        ([1, 2, 2, 2, 1], 2 / 3, 3),
        ([5, 1], 2 / 3, 1),
        ([1, 1, 1, 1], 0.99, 3),
        ([0, 1, 1], 0.5, 2),
    ],
)
def test_share_limits_the_kernels_that_freeze(sizes, share, most):
    plan = Freezing(0.01, share=share).plan(uniform(len(sizes)), sizes, epochs=100, interval=1)
    everything = Freezing(None, "periodic", share=share).plan(uniform(5), sizes, 8, 1)
    assert everything.frozen.max() == most
    assert plan.frozen.max() <= most


def test_multipliers_follow_each_blocks_own_cosine():
    plan = FreezePlan([0, 0, 1, 1], blocks=2)
    rates = np.array([plan.multipliers(epoch) for epoch in range(4)])
    np.testing.assert_allclose(rates[:, 0], [1, 0.5, 0, 0], atol=1e-12)
    np.testing.assert_allclose(rates[:, 1], (1 + np.cos(np.pi * np.arange(4) / 4)) / 2)


def test_multipliers_stand_still_while_a_block_is_frozen():
    plan = FreezePlan([0, 1, 1, 0], blocks=2)
    first = [plan.multipliers(epoch)[0] for epoch in range(4)]
    np.testing.assert_allclose(first, [1, 0.5, 0.5, 0.5])


def test_multipliers_are_one_at_the_start_and_fall():
    plan = Freezing(0.2, "single_shot_resume").plan(falling, [1] * 6, 40, 2)
    rates = np.array([plan.multipliers(epoch) for epoch in range(40)])
    np.testing.assert_array_equal(rates[0], 1)
    assert np.all(np.diff(rates, axis=0) <= 0)
    assert np.all(rates[-1] > 0)


TIMES = np.arange(9) / 8


def test_the_time_of_a_block_ends_when_it_is_settled():
    plan = FreezePlan([0, 0, 0, 0, 1, 1, 2, 2], blocks=3)
    assert plan.settled(2).tolist() == [4, 6, 8]
    expected = [[min(1, e / 4), min(1, e / 6), e / 8] for e in range(9)]
    np.testing.assert_allclose(plan.times(Magnitude(), TIMES, 2), expected)
    np.testing.assert_allclose(plan.times(PruneAndRegrow(), 0.25, 2), [0.5, 1 / 3, 0.25])
    # That of training, exactly, for what does not fall and for what never freezes.
    for updater, blocks in ((MESTEMS(), range(3)), (SET(), range(3)), (Magnitude(), [2])):
        for block in blocks:
            np.testing.assert_array_equal(plan.times(updater, TIMES, 2)[:, block], TIMES)


@pytest.mark.parametrize(
    ("frozen", "settled"),
    [
        ([0, 0, 2, 2, 1, 1, 2, 2], [2, 2, 8]),  # thawed in between: it was settled before
        ([0, 0, 2, 2, 2, 2, 0, 0], [2, 2, 8]),
        ([0, 0, 0, 1, 2, 2, 2, 2], [4, 4, 8]),  # frozen throughout an interval
        ([1, 1, 1, 1, 1, 1, 2, 3], [0, 6, 8]),
        ([0] * 8, [8, 8, 8]),
    ],
)
def test_a_block_is_settled_by_the_first_interval_that_it_is_frozen_in(frozen, settled):
    plan = FreezePlan(frozen, blocks=3)
    assert plan.settled(2).tolist() == settled
    times = plan.times(Magnitude(), TIMES, 2)
    assert (np.diff(times, axis=0) >= 0).all() and (times[-1] == 1).all()


def test_blocks_train_as_many_intervals_as_they_are_told_to():
    plan = Freezing(0.2).plan(uniform(6), [1] * 6, 8, 1)
    assert plan.frozen.tolist()[:4] == [0, 0, 1, 2]
    for trained, most in ((1, "0.305"), (2, "0.250"), (3, "0.194")):
        with pytest.raises(ValueError, match=f"at most {most} with"):
            Freezing(0.5).plan(uniform(6), [1] * 6, 8, 1, trained)
    with pytest.raises(ValueError, match="must train for 2 intervals .*scheme='periodic', epo"):
        Freezing(None, "periodic").plan(uniform(6), [1] * 6, 8, 1, trained=2)
    with pytest.warns(UserWarning, match="Nothing is frozen. With an updater whose density falls"):
        none = Freezing().plan(uniform(6), [1] * 6, 2, 1, trained=2)
    assert not none.frozen.any()


def test_plans_survive_serialization():
    plan = Freezing(0.2).plan(falling, [1] * 6, 40, 2)
    again = FreezePlan.from_dict(plan.to_dict())
    assert again.frozen.tolist() == plan.frozen.tolist()
    assert again.blocks == plan.blocks


def test_freezing_survives_serialization():
    freezing = Freezing(0.3, "single_shot_resume", blocks=["stem", ["a", "b"], "c"], share=0.5)
    config = keras.saving.serialize_keras_object(freezing)
    again = keras.saving.deserialize_keras_object(config)
    assert isinstance(again, Freezing)
    assert again.get_config() == freezing.get_config()


def test_get():
    freezing = Freezing(0.3)
    assert Freezing.get(None) is None
    assert Freezing.get(freezing) is freezing
    assert Freezing.get(0.25).reduction == 0.25
    with pytest.raises(ValueError, match="`freeze` must be"):
        Freezing.get("single_shot")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"reduction": 0.0}, r"`reduction` must be a number in \(0, 1\), or 'auto'. Received: 0.0"),
        ({"reduction": 1.2}, r"`reduction` must be a number in \(0, 1\), or 'auto'. Received: 1.2"),
        ({"reduction": "much"}, r"in \(0, 1\), or 'auto'. Received: 'much'"),
        ({"reduction": None}, "`reduction` must be a number"),
        (
            {"scheme": "sometimes"},
            "`scheme` must be .*'single_shot'.*'sometimes'",
        ),
        ({"share": 1.0}, r"`share` must be a number in \(0, 1\)"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Freezing(**arguments)


def test_plans_that_cannot_be_made_are_refused():
    with pytest.raises(ValueError, match="at least 2 blocks. Received: 1"):
        Freezing(0.2).plan(uniform(1), [1], 10, 1)
    with pytest.raises(ValueError, match="epochs=5, interval=5"):
        Freezing(0.2).plan(uniform(6), [1] * 6, 5, 5)
    with pytest.raises(ValueError, match="`frozen` must be an integer .* less than 3. Received: 3"):
        FreezePlan([0, 3], blocks=2)
