"""The summary, line by line."""

import keras
import numpy as np

from spfde_keras import sparsify, summary
from spfde_keras.masking import find_masks
from spfde_keras.sparsity_summary import (
    dead_units,
    mask_overlap,
    subnet_sparsities,
    target_sparsities,
    zero_share,
)

L = keras.layers
DENSE = ("first", "last", "gru")


def lines_of(model):
    lines = []
    summary(model, print_fn=lines.append)
    return lines


def model():
    return keras.Sequential(
        [
            keras.Input((8, 8, 4)),
            L.Conv2D(8, 3, name="first_conv"),
            L.Conv2D(8, 3, name="conv"),
            L.Flatten(),
            L.Reshape((16, 8)),
            L.GRU(4, name="gru"),
            L.Dense(16, name="fc"),
            L.Dense(3, name="head"),
        ]
    )


def test_each_kernel_the_total_and_each_layer_left_dense():
    assert lines_of(sparsify(model(), 0.75, scheme="block", dense=DENSE)) == [
        "kernel       shape    scheme                      target  sparsity  kept  dead inputs"
        "  dead outputs",
        "conv/kernel  3x3x8x8  Block(outputs=4, inputs=1)  0.750   0.750     144   0            0",
        "fc/kernel    4x16     Block(outputs=4, inputs=1)  0.750   0.750     16    1            4",
        "total                                                     0.750     160   1            4",
        # 480 of 288 + 8, 576 + 8, 96 + 48 + 24, 64 + 16 and 48 + 3 weights.
        "of all weights of the model masks drop 0.407",
        "dense: first_conv, first convolution",
        "dense: head, classifier (last layer)",
        "dense: gru, matches 'gru' in `dense`",
        "zeros skipped: not known before the model has run",
    ]


def test_target_and_actual_sparsity_are_told_apart():
    sparse = sparsify(model(), 0.75, initial="dense", dense=DENSE, distribution={"fc": 0.5})
    mask = find_masks(sparse)[0]
    mask.subnets[0].initialize(np.abs(mask.read()[0]), 0.5, np.random.default_rng(0))
    conv, fc, total = (line.split() for line in lines_of(sparse)[1:4])
    assert conv[-3:] == ["0.750", "0.500", "288"]
    assert fc[-3:] == ["0.500", "0.000", "64"]
    assert total == ["total", f"{1 - 352 / 640:.3f}", "352"]


def test_the_same_after_save_and_load(tmp_path):
    sparse = sparsify(model(), 0.75)
    sparse.save(tmp_path / "model.keras")
    assert lines_of(keras.saving.load_model(tmp_path / "model.keras")) == lines_of(sparse)


def test_a_plain_model_has_nothing_to_tell(capsys):
    assert lines_of(model()) == ["kernel  shape  scheme  target  sparsity  kept"]
    assert summary(model()) is None
    assert capsys.readouterr().out == "kernel  shape  scheme  target  sparsity  kept\n"


def test_keras_own_summary_ends_with_it():
    sparse = sparsify(model(), sparsity=0.5)
    printed = []
    sparse.summary(print_fn=lambda text, line_break=False: printed.append(text))
    expected = lines_of(sparse)
    assert printed[-len(expected) :] == expected
    assert "Total params" in "".join(printed)


def two_by_two(*masks):
    """A model of as many sub-nets as masks, given for the 2x2 kernel of its second layer."""
    dense = [L.Dense(2, name=name) for name in ("front", "middle", "back")]
    plain = keras.Sequential([keras.Input((2,)), *dense])
    shares = [0.25, 0.5, 0.75][: len(masks)]
    sparse = sparsify(plain, shares, dense=["front", "back"], initial="random")
    mask = find_masks(sparse)[0]
    mask.write(mask.read()[0], np.array(masks, bool).reshape(-1, 2, 2))
    return sparse


