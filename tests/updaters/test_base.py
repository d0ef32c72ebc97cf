"""What all updaters share: the loop of dropping and growing, names, configurations."""

import json

import keras
import numpy as np
import pytest

from spfde_keras import schedules, updaters
from spfde_keras.updaters import MESTEM, MESTEMS, SET, Magnitude, Moment, RigL, Static, Updater
from spfde_keras.updaters.prune_and_regrow import PruneAndRegrow
from tests.updaters.mutations import mutate


class DropOnly(Updater):
    """Keeps three quarters of the density, and grows nothing."""

    def densities(self, t, density):
        return 0.75 * density, 0.75 * density


class ByPosition(Updater):
    """Exchanges half of the weights; later positions grow first."""

    def densities(self, t, density):
        return density / 2, density

    def grow_scores(self, kernel, gradient, rng):
        return np.arange(kernel.size, dtype=np.float32).reshape(kernel.shape)


def test_the_smallest_weights_are_dropped(kernel, make_mask, rng):
    mask = make_mask(kernel)
    change = mutate(DropOnly(), Moment.UPDATE, mask.subnets[0], 0.0, rng)
    after, masks = mask.read()
    assert after.tolist() == [[0, 0, 0, 0], [3, 0, -4, 0], [0, 5, 0, -6], [0, 0, 7, 8]]
    np.testing.assert_array_equal(masks, [after != 0])
    assert np.argwhere(change.fresh).tolist() == [[0, 0], [0, 1]]
    assert change.overlap == 0.75


def test_weights_grow_at_zero_and_one_that_comes_straight_back_is_unchanged(kernel, make_mask, rng):
    mask = make_mask(kernel)
    kernel[3, 3] = 0.5  # The smallest, at the position that grows first.
    mask.write(kernel, (kernel != 0)[None])
    change = mutate(ByPosition(), Moment.UPDATE, mask.subnets[0], 0.0, rng)
    after, masks = mask.read()
    # 0.5, 1, 2 and 3 go; the last four positions not among the kept come.
    assert masks[0].astype(int).tolist() == [
        [0, 0, 0, 0],
        [0, 0, 1, 0],
        [0, 1, 1, 1],
        [1, 1, 1, 1],
    ]
    assert after.tolist() == [[0, 0, 0, 0], [0, 0, -4, 0], [0, 5, 0, -6], [0, 0, 7, 0.5]]
    assert np.argwhere(change.fresh).tolist() == [[0, 0], [0, 1], [1, 0], [2, 2], [3, 0], [3, 1]]
    assert change.overlap == 5 / 8


def test_what_an_optimizer_left_behind_the_mask_neither_competes_nor_comes_back(
    kernel, make_mask, rng
):
    mask = make_mask(kernel)
    mask.kernel.assign(np.where(kernel == 0, 100, kernel))
    mutate(ByPosition(), Moment.UPDATE, mask.subnets[0], 0.0, rng)
    assert mask.read()[0].tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 5, 0, -6], [0, 0, 7, 8]]


def test_importance_is_size(kernel):
    np.testing.assert_array_equal(DropOnly().drop_scores(kernel, None), np.abs(kernel))


def test_settling_drops_to_the_final_density_and_grows_nothing(kernel, make_mask, rng):
    mask = make_mask(kernel, sparsity=0.75)
    mutate(ByPosition(), Moment.SETTLE, mask.subnets[0], 0.0, rng)
    assert mask.read()[0].tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 5, 0, -6], [0, 0, 7, 8]]


def test_an_update_that_changes_nothing_says_so(kernel, make_mask, rng):
    mask = make_mask(kernel)
    change = mutate(Static(), Moment.UPDATE, mask.subnets[0], 0.5, rng)
    assert not change.fresh.any() and change.fresh.shape == (4, 4)
    assert change.overlap == 1.0


@pytest.mark.parametrize(
    ("identifier", "kind"),
    [
        (None, Static),
        ("static", Static),
        ("set", SET),
        ("rigl", RigL),
        ("mest_em", MESTEM),
        ("mest_ems", MESTEMS),
        ("magnitude", Magnitude),
        ("prune_and_regrow", PruneAndRegrow),
    ],
)
def test_get_by_name(identifier, kind):
    assert type(updaters.get(identifier)) is kind


def test_get_returns_an_updater_as_it_is():
    updater = SET(0.5)
    assert updaters.get(updater) is updater


@pytest.mark.parametrize("identifier", ["", "RigL", 3, ["set"], SET])
def test_get_refuses_unknown_identifiers(identifier):
    with pytest.raises(ValueError, match="`updater` must be an Updater, .*'mest_ems'.*Received: "):
        updaters.get(identifier)


TIMES = np.linspace(0, 1, 33)


@pytest.mark.parametrize(
    "updater",
    [
        Static(),
        SET(),
        SET(schedules.Cosine(0.5, end=0.6), stop=0.6),
        RigL(),
        RigL(0.1, stop=0.5),
        MESTEM(),
        MESTEM(0.25, lam=0.5, stop=1.0),
        MESTEMS(),
        MESTEMS(schedules.Polynomial(0.1, 0.0, power=2.0), lam=0.0),
        Magnitude(),
        Magnitude(0.25, 0.5),
        PruneAndRegrow(),
        PruneAndRegrow(0.4, 0.2, end=0.5, stop=0.8),
    ],
    ids=lambda updater: type(updater).__name__,
)
def test_a_restored_updater_behaves_equally(updater):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(updater)))
    restored = updaters.get(config)
    assert type(restored) is type(updater)
    assert keras.saving.serialize_keras_object(restored) == config
    assert restored.stop == updater.stop
    for t in TIMES:
        for moment in Moment:
            assert restored.plan(moment, t, 0.1) == updater.plan(moment, t, 0.1)
    ones = np.ones((1, 2, 2), np.float32)
    np.testing.assert_array_equal(restored.drop_scores(ones, ones), updater.drop_scores(ones, ones))


@pytest.mark.parametrize("name", updaters.names())
def test_plans_are_final_from_stop_on_and_never_below_before(name):
    updater = updaters.get(name)
    for t in TIMES:
        planned = updater.plan(Moment.UPDATE, t, 0.1)
        assert 0 < planned.drop_to <= planned.grow_to <= 1
        assert planned.density == planned.grow_to >= 0.1 - 1e-12
        assert planned.gradient == updater.gradient
        if t >= updater.stop:
            assert (planned.drop_to, planned.grow_to) == pytest.approx((0.1, 0.1))


@pytest.mark.parametrize("name", updaters.names())
def test_a_start_comes_from_either_side_and_settling_grows_nothing(name):
    updater = updaters.get(name)
    start, settled = (updater.plan(moment, 0.0, 0.1) for moment in (Moment.START, Moment.SETTLE))
    dropped, first = updater.densities(0.0, 0.1)
    assert (start.drop_to, start.density, start.gradient, start.at_random) == (
        first,
        first,
        None,
        True,
    )
    # What never grows does not grow at the start.
    assert start.grow_to == (first if first > dropped else None)
    assert not settled.at_random
    assert (settled.drop_to, settled.grow_to, settled.density) == (0.1, None, 0.1)
    # A dense gradient says what to grow only.
    assert settled.gradient == ("masked" if updater.gradient == "masked" else None)
