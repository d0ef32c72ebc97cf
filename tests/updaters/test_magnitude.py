import numpy as np
import pytest

from spfde_keras.updaters import Magnitude, Moment
from tests.updaters.mutations import mutate


def test_the_density_falls_on_a_cubic():
    updater = Magnitude(begin=0.0, stop=1.0)
    for t, density in ((0, 1.0), (0.25, 0.1 + 0.9 * 27 / 64), (0.5, 0.1 + 0.9 / 8), (1, 0.1)):
        assert updater.densities(t, 0.1) == pytest.approx((density, density))


def test_it_starts_at_begin_and_ends_at_stop():
    updater = Magnitude(begin=0.2, stop=0.6)
    for t, density in ((0, 1), (0.2, 1), (0.4, 0.2 + 0.8 / 8), (0.6, 0.2), (1, 0.2)):
        assert updater.plan(Moment.UPDATE, t, 0.2).density == pytest.approx(density)


def test_the_smallest_weights_go_and_nothing_grows(make_mask, rng):
    kernel = np.arange(1, 17, dtype=np.float32).reshape(4, 4)
    mask = make_mask(kernel, sparsity=0.75)
    updater = Magnitude(stop=1.0)
    assert not mutate(updater, Moment.START, mask.subnets[0], 0.0, rng).fresh.any()
    # At half time 0.25 + 0.75 / 8 = 0.34375 of 16 weights: 5.5, to even 6.
    for t, kept in ((0.5, 6), (0.75, 4), (1.0, 4)):
        mutate(updater, Moment.UPDATE, mask.subnets[0], t, rng)
        after, masks = mask.read()
        np.testing.assert_array_equal(masks[0], kernel > 16 - kept)
        np.testing.assert_array_equal(after, np.where(masks[0], kernel, 0))


def test_it_starts_dense_and_needs_no_gradient():
    assert Magnitude().initial == "dense"
    assert Magnitude().gradient is None


def test_spans_out_of_order_are_refused():
    with pytest.raises(ValueError, match=r"`begin` must be a number in \[0, 0.5\)"):
        Magnitude(begin=0.5, stop=0.5)
    with pytest.raises(ValueError, match=r"`stop` must be a number in \(0, 1\]. Received: 1.5"):
        Magnitude(stop=1.5)
