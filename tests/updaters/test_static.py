import numpy as np
import pytest

from spfde_keras.updaters import Moment, Static
from tests.updaters.mutations import mutate


@pytest.mark.parametrize("moment", Moment)
def test_nothing_ever_changes(moment, kernel, make_mask, rng):
    mask = make_mask(kernel)
    for t in (0.0, 0.5, 1.0):
        change = mutate(Static(), moment, mask.subnets[0], t, rng)
        assert not change.fresh.any()
    after, masks = mask.read()
    np.testing.assert_array_equal(after, kernel)
    np.testing.assert_array_equal(masks, [kernel != 0])


def test_it_needs_no_gradient_and_rests_from_the_start():
    assert Static().gradient is None
    assert Static().stop == 0.0
