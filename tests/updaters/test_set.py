import numpy as np
import pytest

from spfde_keras import schedules
from spfde_keras.updaters import SET, Moment, Mutation
from tests.updaters.mutations import mutate


def test_the_smallest_go_and_as_many_grow_at_random(kernel, make_mask, rng):
    mask = make_mask(kernel)
    change = mutate(SET(fraction=0.25), Moment.UPDATE, mask.subnets[0], 0.0, rng)
    after, masks = mask.read()
    # 1 and 2 are dropped: if they grow again at once, nothing has happened to them.
    large = np.abs(kernel) > 2
    np.testing.assert_array_equal(after[large], kernel[large])
    assert masks.sum() == 8
    assert masks[0][large].all()
    np.testing.assert_array_equal(after[change.fresh], 0)


def test_growth_reaches_every_free_position(kernel, make_mask):
    grown = np.zeros((4, 4), int)
    for seed in range(60):
        mask = make_mask(kernel)
        mutate(SET(fraction=0.25), Moment.UPDATE, mask.subnets[0], 0.0, np.random.default_rng(seed))
        grown += mask.read()[1][0]
    free = np.abs(kernel) <= 2
    assert (grown[~free] == 60).all()
    # 2 of 10 positions at a time: 12 times each on average.
    assert grown[free].sum() == 120
    assert grown[free].min() > 0 and grown[free].max() < 30


def test_a_schedule_sets_how_many_are_exchanged():
    updater = SET(schedules.Step((0.5, 0.25), (0.5,)), stop=1.0)
    assert updater.densities(0.49, 0.5) == (0.25, 0.5)
    assert updater.densities(0.5, 0.5) == (0.375, 0.5)


def test_masks_rest_from_stop_on_itself():
    updater = SET(0.5, stop=0.6)
    assert updater.plan(Moment.UPDATE, 0.59, 0.5) == Mutation(0.25, 0.5)
    # 3/5 and 6/10 as sums of tenths are a rounding apart.
    for t in (0.6, 0.1 + 0.2 + 0.3, 0.6 - 1e-12, 1.0):
        assert updater.plan(Moment.UPDATE, t, 0.5) == Mutation(0.5, 0.5)


def test_with_stop_1_it_mutates_until_the_end_and_visits_new_weights(kernel, make_mask):
    """In-time over-parameterisation: many updates see many more weights than are kept."""
    updater, mask = SET(0.25, stop=1.0), make_mask(kernel)
    seen = mask.read()[1][0].copy()
    for event in range(19):
        mutate(updater, Moment.UPDATE, mask.subnets[0], event / 20, np.random.default_rng(event))
        seen |= mask.read()[1][0]
        assert mask.density == 0.5
    assert seen.mean() > 0.9
    assert not mutate(
        updater, Moment.UPDATE, mask.subnets[0], 1.0, np.random.default_rng(0)
    ).fresh.any()


@pytest.mark.parametrize("fraction", [-0.1, 1.1, schedules.Constant(2.0), "half"])
def test_fractions_out_of_range_are_refused(fraction):
    with pytest.raises(ValueError, match="Received: "):
        SET(fraction)


@pytest.mark.parametrize("stop", [0.0, -0.5, 1.5])
def test_stops_out_of_range_are_refused(stop):
    with pytest.raises(ValueError, match=r"`stop` must be a number in \(0, 1\]. Received: "):
        SET(stop=stop)
