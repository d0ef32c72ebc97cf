import numpy as np
import pytest

from spfde_keras.updaters import ACDC, Moment
from tests.updaters.mutations import mutate


def test_phases_of_the_paper():
    # Of 100 epochs: 10 dense, then 5 sparse, 5 dense, ..., sparse from 80 on.
    sparse = [epoch for epoch in range(0, 100, 5) if ACDC().densities(epoch / 100, 0.1)[1] == 0.1]
    assert sparse == [10, 20, 30, 40, 50, 60, 70, 80, 85, 90, 95]


@pytest.mark.parametrize("epochs", [20, 60, 160, 1000])
def test_phases_change_in_time_whatever_the_length(epochs):
    updater = ACDC(warm_up=0.1, phase=0.05)
    phase = epochs // 20
    seen = [updater.densities(epoch / epochs, 0.1)[1] for epoch in range(0, epochs, phase)]
    assert seen == [1.0, 1.0] + [0.1, 1.0] * 7 + [0.1] * 4


def test_the_largest_stay_and_the_others_come_back_at_zero(make_mask, rng):
    kernel = np.arange(1, 17, dtype=np.float32).reshape(4, 4)
    mask = make_mask(kernel, sparsity=0.75)
    updater = ACDC(warm_up=0.2, phase=0.2, stop=0.9)
    for t, kept in ((0.0, 16), (0.2, 4), (0.4, 16), (0.6, 4), (0.9, 4)):
        mutate(updater, Moment.UPDATE, mask.subnets[0], t, rng)
        after, masks = mask.read()
        assert np.count_nonzero(masks) == kept
        np.testing.assert_array_equal(after, np.where(kernel > 12, kernel, kernel * (t < 0.2)))


def test_what_is_out_of_order_is_refused():
    with pytest.raises(ValueError, match=r"`warm_up` must be a number in \[0, 0.5\)"):
        ACDC(warm_up=0.5, stop=0.5)
