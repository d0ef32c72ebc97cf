import numpy as np
import pytest

from spfde_keras.updaters import Moment, RigL
from tests.updaters.mutations import mutate


@pytest.fixture
def gradient():
    """Largest where the kernel is largest, too; -9 and 8 are the largest of the free ones."""
    return np.array([[0, 0, 8, 1], [9, 2, 9, 3], [4, 9, -9, 9], [5, 6, 9, 9]], np.float32)


def test_it_grows_exactly_where_the_gradient_is_largest(kernel, gradient, make_mask, rng):
    mask = make_mask(kernel)
    change = mutate(RigL(fraction=0.25), Moment.UPDATE, mask.subnets[0], 0.0, rng, gradient)
    after, masks = mask.read()
    assert after.tolist() == [[0, 0, 0, 0], [3, 0, -4, 0], [0, 5, 0, -6], [0, 0, 7, 8]]
    assert masks[0].astype(int).tolist() == [
        [0, 0, 1, 0],
        [1, 0, 1, 0],
        [0, 1, 1, 1],
        [0, 0, 1, 1],
    ]
    assert np.argwhere(change.fresh).tolist() == [[0, 0], [0, 1], [0, 2], [2, 2]]


def test_a_dropped_weight_with_the_largest_gradient_keeps_its_value(
    kernel, gradient, make_mask, rng
):
    gradient[0, 0] = -20
    mask = make_mask(kernel)
    change = mutate(RigL(fraction=0.25), Moment.UPDATE, mask.subnets[0], 0.0, rng, gradient)
    assert mask.read()[0][0, 0] == 1
    assert not change.fresh[0, 0]
    assert mask.read()[1][0, 2, 2] and not mask.read()[1][0, 0, 2]


def test_the_claim_to_grow_is_the_size_of_the_gradient(kernel, gradient):
    np.testing.assert_array_equal(RigL().grow_scores(kernel, gradient, None), np.abs(gradient))


def test_it_uses_no_random_numbers(kernel, gradient, make_mask):
    masks = [make_mask(kernel) for _ in range(2)]
    for seed, mask in enumerate(masks):
        mutate(
            RigL(0.5), Moment.UPDATE, mask.subnets[0], 0.0, np.random.default_rng(seed), gradient
        )
    np.testing.assert_array_equal(masks[0].read()[1], masks[1].read()[1])


def test_the_fraction_falls_on_a_cosine_to_0_at_stop():
    updater = RigL(stop=0.5)
    assert updater.densities(0.0, 0.1) == pytest.approx((0.07, 0.1))
    assert updater.densities(0.25, 0.1) == pytest.approx((0.085, 0.1))
    assert updater.densities(0.5, 0.1) == (0.1, 0.1)
    assert updater.densities(0.9, 0.1) == (0.1, 0.1)


def test_it_asks_for_the_dense_gradient():
    assert RigL().gradient == "dense"


def test_stops_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"`stop` must be a number in \(0, 1\]. Received: 0"):
        RigL(stop=0.0)


def test_where_no_gradient_says_which_weights_grow_at_random(kernel, make_mask):
    """A batch may give no gradient at all; the first weights must not always win."""

    def grown(seed):
        mask = make_mask(kernel)
        rng = np.random.default_rng(seed)
        mutate(RigL(0.25), Moment.UPDATE, mask.subnets[0], 0.0, rng, np.zeros((4, 4), np.float32))
        assert mask.read()[1].sum() == 8
        return mask.read()[1][0]

    often = sum(grown(seed).astype(int) for seed in range(200))
    free = make_mask(kernel).read()[1][0] == 0
    # Two of ten: those eight that were free and the two just dropped.
    assert often[free].min() > 15 and often[free].max() < 70
    np.testing.assert_array_equal(grown(3), grown(3))
