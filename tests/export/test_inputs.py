import numpy as np
import pytest

from spfde_keras.export.inputs import fitted


@pytest.mark.parametrize(
    ("given", "dtype"), [(0.5, "uint8"), (300, "uint8"), (2**31, "int32"), (np.nan, "int8")]
)
def test_integers_are_not_made_of_other_numbers(given, dtype):
    with pytest.raises(ValueError, match=f"`x` must hold integers that {dtype} has, for input 'a'"):
        fitted(np.array([1, given]), dtype, "a", "x")
    assert fitted(np.array([1.0, 3.0]), dtype, "a", "x").tolist() == [1, 3]
