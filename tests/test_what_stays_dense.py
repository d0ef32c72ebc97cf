"""What cannot be masked stays dense with a reason, or is refused in one line."""

import keras
import numpy as np
import pytest
from keras import layers

from spfde_keras import SpFDE, sparsify
from spfde_keras.masking import find_masks


def net(middle=6):
    """Kernels 8x8, 8x`middle`, `middle`x16; the classifier stays dense."""
    return keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(8, name="a"),
            layers.Dense(middle, name="b"),
            layers.Dense(16, name="c"),
            layers.Dense(2, name="head"),
        ]
    )


@pytest.mark.parametrize(
    ("scheme", "kept", "reason"),
    [
        ("block", ["a", "c"], "needs a multiple of 4 outputs; it has 6 outputs"),
        ("2:4", ["a", "b"], "needs a multiple of 4 inputs; it has 6 inputs"),
    ],
)
def test_kernels_that_do_not_divide_stay_dense_with_the_reason(scheme, kept, reason):
    model = sparsify(net(), 0.5, scheme=scheme)
    assert [mask.kernel_path.split("/")[0] for mask in find_masks(model)] == kept
    (left,) = set("abc") - set(kept)
    assert reason in model.left_dense[left]
    # What is asked for holds for the kernels that are masked.
    assert all(mask.density == 0.5 for mask in find_masks(model))
    with pytest.raises(ValueError, match=f"'{left}/kernel' with 6"):
        sparsify(net(), 0.5, scheme=scheme, strict=True)


def test_erk_divides_among_the_kernels_that_are_left():
    model = sparsify(net(), 0.5, scheme="block", distribution="erk")
    masks = find_masks(model)
    kept = sum(mask.density * mask.layout.size for mask in masks)
    assert kept / sum(mask.layout.size for mask in masks) == pytest.approx(0.5, abs=0.03)


def test_many_refusals_are_one():
    wide = keras.Sequential([keras.Input((6,)), *(layers.Dense(6) for _ in range(9))])
    rule = r"Received: 8 layers that NM.* cannot divide, such as ('.*' with 6 inputs, ){2}'.*' with"
    for strict in (False, True):
        with pytest.raises(ValueError, match=rule):
            sparsify(wide, scheme="2:4", strict=strict)


def test_layers_with_lora_stay_dense_and_train():
    model = net()
    model.get_layer("b").enable_lora(2)
    sparse = sparsify(model, 0.5)
    assert sparse.left_dense["b"] == "its kernel has LoRA"
    x = np.ones((4, 8), "float32")
    np.testing.assert_allclose(
        sparsify(model, 0.5, initial="dense")(x), model(x), rtol=1e-5, atol=1e-6
    )
    sparse.compile("sgd", "mse")
    sparse.fit(x, np.zeros((4, 2)), epochs=2, verbose=0, callbacks=[SpFDE(2, "set", 1)])


@pytest.mark.parametrize("mode", ["int8", "int4", "float8"])
def test_quantized_layers_stay_dense_or_are_refused(mode):
    model = net()
    model.get_layer("b").quantize(mode)
    sparse = sparsify(model, 0.5, initial="dense")
    assert sparse.left_dense["b"] == f"quantized to {mode}"
    x = np.ones((4, 8), "float32")
    np.testing.assert_allclose(sparse(x), model(x), rtol=1e-4, atol=1e-5)
    model = net()
    model.quantize(mode)
    with pytest.raises(ValueError, match=f"quantized to {mode}"):
        sparsify(model, 0.5)


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.quantize("int8"),
        lambda model: model.get_layer("a").quantize("int8"),
    ],
)
def test_masked_layers_refuse_to_be_quantized(change):
    with pytest.raises(ValueError, match=r"densify\(model\)"):
        change(sparsify(net(), 0.5))


def test_a_layer_is_a_selector():
    model = net()
    sparse = sparsify(model, 0.5, dense=model.get_layer("b"))
    assert sparse.left_dense == {"b": "given in `dense`"}
    assert sparsify(model, 0.5, dense=[model.layers[0], "last"]).left_dense.keys() == {"a", "head"}
    with pytest.raises(ValueError, match="`dense` must hold layers of the model.*'other'"):
        sparsify(model, 0.5, dense=layers.Dense(2, name="other"))


@pytest.mark.parametrize("seed", [None, -1, 1.5, True, "0"])
def test_seeds_are_checked_everywhere(seed):
    with pytest.raises(ValueError, match="`seed` must be an integer of at least 0. Received: "):
        sparsify(net(), 0.5, seed=seed)
    with pytest.raises(ValueError, match="`seed` must be an integer of at least 0. Received: "):
        SpFDE(2, seed=seed)


@pytest.mark.parametrize("pattern", ["(", 3])
def test_patterns_of_a_distribution_are_checked(pattern):
    with pytest.raises(ValueError, match="`distribution` must be .* from regular expressions"):
        sparsify(net(), 0.5, distribution={pattern: 0.5})


def test_depthwise_kernels_stay_dense_unless_asked_for():
    inputs = keras.Input((8, 8, 4))
    x = layers.DepthwiseConv2D(3, name="dw")(layers.Conv2D(8, 3, name="stem")(inputs))
    x = layers.SeparableConv2D(8, 3, name="sep")(x)
    model = keras.Model(inputs, layers.Dense(2, name="head")(layers.Flatten()(x)))
    sparse = sparsify(model, 0.75)
    assert [mask.kernel_path for mask in find_masks(sparse)] == ["sep/pointwise_kernel"]
    assert sparse.left_dense == {
        "stem": "first convolution",
        "head": "classifier (last layer)",
        "dw": "depthwise",
        "sep/depthwise_kernel": "depthwise",
    }
    asked = sparsify(model, 0.75, dense=("first", "last"))
    assert [mask.kernel_path for mask in find_masks(asked)] == [
        "dw/kernel",
        "sep/depthwise_kernel",
        "sep/pointwise_kernel",
    ]
