"""What `sparsify` makes of its arguments, and which ones it refuses."""

import keras
import numpy as np
import pytest

from spfde_keras import sparsify
from spfde_keras.masking import find_masks
from spfde_keras.schemes import NM

L = keras.layers


def mlp(units=16):
    return keras.Sequential(
        [
            keras.Input((8,)),
            L.Dense(units, name="a"),
            L.Dense(units, name="b"),
            L.Dense(4, name="head"),
        ]
    )


def paths(model):
    return [mask.kernel_path.split("/kernel")[0] for mask in find_masks(model)]


@pytest.mark.parametrize(
    "dense, masked",
    [
        ("b", ["a", "head"]),
        ("[ab]", ["head"]),
        (["a", "last"], ["b"]),
        ((), ["a", "b", "head"]),
        (lambda layer: layer.units == 4, ["a", "b"]),
        (["b", lambda layer: layer.name == "a"], ["head"]),
        ("first", ["a", "b", "head"]),
    ],
)
def test_dense_selects_by_name_expression_and_callable(dense, masked):
    assert paths(sparsify(mlp(), 0.5, dense=dense)) == masked


@pytest.mark.parametrize("dense", ["c", ["a", "nothing.*"], "(", 5, None, [None]])
def test_unknown_selectors_are_refused(dense):
    with pytest.raises(ValueError, match="`dense` must .*Received: .*'a', 'b', 'head'"):
        sparsify(mlp(), 0.5, dense=dense)


@pytest.mark.parametrize(
    ("layer", "dense", "advice"),
    [
        (
            L.Dense(2, name="head"),
            ("first", "last"),
            r"'head': .*\. Pass fewer layers in `dense`\.$",
        ),
        # There, fewer would not help.
        (L.Flatten(), (), r"left dense: \{\}\.$"),
        (L.PReLU(name="p"), (), r"PReLU has no masked form'\}\.$"),
    ],
)
def test_nothing_to_make_sparse_is_an_error(layer, dense, advice):
    model = keras.Sequential([keras.Input((4, 4)), layer])
    with pytest.raises(ValueError, match=f"`model` must have a layer .*{advice}"):
        sparsify(model, 0.5, dense=dense)


@pytest.mark.parametrize("sparsity", [1.2, 1, -0.1, "a", True, float("nan")])
def test_sparsity_out_of_range_is_refused(sparsity):
    with pytest.raises(ValueError, match=r"`sparsity` must be .*\[0, 1\)\. Received: "):
        sparsify(mlp(), sparsity)


def test_other_arguments_are_checked():
    with pytest.raises(ValueError, match="`initial` must be one of .* Received: 'zeros'"):
        sparsify(mlp(), initial="zeros")
    with pytest.raises(ValueError, match="`scheme` must be .* Received: 'blocks'"):
        sparsify(mlp(), scheme="blocks")
    with pytest.raises(ValueError, match="`distribution` must be .* Received: 'erdos'"):
        sparsify(mlp(), distribution="erdos")
    with pytest.raises(ValueError, match="must not have masks yet: pass `densify"):
        sparsify(sparsify(mlp()))


def test_defaults():
    sparse = sparsify(mlp(100))
    assert [mask.subnets[0].sparsity for mask in find_masks(sparse)] == [0.9, 0.9]
    assert [mask.density for mask in find_masks(sparse)] == pytest.approx([0.1, 0.1])


def test_a_scheme_that_does_not_divide_names_layers_and_remedy():
    with pytest.raises(ValueError, match="2 layers that Block.*'a/kernel' with 6.*leave them"):
        sparsify(mlp(6), 0.5, scheme="block", strict=True)
    assert paths(sparsify(mlp(6), 0.5, scheme="block", dense=["a", "b"])) == ["head"]
    with pytest.raises(ValueError, match="'a/kernel' with 8"):
        sparsify(mlp(), scheme="1:5")


