"""A kernel small enough to follow by eye."""

import numpy as np
import pytest

from spfde_keras.layers import MaskedDense


@pytest.fixture
def kernel():
    """Eight of 4x4 weights kept, of sizes 1 to 8."""
    return np.array([[1, -2, 0, 0], [3, 0, -4, 0], [0, 5, 0, -6], [0, 0, 7, 8]], np.float32)


@pytest.fixture
def make_mask():
    """Makes the `Mask` of a dense layer whose kernel is kept where it is not zero."""

    def make(kernel, sparsity=0.5, scheme="unstructured"):
        layer = MaskedDense(kernel.shape[1], use_bias=False, scheme=scheme, sparsity=sparsity)
        layer.build((None, kernel.shape[0]))
        mask = layer.masks[0]
        mask.write(kernel, (kernel != 0)[None])
        return mask

    return make


@pytest.fixture
def rng():
    return np.random.default_rng(0)
