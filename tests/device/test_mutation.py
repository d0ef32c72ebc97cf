"""Masks in a file change as `carry_out` changes them, with the same numbers drawn."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import spfde_keras
from spfde_keras.device import shares
from spfde_keras.device.contents import contents_of, kernels_of
from spfde_keras.device.cutting import parts_of
from spfde_keras.device.mutation import Mutable, Mutations
from spfde_keras.masking import find_masks
from spfde_keras.updaters import MESTEM, MESTEMS, SET, Moment, carry_out

UPDATERS = [SET(0.3), MESTEM(mutation=0.25, lam=0.5), MESTEMS(bound=0.1, lam=0.5)]
SIZE = 96


def numbers(seed):
    rng = np.random.default_rng(seed)
    return np.concatenate([each.random(SIZE, np.float32) for each in (rng, *rng.spawn(1))])


class Case:
    """A kernel of 96 weights, a quarter of them kept, and what a file stores of it."""

    def __init__(self, updater, density=0.25):
        keras.utils.set_random_seed(0)
        layers = [keras.Input((8,)), keras.layers.Dense(12, use_bias=False, name="d")]
        self.model = spfde_keras.sparsify(keras.Sequential(layers, name="net"), 0.75, dense=())
        ((kernel,),) = (mask.subnets for mask in find_masks(self.model))
        rng = np.random.default_rng(0)
        if density != 0.25:
            kernel.initialize(rng.random((8, 12)), density, rng)
        contents = contents_of(self.model, parts_of(spfde_keras.densify(self.model), None), updater)
        (self.stored,), (self.kernel,) = contents.stored, kernels_of(self.model).values()
        self.mutations = Mutations(updater, [Mutable(self.stored, self.kernel, 0, {"slot": 0.5})])
        self.read = {name: tf.constant(value) for name, value in contents.initial.items()}
        self.read["slot"] = tf.ones(self.stored.size)

    def change(self, share, random, gradient):
        gradients = {self.stored.name: self.stored.packed(tf.constant(gradient), self.read)}
        gradients = gradients if shares.gradient_weight(self.mutations.updater) else {}
        new, (stayed,) = self.mutations.change(
            tf.constant([share], tf.float32), tf.constant(random), gradients, self.read
        )
        self.read = new
        return float(stayed)

    @property
    def weights(self):
        return np.asarray(self.stored.whole(self.read[self.stored.name], self.read))

    @property
    def mask(self):
        kept = np.zeros(SIZE + 1, bool)
        kept[self.read[self.stored.name_of_places]] = True
        return kept[:-1].reshape(8, 12)


@pytest.mark.parametrize("updater", UPDATERS, ids=lambda updater: type(updater).__name__)
def test_masks_and_weights_are_those_of_carry_out(updater):
    case, random = Case(updater), np.random.default_rng(1)
    for event in range(4):
        # Many equal weights, so that ties are broken.
        gradient = random.integers(3, size=(8, 12)).astype("float32")
        before = case.mask
        stayed = case.change(shares.share(updater, 0.0), numbers(event), gradient)
        plan = updater.plan(Moment.UPDATE, 0.0, 0.25)
        change = carry_out(
            plan, updater, case.kernel, np.random.default_rng(event), gradient * before
        )
        weights, mask = case.kernel.read()
        np.testing.assert_array_equal(case.mask, mask)
        np.testing.assert_array_equal(case.weights, weights)
        assert stayed == pytest.approx(change.overlap)
    assert 0 < stayed < 1


def test_slots_of_weights_that_start_over_have_their_first_value():
    case = Case(UPDATERS[0])
    before = case.mask
    case.change(0.3, numbers(0), np.zeros((8, 12), "float32"))
    slots = np.asarray(case.stored.whole(case.read["slot"], case.read))
    np.testing.assert_array_equal(slots[case.mask & before], 1)
    np.testing.assert_array_equal(slots[case.mask & ~before], 0.5)
    assert (case.mask & ~before).any()


def test_a_share_below_zero_leaves_masks_and_one_of_zero_settles_them():
    case, still = Case(MESTEMS(bound=0.1)), np.zeros((8, 12), "float32")
    case.change(0.1, numbers(0), still)
    opened = case.mask
    assert np.count_nonzero(opened) == round(0.35 * SIZE)
    assert case.change(-1, numbers(1), still) == 1
    np.testing.assert_array_equal(case.mask, opened)
    case.change(0, numbers(2), still)
    assert np.count_nonzero(case.mask) == SIZE // 4


def test_gradients_that_are_not_finite_do_not_decide():
    case = Case(MESTEM(mutation=0.25, lam=0.5))
    case.change(0.25, numbers(0), np.full((8, 12), np.nan, "float32"))
    other = Case(MESTEM(mutation=0.25, lam=0.0))
    other.change(0.25, numbers(0), np.zeros((8, 12), "float32"))
    np.testing.assert_array_equal(case.mask, other.mask)


@pytest.mark.parametrize("share, allowed", [(0.1, 1), (-1, 1), (0.2, 0), (np.nan, 0)])
def test_there_is_room_for_the_largest_bound(share, allowed):
    case = Case(MESTEMS(bound=0.1))
    assert case.stored.size == round(0.35 * SIZE) and case.stored.has_room
    assert bool(case.mutations.allows(tf.constant([share], tf.float32))) == allowed


@pytest.mark.parametrize("name", ["rigl", "magnitude", "granet", "dsr"])
def test_updaters_that_a_device_cannot_do_are_refused(name):
    with pytest.raises(ValueError, match='`updater` must be None, or one of "set", "mest_em"'):
        shares.get(name)


def test_static_masks_change_nothing():
    assert shares.get(None) is None and shares.get("static") is None


@pytest.mark.parametrize("updater", [MESTEMS(bound=0.1), SET(fraction=0.3)])
def test_a_kernel_that_is_denser_than_it_is_to_be_can_shrink(updater):
    """As of a state within a soft bound: what is stored for no weight has a place, too."""
    case = Case(updater, density=0.75)
    assert case.stored.size == round(0.75 * SIZE)
    case.change(0.1, numbers(0), np.zeros((8, 12), "float32"))
    weights, places = case.weights, case.read[case.stored.name_of_places]
    assert case.stored.nowhere in np.asarray(places)
    assert np.count_nonzero(case.mask) < 0.5 * SIZE
    packed = np.asarray(case.stored.packed(tf.constant(weights), case.read))
    assert packed.size == case.stored.size
    np.testing.assert_array_equal(packed[np.asarray(places) == case.stored.nowhere], 0)
