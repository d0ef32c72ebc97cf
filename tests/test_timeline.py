"""The calendar by hand, and what it must keep however epochs and intervals divide."""

import pytest

from spfde_keras.sieve.policies import Circular, OneTime
from spfde_keras.timeline import Timeline, usual_interval


def changes(timeline):
    """The boundaries, as epochs done, at which masks and data change."""
    boundaries = [d for d in range(1, timeline.epochs + 1) if timeline.is_boundary(d)]
    masks = [done for done in boundaries if timeline.masks_change(done)]
    data = [done for done in boundaries if timeline.data_changes(done, Circular())]
    return boundaries, masks, data


def test_by_hand():
    """Masks rest after 0.5 of 12 epochs: at 6 they change once more. Data goes on until then."""
    assert changes(Timeline(12, 2, 0.5)) == ([2, 4, 6, 8, 10, 12], [2, 4, 6], [2, 4, 6])
    # No boundary at `stop` itself: masks come to rest at the next, data at the one before.
    assert changes(Timeline(12, 4, 0.5)) == ([4, 8, 12], [4, 8], [4])
    assert changes(Timeline(12, 2)) == (
        [2, 4, 6, 8, 10, 12],
        [2, 4, 6, 8, 10, 12],
        [2, 4, 6, 8, 10],
    )


def test_the_end_is_a_boundary_even_within_an_interval():
    timeline = Timeline(10, 4)
    assert changes(timeline) == ([4, 8, 10], [4, 8, 10], [4, 8])
    assert list(timeline.boundaries) == [4, 8]
    # The last interval began after `stop`.
    assert changes(Timeline(10, 4, 0.75))[1] == [4, 8]


def test_an_interval_longer_than_training_has_one_boundary():
    assert changes(Timeline(3, 5)) == ([3], [3], [])


def test_data_rests_when_it_is_told_to_and_else_with_the_masks():
    assert changes(Timeline(8, 2, 0.25))[2] == [2]
    assert changes(Timeline(8, 2, 0.25, data_stop=0.75))[2] == [2, 4, 6]
    assert changes(Timeline(8, 2, 0.75, data_stop=0.25))[2] == [2]
    assert changes(Timeline(8, 2, 0.75, data_stop=0.0))[2] == []
    # Masks that never change say nothing about data.
    assert changes(Timeline(8, 2, 0.0)) == ([2, 4, 6, 8], [], [2, 4, 6])


def removals(timeline, at):
    return [d for d in timeline.boundaries if timeline.data_changes(d, OneTime(at))]


def test_what_happens_once_does_not_wait_for_masks():
    """From its time on, even where masks rest; until `data_stop`, where that is given."""
    assert removals(Timeline(10, 4, 0.75), 70 / 160) == [8]
    assert removals(Timeline(8, 2, 0.25), 0.4) == [4, 6]
    assert removals(Timeline(8, 2, 0.25, data_stop=0.5), 0.4) == [4]
    assert removals(Timeline(8, 2, 0.25, data_stop=0.25), 0.4) == []
    assert removals(Timeline(10, 1, 0.75), 0.1 + 0.2)[0] == 3


def test_fractions_that_are_equal_on_paper_are_equal():
    timeline = Timeline(10, 1, masks_stop=0.1 + 0.2)
    assert changes(timeline)[1:] == ([1, 2, 3], [1, 2, 3])
    assert changes(Timeline(10, 3, masks_stop=0.3))[1:] == ([3], [3])


def test_intervals():
    timeline = Timeline(10, 4)
    assert [timeline.interval_start(epoch) for epoch in range(10)] == [0] * 4 + [4] * 4 + [8] * 2
    assert timeline.fraction(4) == 0.4


def test_instants_by_hand():
    assert Timeline(4, 2).instants(subnets=3, steps=6) == [0, 4, 8]
    assert Timeline(4, 1).instants(subnets=3, steps=1) == [0, 1, 1]


def test_turns_by_hand():
    """Updates every second epoch of four steps: a third is 3 steps (2.67), two thirds 5 (5.33)."""
    timeline = Timeline(4, 2)
    every_step = [
        timeline.turns(epoch, step, step + 1, subnets=3, steps=4)
        for epoch in range(4)
        for step in range(4)
    ]
    assert every_step == [[], [], [1], [], [2], [], [], [], [], [], [1], [], [2], [], [], []]
    # Asked once an epoch, the answer is the same.
    assert timeline.turns(0, 0, 4, 3, 4) == [1]
    # At the very end all settle instead.
    assert Timeline(2, 2).turns(1, 0, 4, 3, 4) == []


