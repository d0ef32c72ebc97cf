"""Methods that divide the weights of all kernels anew."""

import keras
import numpy as np
import pytest

from spfde_keras import SpFDE, sparsify
from spfde_keras.updaters import DSR, GlobalMagnitude, GraNet
from spfde_keras.updaters.allocation import by_magnitude


@pytest.fixture
def subnets(make_mask):
    """Two kernels of 16 weights with 8 kept each, the second one's small."""
    first = np.array([[9, 8, 0, 0], [7, 0, 6, 0], [0, 5, 0, 4], [0, 0, 3, 2]], np.float32)
    second = np.where(first > 0, 0.1 * first + 1, 0)
    return [make_mask(first).subnets[0], make_mask(second).subnets[0]]


def test_a_kernel_gets_what_it_has_of_the_largest(subnets):
    assert by_magnitude(subnets) == [0.5, 0.5]
    # The 8 largest are all in the first; the second keeps one for each output.
    assert by_magnitude(subnets, 0.5) == pytest.approx([12 / 16, 4 / 16])


@pytest.mark.parametrize("updater", [DSR(0.5), GlobalMagnitude(), GraNet()])
def test_the_number_of_weights_stays(updater, subnets):
    densities = updater.allocate(subnets, 0.3, {})
    assert 16 * sum(densities) == pytest.approx(16)


def test_dsr_rests_from_its_stop_on(subnets):
    assert DSR(0.5, stop=0.5).allocate(subnets, 0.5, {}) is None
    assert DSR(1.0).allocate(subnets, 0.1, {}) is None
    assert DSR(0.0).allocate(subnets, 0.1, {}) == [0.5, 0.5]


@pytest.mark.parametrize("updater", ["dsr", "granet", "global_magnitude"])
def test_groups_of_a_fixed_share_are_refused(updater):
    """A 2:4 kernel that is given 0.56 of its weights would keep three of four."""
    layers = [keras.Input((8,)), *(keras.layers.Dense(8) for _ in range(3))]
    model = sparsify(keras.Sequential(layers), scheme="2:4")
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="the share that scheme .* keeps in each group"):
        model.fit(np.zeros((8, 8)), np.zeros((8, 8)), verbose=0, callbacks=[SpFDE(1, updater)])
