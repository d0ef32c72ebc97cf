"""Instruction sets to try, one after the other."""

import numpy as np
import pytest
import tensorflow as tf

from spfde_keras.kernels.library import operators


@pytest.fixture(params=["avx512", "avx2", "sse2", "neon"])
def isa(request):
    """The name of an instruction set that this processor has."""
    try:
        operators().spfde_moments(x=np.ones((1, 1), "float32"), isa=request.param)
    except tf.errors.InvalidArgumentError as error:
        assert f"this processor has no {request.param}" in str(error)
        pytest.skip(f"this processor has no {request.param}")
    return request.param