def test_each_sub_net_has_a_line_and_its_overlap_with_the_one_before():
    sparse = two_by_two([1, 1, 1, 0], [1, 0, 0, 1], [0, 0, 0, 1])
    assert lines_of(sparse) == [
        "kernel         shape  scheme          sub-net    target  sparsity  kept  overlap  "
        "dead inputs  dead outputs",
        "middle/kernel  2x2    Unstructured()  subnet_25  0.250   0.250     3              0 "
        "           0",
        "                      Unstructured()  subnet_50  0.500   0.500     2     0.500    0 "
        "           0",
        "                      Unstructured()  subnet_75  0.750   0.750     1     1.000    1 "
        "           1",
        "total                                 subnet_25          0.250     3              0 "
        "           0",
        "                                      subnet_50          0.500     2     0.500    0 "
        "           0",
        "                                      subnet_75          0.750     1     1.000    1 "
        "           1",
        "of all weights of the model masks drop 0.111",  # 2 of 18, in the mean
        "dense: front, matches 'front' in `dense`",
        "dense: back, matches 'back' in `dense`",
        "zeros skipped: not known before the model has run",
    ]


def test_sparsities_count_every_weight_once():
    """The mean of 0.5 and 0.75 is 0.625, but `conv` has nine times the weights of `fc`."""
    sparse = sparsify(model(), 0.75, dense=DENSE, distribution={"conv": 0.5, "fc": 0.75})
    assert subnet_sparsities(sparse) == [1 - (288 + 16) / 640]
    assert target_sparsities(sparse) == [1 - (288 + 16) / 640]


def test_each_sub_net_has_its_own_sparsity():
    sparse = two_by_two([1, 1, 1, 0], [1, 0, 0, 1], [0, 0, 0, 1])
    sparse.activate(2)  # whichever runs
    assert subnet_sparsities(sparse) == [0.25, 0.5, 0.75]


def test_the_target_does_not_depend_on_the_masks():
    sparse = sparsify(model(), [0.5, 0.75], dense=DENSE, initial="dense")
    assert (subnet_sparsities(sparse), target_sparsities(sparse)) == ([0, 0], [0.5, 0.75])


def test_overlap_is_the_share_of_the_sparser_sub_net_that_the_denser_one_keeps():
    assert mask_overlap(two_by_two([1, 1, 1, 0], [1, 0, 0, 1], [0, 0, 0, 1])) == {
        "subnet_50/subnet_25": 0.5,
        "subnet_75/subnet_25": 0.0,
        "subnet_75/subnet_50": 1.0,
    }
    # Whichever was given first.
    assert mask_overlap(two_by_two([0, 0, 0, 1], [1, 1, 1, 0])) == {"subnet_25/subnet_50": 0.0}


def test_a_model_of_one_net_or_none_has_no_overlap():
    assert mask_overlap(sparsify(model(), 0.5)) == {}
    assert mask_overlap(model()) == {}


def test_a_model_without_masks_has_no_sub_net_to_be_sparse(recwarn):
    assert subnet_sparsities(model()) == target_sparsities(model()) == []
    assert not recwarn.list


def test_dead_inputs_and_outputs_are_counted_where_there_are_any():
    plain = keras.Sequential([keras.Input((3,)), L.Dense(4, name="fc"), L.Dense(2, name="head")])
    sparse = sparsify(plain, 0.5)
    kept = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]], bool)
    find_masks(sparse)[0].write(np.ones((3, 4)), kept[None])
    heading, fc, total = (line.split("  ") for line in lines_of(sparse)[:3])
    assert heading[-2:] == ["dead inputs", "dead outputs"]
    assert [cell.strip() for cell in fc if cell.strip()][-2:] == ["1", "2"]
    assert [cell.strip() for cell in total if cell.strip()][-2:] == ["1", "2"]


def test_dead_positions_of_depthwise_kernels_are_outputs():
    plain = keras.Sequential([keras.Input((4, 4, 2)), L.DepthwiseConv2D(2), L.Flatten()])
    mask = find_masks(sparsify(plain, 0.5, dense=()))[0]
    kept = np.ones(mask.layout.shape, bool)
    kept[..., 1, :] = False
    mask.write(np.ones(mask.layout.shape), kept[None])
    assert dead_units(mask.subnets[0]) == (0, 1)


def test_biases_of_attention_are_no_zeros_of_a_kernel():
    x = keras.Input((4, 8))
    assert zero_share(keras.Model(x, keras.layers.MultiHeadAttention(2, 4)(x, x))) == 0
    assert zero_share(keras.Model(x, keras.layers.GRU(4)(x))) == 0