def test_n_m_fixes_the_sparsity():
    for sparsity in (None, 0.5):
        sparse = sparsify(mlp(), sparsity, scheme="2:4")
        for mask in find_masks(sparse):
            assert mask.subnets[0].sparsity == mask.density == 0.5
            groups = mask.read()[1][0].reshape(-1, 4, 16)
            assert (groups.sum(axis=1) == 2).all()
    with pytest.raises(ValueError, match=r"`sparsity` must be 0.5, or left out.*Received: 0.9"):
        sparsify(mlp(), 0.9, scheme=NM(2, 4))
    with pytest.raises(ValueError, match=r"Received: 1.2"):
        sparsify(mlp(), 1.2, scheme="2:4")


@pytest.mark.parametrize("distribution", ["erk", {"a": 0.6}, {"a": 0.7, "b": 0.7}])
def test_n_m_takes_no_other_distribution(distribution):
    with pytest.raises(ValueError, match="`distribution` must be 'uniform'"):
        sparsify(mlp(), scheme="2:4", distribution=distribution)


def test_distributions():
    per_layer = sparsify(mlp(), 0.5, distribution={"a/": 0.75})
    assert [mask.density for mask in find_masks(per_layer)] == [0.25, 0.5]
    erk = sparsify(mlp(), 0.5, distribution="erk")
    densities = [mask.density for mask in find_masks(erk)]
    # Of 8x16 and 16x16 half are kept in all; the smaller keeps more: 24/128 to 32/256.
    assert densities[0] / densities[1] == pytest.approx(1.5, rel=0.03)
    assert 128 * densities[0] + 256 * densities[1] == pytest.approx(192, abs=1)
    with pytest.raises(ValueError, match="must match masked kernels. Received: 'zzz'"):
        sparsify(mlp(), 0.5, distribution={"zzz": 0.5})


def test_seeds_decide_random_masks():
    model = mlp()

    def masks(seed):
        return [mask.read()[1] for mask in find_masks(sparsify(model, 0.5, seed=seed))]

    for one, same, other in zip(masks(3), masks(3), masks(4), strict=True):
        np.testing.assert_array_equal(one, same)
        assert (one != other).any()


def test_initial_masks():
    model = mlp()
    by_magnitude, open_ = (sparsify(model, 0.75, initial=x) for x in ("magnitude", "dense"))
    for mask, name in zip(find_masks(by_magnitude), "ab", strict=True):
        kernel = model.get_layer(name).kernel.numpy()
        kept = mask.read()[1][0]
        assert kept.mean() == 0.25
        assert np.abs(kernel[kept]).min() > np.abs(kernel[~kept]).max()
        np.testing.assert_array_equal(mask.read()[0], np.where(kept, kernel, 0))
    assert [mask.density for mask in find_masks(open_)] == [1, 1]
    assert [mask.subnets[0].sparsity for mask in find_masks(open_)] == [0.75, 0.75]
    x = np.random.default_rng(0).normal(size=(3, 8))
    np.testing.assert_allclose(open_(x), model(x), rtol=1e-5)


@pytest.mark.parametrize("second", ["a", "head"])
def test_layers_of_the_same_name_are_told_apart_by_their_paths(second):
    inner = keras.Sequential([keras.Input((8,)), L.Dense(8, name=second)], name="inner")
    inputs = keras.Input((8,))
    x = L.Dense(8, name="a")(inner(inputs))
    model = keras.Model(inputs, L.Dense(2, name="head")(x))
    sparse = sparsify(model, 0.5, dense=())
    names = {"a": {"a", "inner/a", "head"}, "head": {"a", "inner/head", "head"}}[second]
    assert {mask.kernel_path for mask in find_masks(sparse)} == {f"{x}/kernel" for x in names}
    left = sparsify(model, 0.5, dense=f"inner/{second}").left_dense
    assert left == {f"inner/{second}": f"matches 'inner/{second}' in `dense`"}
    # The inner model is still there, under its name.
    assert [x.name for x in sparse.get_layer("inner").layers][-1] == second
