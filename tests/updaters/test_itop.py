import numpy as np
import pytest

from spfde_keras import updaters
from spfde_keras.updaters import ITOP, Moment
from tests.updaters.mutations import mutate


def test_half_are_exchanged_at_first_and_none_at_the_end(kernel, make_mask, rng):
    assert updaters.get("itop").densities(0.0, 0.5) == (0.25, 0.5)
    assert ITOP().densities(0.5, 0.5) == pytest.approx((0.375, 0.5))
    mask = make_mask(kernel)
    before = np.abs(kernel) * mask.read()[1][0]
    mutate(ITOP(), Moment.UPDATE, mask.subnets[0], 0.0, rng)
    after, masks = mask.read()
    largest = before >= np.sort(before[before > 0])[-4]
    assert masks.sum() == 8 and masks[0][largest].all()
    np.testing.assert_array_equal(after[largest], kernel[largest])


def test_masks_change_as_long_as_training_lasts():
    assert ITOP().stop == 1.0
    assert ITOP(0.5, stop=0.5).get_config()["stop"] == 0.5
