"""Shares given as per cent are refused with the share that was meant."""

import keras
import numpy as np
import pytest

from spfde_keras import DataSieve, Freezing, SpFDE, sparsify


def net():
    dense = [keras.layers.Dense(4) for _ in range(3)]
    return keras.Sequential([keras.Input((4,)), *dense])


@pytest.mark.parametrize(
    "make",
    [
        lambda: sparsify(net(), 20),
        lambda: sparsify(net(), [0.5, 20]),
        lambda: DataSieve((np.zeros((10, 4)), np.zeros(10)), fraction=20),
        lambda: SpFDE(freeze=20),
        lambda: Freezing(20),
    ],
)
def test_the_share_that_was_meant_is_told(make):
    with pytest.raises(ValueError, match=r"Received: 20; 20 % is 0\.2$"):
        make()


def test_other_numbers_are_no_per_cent():
    with pytest.raises(ValueError, match=r"Received: -1$"):
        sparsify(net(), -1)
