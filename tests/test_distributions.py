import json
import warnings

import keras
import numpy as np
import pytest

from spfde_keras import distributions
from spfde_keras.distributions import ERK, ByScores, PerLayer, Uniform
from spfde_keras.layout import KernelLayout


def conv(*shape):
    return KernelLayout(shape, spatial=(0, 1), inputs=(2,), outputs=(3,))


def dense(inputs, outputs):
    return KernelLayout((inputs, outputs), spatial=(), inputs=(0,), outputs=(1,))


def densities(layouts, sparsity):
    return {path: 1 - share for path, share in ERK()(layouts, sparsity).items()}


def total(layouts, kept):
    sizes = {path: layout.size for path, layout in layouts.items()}
    return sum(kept[path] * sizes[path] for path in layouts) / sum(sizes.values())


def test_uniform_is_the_same_for_all():
    layouts = {"a": dense(4, 4), "b": conv(3, 3, 8, 8)}
    assert Uniform()(layouts, 0.9) == {"a": 0.9, "b": 0.9}


def test_erk_by_hand():
    """4x4 and 8x8: dimensions sum to 8 and 16, so weights are shared 1 to 2."""
    kept = densities({"a": dense(4, 4), "b": dense(8, 8)}, 0.6)
    # 32 of 80 weights.
    assert kept == pytest.approx({"a": 32 / 3 / 16, "b": 64 / 3 / 64})


def test_erk_of_convolutions_by_hand():
    """3x3x4x8: 18 over 288; 1x1x8x8: 18 over 64; the same number of weights is kept in each."""
    kept = densities({"a": conv(3, 3, 4, 8), "b": conv(1, 1, 8, 8)}, 0.75)
    # 88 of 352 weights, 44 each.
    assert kept == pytest.approx({"a": 44 / 288, "b": 44 / 64})


def test_a_kernel_that_would_keep_more_than_all_is_dense():
    """Dimensions sum to 4, 8 and 32 over 4, 16 and 256; at half density 138 weights."""
    layouts = {"a": dense(2, 2), "b": dense(4, 4), "c": dense(16, 16)}
    kept = densities(layouts, 0.5)
    # In turn 138 * 4 / 44 > 4, then 134 * 8 / 40 > 16; c keeps the other 118.
    assert kept == pytest.approx({"a": 1, "b": 1, "c": 118 / 256})


def test_each_output_can_keep_a_weight():
    """97x3 and 2x98 have equal sums, but 98 outputs need more than half of 120 weights."""
    layouts = {"a": dense(97, 3), "b": dense(2, 98)}
    kept = densities(layouts, 1 - 120 / (291 + 196))
    assert kept["b"] * 196 == pytest.approx(98)
    assert kept["a"] * 291 == pytest.approx(22)


@pytest.mark.parametrize("seed", range(20))
def test_erk_keeps_the_total_and_one_scale_explains_all(seed):
    rng = np.random.default_rng(seed)
    layouts = {
        str(i): conv(*rng.choice([1, 3], 1).repeat(2), *rng.choice([1, 2, 16, 64, 256], 2))
        for i in range(6)
    }
    sparsity = rng.choice([0.5, 0.8, 0.9, 0.95])
    kept = densities(layouts, sparsity)
    raw = {path: sum(layout.shape) / layout.size for path, layout in layouts.items()}
    least = {path: layout.canonical_shape[2] / layout.size for path, layout in layouts.items()}
    floor = total(layouts, least)
    assert total(layouts, kept) == pytest.approx(max(1 - sparsity, floor))
    assert all(least[path] - 1e-9 <= kept[path] <= 1 for path in layouts)
    between = [p for p in layouts if least[p] + 1e-9 < kept[p] < 1 - 1e-9]
    scales = [kept[path] / raw[path] for path in between]
    if scales:
        np.testing.assert_allclose(scales, scales[0])
        for path in layouts:
            expected = np.clip(scales[0] * raw[path], least[path], 1)
            assert kept[path] == pytest.approx(expected)


