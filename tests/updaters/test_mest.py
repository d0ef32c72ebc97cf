import dataclasses

import numpy as np
import pytest

from spfde_keras import schedules
from spfde_keras.updaters import MESTEM, MESTEMS, Moment
from tests.updaters.mutations import mutate


def test_em_drops_by_weight_and_gradient(kernel, make_mask, rng):
    """With lam = 1 the importances of the two smallest weights become 11 and 2."""
    gradient = np.zeros((4, 4), np.float32)
    gradient[0, 0] = -10
    mask = make_mask(kernel)
    mutate(MESTEM(mutation=0.25, lam=1.0), Moment.SETTLE, mask.subnets[0], 0.0, rng, gradient)
    assert mask.density == 0.5
    sparser = dataclasses.replace(mask.subnets[0], sparsity=0.625)
    mutate(MESTEM(mutation=0.25, lam=1.0), Moment.SETTLE, sparser, 0.0, rng, gradient)
    # Importances 11, 2, 3, 4 ...: 2 and 3 go.
    assert mask.read()[0].tolist() == [[1, 0, 0, 0], [0, 0, -4, 0], [0, 5, 0, -6], [0, 0, 7, 8]]


@pytest.mark.parametrize("updater", [MESTEM, MESTEMS])
@pytest.mark.parametrize("lam", [0.01, 1.0])
def test_of_equal_weights_the_one_with_the_smaller_gradient_goes(updater, lam, make_mask, rng):
    kernel = np.array([[1, -1], [1, 1]], np.float32)
    gradient = np.array([[0.5, -0.7], [0.2, 0.6]], np.float32)
    for sparsity, dropped in ((0.25, [[1, 0]]), (0.5, [[0, 0], [1, 0]])):
        mask = make_mask(kernel, sparsity)
        mutate(updater(lam=lam), Moment.SETTLE, mask.subnets[0], 0.0, rng, gradient)
        assert np.argwhere(~mask.read()[1][0]).tolist() == dropped


def test_with_lam_0_the_gradient_does_not_count(kernel, make_mask, rng):
    gradient = np.zeros((4, 4), np.float32)
    gradient[0, 0] = 100
    mask = make_mask(kernel, sparsity=0.75)
    mutate(MESTEM(lam=0.0), Moment.SETTLE, mask.subnets[0], 0.0, rng, gradient)
    assert np.abs(mask.read()[0][mask.read()[1][0]]).tolist() == [5, 6, 7, 8]


def test_em_drops_first_and_grows_as_many(kernel, make_mask, rng):
    mask = make_mask(kernel)
    mutate(
        MESTEM(mutation=0.5), Moment.UPDATE, mask.subnets[0], 0.0, rng, np.zeros((4, 4), np.float32)
    )
    after, masks = mask.read()
    assert masks.sum() == 8
    large = np.abs(kernel) > 4
    np.testing.assert_array_equal(after[large], kernel[large])
    assert masks[0][large].all()


def test_em_follows_the_papers_schedule():
    """Sparsities 0.92, 0.91, 0.90 after dropping, switching at epochs 90 and 120 of 160."""
    for epoch, drop_to in ((0, 0.08), (89, 0.08), (90, 0.09), (119, 0.09), (120, 0.1), (160, 0.1)):
        assert MESTEM().densities(epoch / 160, 0.1) == pytest.approx((drop_to, 0.1))


def test_ems_follows_the_papers_schedule():
    """Grows to sparsities 0.85, 0.875, 0.90, switching at epochs 90 and 120 of 160."""
    for epoch, grow_to in ((0, 0.15), (89, 0.15), (90, 0.125), (119, 0.125), (120, 0.1)):
        assert MESTEMS().densities(epoch / 160, 0.1) == pytest.approx((0.1, grow_to))


def test_ems_trains_denser_between_updates_and_settles_at_its_density(kernel, make_mask):
    updater = MESTEMS(bound=0.25)
    mask = make_mask(kernel)
    rng = np.random.default_rng(0)
    change = mutate(updater, Moment.START, mask.subnets[0], 0.0, rng)
    assert mask.density == 0.75
    np.testing.assert_array_equal(mask.read()[0], kernel)
    assert change.fresh.sum() == 4 and change.overlap == 1.0

    # Training moves grown weights; the four least important of the twelve go again.
    trained, masks = map(np.copy, mask.read())
    grown = np.argwhere(change.fresh)
    trained[tuple(grown[0])], trained[tuple(grown[1])] = 10, -9
    trained[tuple(grown[2])], trained[tuple(grown[3])] = 0.5, 0.25
    mask.write(trained, masks)
    mutate(updater, Moment.UPDATE, mask.subnets[0], 0.25, rng, np.zeros((4, 4), np.float32))
    after, masks = mask.read()
    assert masks.sum() == 12
    assert np.abs(after[after != 0]).tolist().count(0.5) <= 1
    assert sorted(np.abs(after[np.abs(after) > 2])) == [3, 4, 5, 6, 7, 8, 9, 10]

    mutate(updater, Moment.SETTLE, mask.subnets[0], 1.0, rng, np.zeros((4, 4), np.float32))
    assert mask.density == 0.5
    np.testing.assert_array_equal(mask.read()[0] != 0, mask.read()[1][0])


@pytest.mark.parametrize("stop", [0.5, 0.75, 1.0])
def test_a_constant_bound_ends_at_stop(stop, kernel, make_mask, rng):
    updater = MESTEMS(bound=0.25, stop=stop)
    mask = make_mask(kernel)
    mutate(updater, Moment.START, mask.subnets[0], 0.0, rng)
    mutate(updater, Moment.UPDATE, mask.subnets[0], stop, rng, np.zeros((4, 4), np.float32))
    assert mask.density == 0.5


def test_the_bound_is_at_most_the_density_itself_and_density_at_most_1():
    assert MESTEMS(bound=0.05).densities(0.0, 0.02) == (0.02, 0.04)
    assert MESTEMS(bound=0.5).densities(0.0, 0.8) == (0.8, 1.0)


def test_they_ask_for_the_gradient_of_existing_weights_only():
    assert MESTEM().gradient == MESTEMS().gradient == "masked"


@pytest.mark.parametrize("updater", [MESTEM, MESTEMS])
def test_arguments_out_of_range_are_refused(updater):
    with pytest.raises(ValueError, match="`lam` must be .* of at least 0. Received: -1"):
        updater(lam=-1)
    with pytest.raises(ValueError, match=r"`stop` must be a number in \(0, 1\]. Received: 1.5"):
        updater(stop=1.5)
    with pytest.raises(ValueError, match=r"must be in \[0, 1\].*Received: "):
        updater(-0.1)
    with pytest.raises(ValueError, match=r"must be in \[0, 1\].*Received: "):
        updater(schedules.Step((0.1, 1.2), (0.99,)))
