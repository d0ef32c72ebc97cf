"""Masks by themselves: what they keep, store and refuse, and in which order they are found."""

import keras
import numpy as np
import pytest

from spfde_keras import layers
from spfde_keras.layout import KernelLayout
from spfde_keras.masking import Mask, check_sparsity, find_masks
from spfde_keras.schemes import Block


def dense(scheme="unstructured", sparsity=0.5, units=2, inputs=2):
    layer = layers.MaskedDense(units, scheme=scheme, sparsity=sparsity, name="fc")
    layer.build((None, inputs))
    return layer


def test_layout_puts_positions_inputs_outputs_in_order():
    # A transposed convolution: (rows, columns, outputs, inputs).
    layout = KernelLayout((2, 3, 5, 4), spatial=(0, 1), inputs=(3,), outputs=(2,))
    assert layout.spatial_shape == (2, 3)
    assert layout.canonical_shape == (6, 4, 5)
    assert layout.size == 120
    kernel = np.arange(120).reshape(layout.shape)
    canonical = layout.to_canonical(kernel)
    # Position (1, 2) is the sixth; input 3, output 4.
    assert canonical[5, 3, 4] == kernel[1, 2, 4, 3]
    np.testing.assert_array_equal(layout.from_canonical(canonical), kernel)


@pytest.mark.parametrize("axes", [((0,), (1,), ()), ((0,), (1,), (1, 2)), ((), (0, 1), (3,))])
def test_layout_must_name_each_axis_once(axes):
    with pytest.raises(ValueError, match="each axis of `shape` once"):
        KernelLayout((2, 3, 4), *axes)


def test_new_mask_keeps_everything():
    mask = dense().masks[0]
    kernel, masks = mask.read()
    assert masks.shape == (1, 2, 2) and masks.dtype == bool and masks.all()
    assert mask.density == 1.0
    assert mask.kernel_path == "fc/kernel"
    np.testing.assert_array_equal(kernel, mask.kernel.numpy())


def test_write_zeroes_what_no_mask_keeps():
    mask = dense().masks[0]
    mask.write(np.array([[1.0, 2.0], [3.0, np.nan]]), np.array([[[True, False], [True, False]]]))
    kernel, masks = mask.read()
    np.testing.assert_array_equal(kernel, [[1, 0], [3, 0]])
    np.testing.assert_array_equal(masks, [[[True, False], [True, False]]])
    assert mask.density == 0.5


def test_call_selects_and_does_not_multiply():
    mask = dense().masks[0]
    mask.values.assign([[[True, False], [False, True]]])
    masked = mask(np.array([[1.0, np.inf], [np.nan, 4.0]], "float32"))
    np.testing.assert_array_equal(masked, [[1, 0], [0, 4]])


def test_initialize_keeps_the_best_whole_units():
    mask = dense(Block(outputs=2), units=4, inputs=2).masks[0]
    scores = np.array([[9.0, 0.0, 1.0, 1.0], [5.0, 5.0, 2.0, 2.0]])
    mask.initialize(scores, 0.5)
    # Norms of the blocks of 2 outputs: 9, 1.4 / 7.1, 2.8.
    np.testing.assert_array_equal(mask.read()[1], [[[1, 1, 0, 0], [1, 1, 0, 0]]])
    assert mask.count(0.5) == 2


def test_only_the_kernel_trains():
    layer = dense()
    assert [variable.path for variable in layer.trainable_variables] == ["fc/kernel", "fc/bias"]
    assert len({id(v) for v in layer.variables}) == len(layer.variables) == 3
    layer.trainable = False
    layer.trainable = True
    assert len(layer.trainable_variables) == 2


@pytest.mark.parametrize("sparsity", [0, 0.0, 0.5, 0.999, np.float32(0.25)])
def test_check_sparsity_accepts(sparsity):
    checked = check_sparsity(sparsity)
    assert type(checked) is float and checked == sparsity


@pytest.mark.parametrize("sparsity", [1, 1.0, 1.2, -0.1, "a", True, None, float("nan"), [0.5]])
def test_check_sparsity_refuses(sparsity):
    with pytest.raises(ValueError, match=r"`sparsity` must be .*\[0, 1\)\. Received: "):
        check_sparsity(sparsity)


def test_masks_are_found_in_the_models_order():
    inputs = keras.Input((4, 8))
    inner_inputs = keras.Input((4, 8))
    x = layers.MaskedDense(8, name="inner_1")(inner_inputs)
    x = layers.MaskedMultiHeadAttention(2, 4, name="attention")(x, x)
    inner = keras.Model(inner_inputs, layers.MaskedDense(8, name="inner_2")(x), name="inner")
    x = layers.MaskedDense(8, name="front")(inputs)
    x = inner(inner(x))
    model = keras.Model(inputs, layers.MaskedDense(2, name="back")(x))
    assert [mask.kernel_path for mask in find_masks(model)] == [
        "front/kernel",
        "inner_1/kernel",
        "attention/query/kernel",
        "attention/key/kernel",
        "attention/value/kernel",
        "attention/attention_output/kernel",
        "inner_2/kernel",
        "back/kernel",
    ]
    assert all(isinstance(mask, Mask) for mask in find_masks(model))
    assert find_masks(keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])) == []