def test_what_floors_take_lowers_kernels_that_would_be_dense():
    """600 weights shared by sums would fill the 20 kernels of 2x2; 5 of 2x98 need 490 of them."""
    layouts = {f"small{i}": conv(1, 1, 2, 2) for i in range(20)}
    layouts |= {f"wide{i}": dense(2, 98) for i in range(5)} | {"rest": dense(60, 60)}
    kept = densities(layouts, 1 - 600 / 4660)
    assert total(layouts, kept) * 4660 == pytest.approx(600)
    # 490 and the 60 outputs of `rest` leave 50 for the small ones.
    assert kept["wide0"] == pytest.approx(0.5) and kept["rest"] == pytest.approx(1 / 60)
    assert kept["small0"] == pytest.approx(2.5 / 4)


def test_a_budget_below_one_weight_for_each_output_gives_just_those():
    layouts = {"a": dense(4, 4), "b": dense(8, 8)}
    assert densities(layouts, 0.99) == pytest.approx({"a": 4 / 16, "b": 8 / 64})


def test_without_sparsity_all_is_dense():
    layouts = {"a": dense(4, 4), "b": conv(3, 3, 8, 8)}
    assert ERK()(layouts, 0.0) == pytest.approx({"a": 0.0, "b": 0.0})


def test_per_layer_takes_the_first_pattern_that_matches():
    layouts = dict.fromkeys(["stage1_a/kernel", "stage1_b/kernel", "stage2/kernel"])
    per_layer = PerLayer({"stage1_a": 0.5, "^stage1": 0.7})
    assert per_layer(layouts, 0.9) == {
        "stage1_a/kernel": 0.5,
        "stage1_b/kernel": 0.7,
        "stage2/kernel": 0.9,
    }


def test_per_layer_refuses_patterns_that_match_nothing():
    with pytest.raises(ValueError, match=r"must match.*Received: 'stage3'.*\['stage1/kernel'\]"):
        PerLayer({"stage3": 0.5})({"stage1/kernel": None}, 0.9)


@pytest.mark.parametrize("sparsity", [1.0, -0.1, "0.5", True])
def test_per_layer_refuses_sparsities_out_of_range(sparsity):
    with pytest.raises(ValueError, match=r"`sparsities` must be .*\[0, 1\)"):
        PerLayer({"a": sparsity})


@pytest.mark.parametrize(
    "distribution",
    [Uniform(), ERK(), PerLayer({"a": 0.5, "b": 0.25})],
    ids=lambda d: type(d).__name__,
)
def test_a_restored_distribution_is_equal(distribution):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(distribution)))
    restored = keras.saving.deserialize_keras_object(config)
    assert type(restored) is type(distribution)
    layouts = {"a": dense(8, 8), "b": conv(3, 3, 4, 4), "c": dense(32, 16)}
    assert restored(layouts, 0.8) == distribution(layouts, 0.8)


def test_get():
    erk = ERK()
    assert distributions.get(erk) is erk
    assert type(distributions.get("uniform")) is Uniform
    assert type(distributions.get("erk")) is ERK
    assert distributions.get({"a": 0.5}).sparsities == {"a": 0.5}


@pytest.mark.parametrize("identifier", ["", "ERK", None, 0.5, ["erk"]])
def test_get_refuses_unknown_identifiers(identifier):
    with pytest.raises(
        ValueError,
        match="`distribution` must be a Distribution, .*'erk', 'uniform' or a dictionary",
    ):
        distributions.get(identifier)


@pytest.mark.parametrize("distribute", [ERK(), ByScores({"a": np.ones((8, 16))})])
def test_more_weights_than_were_asked_for_are_told(distribute):
    layouts = {"a": KernelLayout((8, 16), spatial=(), inputs=(0,), outputs=(1,))}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert distribute(layouts, 0.875) == {"a": 0.875}
    with pytest.warns(UserWarning, match="output: 0.875 of the weights can go, not 0.98"):
        assert distribute(layouts, 0.98) == {"a": 0.875}
