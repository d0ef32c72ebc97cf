"""Masks by themselves: what they keep, store and refuse, and in which order they are found."""

import keras
import numpy as np
import pytest

from spfde_keras import layers
from spfde_keras.layout import KernelLayout
from spfde_keras.masking import Mask, check_sparsity, find_masks, subnet_targets
from spfde_keras.schemes import NM, Block, Unstructured
from spfde_keras.subnets import SubnetSwitch


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


def test_what_was_read_is_not_changed_and_cannot_be():
    mask = dense().masks[0]
    kernel, masks = mask.read()
    before = kernel.copy()
    mask.write(kernel + 1, ~masks)
    np.testing.assert_array_equal(kernel, before)
    assert masks.all()
    for array in (kernel, masks):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


@pytest.mark.parametrize("sparsity", [0.5, [0.5, 0.75]])
def test_masks_are_saved_as_bits(sparsity):
    mask = dense(sparsity=sparsity, units=7, inputs=5).masks[0]
    masks = np.random.default_rng(0).random(mask.values.shape) < 0.5
    mask.values.assign(masks)
    store = {}
    mask.save_own_variables(store)
    assert store["bits"].nbytes == -(-masks.size // 8)
    other = dense(sparsity=sparsity, units=7, inputs=5).masks[0]
    other.load_own_variables(store)
    np.testing.assert_array_equal(other.read()[1], masks)
    with pytest.raises(ValueError, match=r"masks of 'fc/kernel' as bool of shape \(1, 2, 2\)"):
        dense().masks[0].load_own_variables(store)


def test_masks_saved_as_bytes_load():
    mask = dense().masks[0]
    mask.load_own_variables({"0": np.array([[[True, False], [False, True]]])})
    assert mask.read()[1].tolist() == [[[True, False], [False, True]]]


def test_another_sparsity_is_saved_and_loaded():
    mask, other = (dense(sparsity=[0.5, 0.75]).masks[0] for _ in range(2))
    mask.retarget(1, 0.25)
    assert [subnet.sparsity for subnet in mask.subnets] == mask.sparsity == [0.5, 0.25]
    store = {}
    mask.save_own_variables(store)
    other.load_own_variables(store)
    assert other.sparsity == [0.5, 0.25]
    with pytest.raises(ValueError, match="`sparsity` must be a number in"):
        mask.retarget(0, 1.0)
    store["targets"] = np.array([0.5, -0.1])
    message = (
        r"must hold a sparsity in \[0, 1\) of 'fc/kernel' for each sub-net. Received: \[0.5, -"
    )
    with pytest.raises(ValueError, match=message):
        other.load_own_variables(store)


def test_call_selects_and_does_not_multiply():
    mask = dense().masks[0]
    mask.values.assign([[[True, False], [False, True]]])
    masked = mask(np.array([[1.0, np.inf], [np.nan, 4.0]], "float32"))
    np.testing.assert_array_equal(masked, [[1, 0], [0, 4]])


def test_initialize_keeps_the_best_whole_units():
    mask = dense(Block(outputs=2), units=4, inputs=2).masks[0]
    scores = np.array([[9.0, 0.0, 1.0, 1.0], [5.0, 5.0, 2.0, 2.0]])
    mask.subnets[0].initialize(scores, 0.5, np.random.default_rng(0))
    # Norms of the blocks of 2 outputs: 9, 1.4 / 7.1, 2.8.
    np.testing.assert_array_equal(mask.read()[1], [[[1, 1, 0, 0], [1, 1, 0, 0]]])
    assert mask.subnets[0].count(0.5) == 2


@pytest.fixture
def two():
    """The weights 1 to 8 of a 4x4 kernel; sub-net 0 has rows 0 and 1, sub-net 1 column 0.

    Behind both masks an optimizer has left 99.
    """
    mask = dense(sparsity=[0.5, 0.75], units=4, inputs=4).masks[0]
    kernel = np.arange(1.0, 17.0).reshape(4, 4)
    masks = np.zeros((2, 4, 4), bool)
    masks[0, :2] = masks[1, :, 0] = True
    mask.write(kernel, masks)
    mask.kernel.assign(np.where(masks.any(axis=0), kernel, 99))
    return mask


def test_a_sub_net_reads_its_own_weights_only(two):
    rows, column = two.subnets
    kernel, kept = rows.read()
    assert kernel.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8], [0, 0, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(kept, kernel != 0)
    kernel, kept = column.read()
    assert kernel.tolist() == [[1, 0, 0, 0], [5, 0, 0, 0], [9, 0, 0, 0], [13, 0, 0, 0]]
    np.testing.assert_array_equal(kept, kernel != 0)
    assert (rows.density, column.density, two.density) == (0.5, 0.25, 0.375)
    assert [subnet.index for subnet in two.subnets] == [0, 1]
    assert column.kernel_path == "fc/kernel" and column.layout is two.layout


def test_replacing_a_mask_leaves_what_another_sub_net_keeps(two):
    rows, column = two.subnets
    kept = np.zeros((4, 4), bool)
    kept[:, 1] = True
    fresh = column.replace(kept)
    # 1 and 5 are left to sub-net 0, whose 2 and 6 sub-net 1 finds as they are; nobody keeps
    # 9 and 13 any more, nobody had what grows in their place.
    kernel, masks = two.read()
    assert kernel.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert np.argwhere(fresh).tolist() == [[2, 0], [2, 1], [3, 0], [3, 1]]
    np.testing.assert_array_equal(masks[1], kept)
    assert masks[0].tolist() == [[True] * 4] * 2 + [[False] * 4] * 2
    assert column.read()[0].tolist() == [[0, 2, 0, 0], [0, 6, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    # Once they have trained, dropping the others' weights does not touch them.
    two.write(kernel + 0.5, masks)
    fresh = rows.replace(np.zeros((4, 4), bool))
    assert two.read()[0].tolist() == [[0, y, 0, 0] for y in (2.5, 6.5, 0.5, 0.5)]
    assert fresh[:2].tolist() == [[True, False, True, True]] * 2 and not fresh[2:].any()


def test_replacing_a_mask_by_itself_changes_nothing(two):
    before = two.subnets[0].read()
    assert not two.subnets[0].replace(before[1]).any()
    np.testing.assert_array_equal(two.subnets[0].read(), before)


def test_projection_keeps_what_any_sub_net_keeps(two):
    two.project()
    kernel = [[1, 2, 3, 4], [5, 6, 7, 8], [9, 0, 0, 0], [13, 0, 0, 0]]
    assert two.read()[0].tolist() == two.kernel.numpy().tolist() == kernel


def test_a_mask_calls_with_the_sub_net_that_runs(two):
    kernel = np.full((4, 4), np.nan, "float32")
    kernel[:2], kernel[:, 0] = 2, 3
    # Without a switch, the first sub-net runs.
    np.testing.assert_array_equal(two(kernel), np.where(two.read()[1][0], kernel, 0))
    two.switch = SubnetSwitch(keras.Variable(1, dtype="int32"))
    np.testing.assert_array_equal(two(kernel), np.where(two.read()[1][1], kernel, 0))
    with two.switch.at(0):
        np.testing.assert_array_equal(two.running, two.read()[1][0])


def test_each_sub_net_has_its_own_scheme():
    layer = dense([Unstructured(), Block(outputs=2), "2:4"], [0.25, 0.75, 0.5], 4, inputs=4)
    mask = layer.masks[0]
    one, block, n_m = mask.subnets
    assert [subnet.sparsity for subnet in mask.subnets] == [0.25, 0.75, 0.5]
    assert [subnet.count(0.5) for subnet in mask.subnets] == [8, 4, 8]
    scores = np.random.default_rng(0).random((4, 4))
    for subnet in mask.subnets:
        subnet.initialize(scores, 1 - subnet.sparsity, np.random.default_rng(0))
    assert [subnet.density for subnet in mask.subnets] == [0.75, 0.25, 0.5]
    assert scores[one.read()[1]].min() > scores[~one.read()[1]].max()
    pairs = block.read()[1].reshape(4, 2, 2)
    assert (pairs[..., 0] == pairs[..., 1]).all() and pairs.sum() == 4
    assert (n_m.read()[1].sum(axis=0) == 2).all()


def test_a_kernel_that_the_scheme_of_one_sub_net_cannot_divide_is_named():
    with pytest.raises(ValueError, match=r"multiple of 8 inputs.*'fc/kernel' with 6"):
        dense(["unstructured", "1:8"], [0.5, 0.875], inputs=6)


@pytest.mark.parametrize(
    "scheme, sparsity, expected",
    [
        ("unstructured", 0.5, [(Unstructured, 0.5)]),
        (NM(2, 4), (0.5,), [(NM, 0.5)]),
        ("unstructured", [0.75, 0.5], [(Unstructured, 0.75), (Unstructured, 0.5)]),
        (["block", "unstructured"], 0.5, [(Block, 0.5), (Unstructured, 0.5)]),
        (("block", "2:4"), [0.75, 0.5], [(Block, 0.75), (NM, 0.5)]),
    ],
)
def test_what_is_given_once_holds_for_all_sub_nets(scheme, sparsity, expected):
    targets = subnet_targets(scheme, sparsity)
    assert [(type(one), share) for one, share in targets] == expected


@pytest.mark.parametrize(
    "scheme, sparsity",
    [
        (["block", "2:4"], [0.5]),
        ("block", []),
        ([], 0.5),
        (["block"], [0.5, 0.75]),
    ],
)
def test_sub_nets_must_be_as_many_as_schemes_and_sparsities(scheme, sparsity):
    with pytest.raises(ValueError, match="`scheme` and `sparsity` must each be a single value"):
        subnet_targets(scheme, sparsity)


@pytest.mark.parametrize(
    "scheme, sparsity, message",
    [
        ("unstructured", [0.5, 1.2], r"`sparsity` must be a number in \[0, 1\). Received: 1.2"),
        ("unstructured", [0.5, [0.5]], r"`sparsity` must be a number .* Received: \[0.5\]"),
        (["unstructured", "blocks"], 0.5, "`scheme` must be .* Received: 'blocks'"),
    ],
)
def test_each_sub_net_is_checked(scheme, sparsity, message):
    with pytest.raises(ValueError, match=message):
        subnet_targets(scheme, sparsity)


def test_only_the_kernel_trains():
    layer = dense()
    assert [variable.path for variable in layer.trainable_variables] == ["fc/kernel", "fc/bias"]
    assert len({id(v) for v in layer.variables}) == len(layer.variables) == 4
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
