import dataclasses

import numpy as np
import pytest

from spfde_keras.layout import KernelLayout

DENSE = KernelLayout((2, 3), spatial=(), inputs=(0,), outputs=(1,))
CONV = KernelLayout((3, 2, 4, 5), spatial=(0, 1), inputs=(2,), outputs=(3,))
DEPTHWISE = KernelLayout((3, 3, 4, 2), spatial=(0, 1), inputs=(), outputs=(2, 3))
TRANSPOSED = KernelLayout((2, 2, 5, 3), spatial=(0, 1), inputs=(3,), outputs=(2,))
# Sorted by a cycle of three axes, which is not its own inverse.
TURNED = KernelLayout((4, 2, 3), spatial=(1,), inputs=(2,), outputs=(0,))
HEADS = KernelLayout((2, 3, 4), spatial=(), inputs=(0, 1), outputs=(2,))


@pytest.mark.parametrize(
    ("layout", "canonical", "spatial"),
    [
        (DENSE, (1, 2, 3), ()),
        (CONV, (6, 4, 5), (3, 2)),
        (DEPTHWISE, (9, 1, 8), (3, 3)),
        (TRANSPOSED, (4, 3, 5), (2, 2)),
        (HEADS, (1, 6, 4), ()),
        (TURNED, (2, 3, 4), (2,)),
    ],
)
def test_shapes(layout, canonical, spatial):
    assert layout.canonical_shape == canonical
    assert layout.spatial_shape == spatial
    assert layout.size == np.prod(canonical)


def test_a_dense_kernel_is_one_position():
    kernel = np.array([[1, 2, 3], [4, 5, 6]])
    assert DENSE.to_canonical(kernel).tolist() == [[[1, 2, 3], [4, 5, 6]]]


def test_each_weight_of_a_convolution_finds_its_place():
    kernel = np.arange(CONV.size).reshape(CONV.shape)
    canonical = CONV.to_canonical(kernel)
    # Row 1, column 1 of 3x2 positions is number 3.
    assert canonical[3, 2, 4] == kernel[1, 1, 2, 4]


def test_outputs_of_a_depthwise_convolution_are_inputs_times_multiplier():
    kernel = np.arange(DEPTHWISE.size).reshape(DEPTHWISE.shape)
    assert DEPTHWISE.to_canonical(kernel)[4, 0, 2 * 3 + 1] == kernel[1, 1, 3, 1]


def test_inputs_and_outputs_may_change_places():
    kernel = np.arange(TRANSPOSED.size).reshape(TRANSPOSED.shape)
    assert TRANSPOSED.to_canonical(kernel)[1, 2, 4] == kernel[0, 1, 4, 2]


@pytest.mark.parametrize("layout", [DENSE, CONV, DEPTHWISE, TRANSPOSED, HEADS, TURNED])
@pytest.mark.parametrize("dtype", [np.float32, bool])
def test_both_ways_give_the_kernel_back(layout, dtype):
    kernel = np.random.default_rng(0).random(layout.shape).round().astype(dtype)
    back = layout.from_canonical(layout.to_canonical(kernel))
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, kernel)


def test_a_kernel_in_order_is_not_copied():
    kernel = np.zeros(CONV.shape)
    assert np.shares_memory(CONV.to_canonical(kernel), kernel)


@pytest.mark.parametrize("axes", [((), (0,), ()), ((0,), (0,), (1,)), ((), (0,), (2,))])
def test_axes_must_be_named_once_each(axes):
    with pytest.raises(ValueError, match=r"each axis of `shape` once. Received: shape=\(4, 4\)"):
        KernelLayout((4, 4), *axes)


def test_it_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        DENSE.shape = (3, 2)