def test_turns_between_the_ends_of_an_interval():
    """Two epochs of eight steps, an update every third step from the start of each interval on."""

    def steps_of_updates(timeline, subnets=1):
        return [
            (epoch * 8 + step, subnet)
            for epoch in range(timeline.epochs)
            for step in range(1, 9)
            for subnet in timeline.turns(epoch, step - 1, step, subnets, 8)
        ]

    # The boundary after 16 steps is not among them, and counting begins anew there.
    once = [3, 6, 9, 12, 15, 19, 22, 25, 28, 31]
    timeline = Timeline(4, 2, update_steps=3)
    assert steps_of_updates(timeline) == [(step, 0) for step in once]
    assert [timeline.updates_within(epoch, 8) for epoch in range(4)] == [2, 3, 2, 3]
    assert timeline.within == [0.5, 1.5, 2.5, 3.5]
    # A multiple that is the boundary itself is left to it.
    assert steps_of_updates(Timeline(2, 1, update_steps=4)) == [(4, 0), (12, 0)]
    # Sub-nets share the three steps.
    both = steps_of_updates(Timeline(2, 2, update_steps=4), 2)
    assert both == [(2, 1), (4, 0), (6, 1), (8, 0), (10, 1), (12, 0), (14, 1)]
    # Masks rest from half of training on; the second sub-net has one more.
    rested = steps_of_updates(Timeline(2, 2, masks_stop=0.5, update_steps=4), 2)
    assert rested == [(2, 1), (4, 0), (6, 1), (10, 1)]
    stopped = Timeline(4, 2, masks_stop=0.5, update_steps=3)
    assert [stopped.updates_within(epoch, 8) for epoch in range(4)] == [2, 3, 0, 0]
    # The end of an epoch is a step as others are, where it is no boundary.
    assert [Timeline(4, 2, update_steps=4).updates_within(epoch, 8) for epoch in (0, 1)] == [2, 1]
    assert [Timeline(4, 2, 0.4, update_steps=4).updates_within(e, 8) for e in (0, 1)] == [2, 1]
    assert [Timeline(4, 2, 0.2, update_steps=4).updates_within(e, 8) for e in (0, 1)] == [1, 0]


@pytest.mark.parametrize(("epochs", "interval"), [(6, 1), (6, 2), (7, 3), (12, 5)])
@pytest.mark.parametrize("stop", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("subnets", [2, 3, 5])
def test_each_sub_net_has_one_turn_an_interval_until_masks_rest(epochs, interval, stop, subnets):
    timeline, steps = Timeline(epochs, interval, stop), 7
    for subnet in range(1, subnets):
        instants = [
            epoch * steps + step
            for epoch in range(epochs)
            for step in range(1, steps + 1)
            if subnet in timeline.turns(epoch, step - 1, step, subnets, steps)
        ]
        first = timeline.instants(subnets, steps)[subnet]
        expected, step = [], first
        while step < epochs * steps and (step - interval * steps) / steps / epochs < stop - 1e-9:
            expected.append(step)
            step += interval * steps
        assert instants == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, "`epochs` must be an integer of at least 1. Received: 0"),
        ({"epochs": True}, "`epochs` must be an integer"),
        ({"interval": 1.5}, "`interval` must be an integer of at least 1. Received: 1.5"),
        ({"masks_stop": 1.5}, r"`masks_stop` must be a number in \[0, 1\]. Received: 1.5"),
        ({"update_steps": 0}, "`update_steps` must be an integer of at least 1. Received: 0"),
        ({"data_stop": -1}, r"`data_stop` must be a number in \[0, 1\]. Received: -1"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Timeline(**({"epochs": 4, "interval": 2} | arguments))


def test_the_usual_interval_follows_the_length_of_training():
    assert [usual_interval(epochs) for epochs in (1, 6, 12, 60, 160, 320)] == [1, 1, 1, 2, 5, 10]


@pytest.mark.parametrize("epochs", [4, 10, 60, 90])
@pytest.mark.parametrize("interval", [1, 2, 10])
@pytest.mark.parametrize("stop", [0.0, 0.5, 0.75, 1.0])
def test_masks_rest_after_their_last_change(epochs, interval, stop):
    timeline = Timeline(epochs, interval, stop)
    _, masks, _ = changes(timeline)
    assert timeline.masks_rest(1) == (masks[-1] if masks else 0)
    if not stop:
        return
    # In steps of a tenth of an epoch.
    turns = [
        epoch + step / 10
        for epoch in range(epochs)
        for step in range(1, 11)
        if timeline.turns(epoch, step - 1, step, 3, 10)
    ]
    assert timeline.masks_rest(3) >= max([timeline.masks_rest(1), *turns])
    assert timeline.masks_rest(3) <= min(epochs, timeline.masks_rest(1) + interval)


def test_masks_rest_by_hand():
    assert Timeline(60, 2, 0.75).masks_rest(1) == 46
    assert Timeline(60, 2, 0.75).masks_rest(2) == 48
    assert Timeline(100, 10, 0.75).masks_rest(1) == 80
