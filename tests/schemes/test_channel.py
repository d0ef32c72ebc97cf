import numpy as np
import pytest

from spfde_keras.layout import KernelLayout
from spfde_keras.schemes import Channel, Filter

RNG = np.random.default_rng(0)

# Rows are inputs, columns outputs.
ELEMENTS = np.array(
    [
        [3, 0, 0, 4],
        [0, 6, 0, 0],
        [0, 0, 0, 1],
        [0, 8, 0, 0],
    ],
    np.float32,
)[None]


def mask_of(scheme, count):
    units = scheme.select(scheme.scores(ELEMENTS), count, ELEMENTS.shape, rng=RNG)
    return scheme.expand(units, ELEMENTS.shape)[0].astype(int).tolist()


def test_channels_are_whole_inputs():
    assert Channel().scores(ELEMENTS).tolist() == [5, 6, 1, 8]
    assert mask_of(Channel(), 2) == [[0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1]]


def test_filters_are_whole_outputs():
    np.testing.assert_allclose(Filter().scores(ELEMENTS), [3, 10, 0, 17**0.5], rtol=1e-6)
    assert mask_of(Filter(), 2) == [[0, 1, 0, 1]] * 4


def test_units_span_all_positions():
    elements = np.zeros((9, 2, 3), np.float32)
    elements[[0, 8], 1, 2] = [3, 4]
    assert Channel().scores(elements).tolist() == [0, 5]
    assert Filter().scores(elements).tolist() == [0, 0, 5]
    assert Channel().expand(np.array([False, True]), elements.shape)[:, 1].all()


def test_count_is_of_channels():
    layout = KernelLayout((3, 3, 20, 8), spatial=(0, 1), inputs=(2,), outputs=(3,))
    assert Channel().count(layout, 0.1) == 2
    assert Filter().count(layout, 0.5) == 4
    assert Filter().count(layout, 0.01) == 1


def test_refuses_kernels_with_nothing_to_choose_from():
    depthwise = KernelLayout((3, 3, 8, 1), spatial=(0, 1), inputs=(), outputs=(2, 3))
    with pytest.raises(ValueError, match="2 inputs.*'dw/kernel' with 1 input.*`dense=`"):
        Channel().validate(depthwise, "dw/kernel", 0.5)
    Filter().validate(depthwise, "dw/kernel", 0.5)

    single = KernelLayout((8, 1), spatial=(), inputs=(0,), outputs=(1,))
    with pytest.raises(ValueError, match="2 outputs.*'head/kernel' with 1 output.*`dense=`"):
        Filter().validate(single, "head/kernel", 0.5)
    Channel().validate(single, "head/kernel", 0.5)
