"""Masked attention against Keras' own with its projections multiplied by the masks."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from spfde_keras import kernels
from spfde_keras.layers import MaskedEinsumDense, MaskedMultiHeadAttention
from spfde_keras.masking import find_masks

QUERY, VALUE = (None, 5, 6), (None, 4, 8)
PROJECTIONS = ["query", "key", "value", "output"]


def arrays(seed=0):
    random = np.random.default_rng(seed)
    return [tf.constant(random.normal(size=(2, *shape[1:])), "float32") for shape in (QUERY, VALUE)]


def pair(dtype=None, **kwargs):
    """The masked layer with random masks and garbage under them, and its folded Keras twin."""
    masked = MaskedMultiHeadAttention(2, 3, sparsity=0.5, dtype=dtype, name="mha", **kwargs)
    plain = keras.layers.MultiHeadAttention(2, 3, dtype=dtype, name="mha", **kwargs)
    for layer in (masked, plain):
        layer.build(QUERY, VALUE)
    random = np.random.default_rng(0)
    for name in masked.masked_weights:
        one, two = (getattr(layer, f"_{name}_dense") for layer in (masked, plain))
        mask = one.masks[0]
        values = random.random(mask.layout.shape) < 0.5
        kernel = random.normal(size=values.shape)
        mask.values.assign(values[None])
        one.kernel.assign(np.where(values, kernel, np.nan))
        two.kernel.assign(np.where(values, kernel, 0))
    return masked, plain


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
@pytest.mark.parametrize("kwargs", [{}, {"value_dim": 4, "output_shape": 7}, {"use_gate": True}])
def test_outputs_are_those_of_the_folded_keras_layer(dtype, kwargs):
    masked, plain = pair(dtype, **kwargs)
    query, value = arrays()
    outputs, scores = masked(query, value, return_attention_scores=True)
    expected, expected_scores = plain(query, value, return_attention_scores=True)
    np.testing.assert_array_equal(outputs, expected)
    np.testing.assert_array_equal(scores, expected_scores)


def test_gradients_are_zero_behind_the_masks():
    masked, plain = pair()
    query, value = arrays()

    def gradients(layer):
        kernels = [getattr(layer, f"_{name}_dense").kernel.value for name in PROJECTIONS]
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(query, value) ** 2)
        return [gradient.numpy() for gradient in tape.gradient(loss, kernels)]

    for mask, found, expected in zip(
        masked.masks, gradients(masked), gradients(plain), strict=True
    ):
        kept = mask.read()[1][0]
        np.testing.assert_allclose(found, np.where(kept, expected, 0), rtol=1e-4, atol=1e-4)
        assert not found[~kept].any() and found[kept].any()


def test_projections_are_masked_once_and_own_no_second_kernel():
    masked, plain = pair(dropout=0.1)
    assert all(type(getattr(masked, f"_{name}_dense")) is MaskedEinsumDense for name in PROJECTIONS)
    masks = [variable for mask in find_masks(masked) for variable in mask.variables]
    assert len(masks) == 2 * 4
    own = [variable for variable in masked.variables if not any(variable is m for m in masks)]
    # The same variables in the same order as in the plain layer: kernels, biases and seeds.
    assert [v.path for v in own if "seed" not in v.path] == [
        v.path for v in plain.variables if "seed" not in v.path
    ]
    assert [tuple(v.shape) for v in own] == [tuple(v.shape) for v in plain.variables]
    assert len({id(variable) for variable in own}) == len(own)
    assert masked.count_params() == plain.count_params() + sum(m.numpy().size for m in masks)


def test_masks_come_in_order_with_their_layouts():
    masked, _ = pair()
    assert [mask.kernel_path for mask in masked.masks] == [
        "mha/query/kernel",
        "mha/key/kernel",
        "mha/value/kernel",
        "mha/attention_output/kernel",
    ]
    assert [mask.layout.canonical_shape for mask in masked.masks] == [
        (1, 6, 6),
        (1, 8, 6),
        (1, 8, 6),
        (1, 6, 6),
    ]


def test_a_dictionary_masks_only_the_projections_named():
    layer = MaskedMultiHeadAttention(2, 3, sparsity={"value": 0.5, "query": 0.25})
    layer.build(QUERY, VALUE)
    assert layer.sparsity == {"query": 0.25, "value": 0.5}
    assert [mask.subnets[0].sparsity for mask in layer.masks] == [0.25, 0.5]
    assert type(layer._key_dense) is type(layer._output_dense) is keras.layers.EinsumDense


@pytest.mark.parametrize(
    "sparsity, message",
    [
        (1.2, r"\[0, 1\). Received: 1.2"),
        ({"query": True}, "Received: True"),
        ({"keys": 0.5}, r"must name weights among .* Received: \['keys'\]"),
        ({"gate": 0.5}, r"Received: \['gate'\]"),
    ],
)
def test_wrong_sparsity_is_refused(sparsity, message):
    with pytest.raises(ValueError, match=message):
        MaskedMultiHeadAttention(2, 3, sparsity=sparsity)


def test_config_makes_an_equal_layer():
    layer = MaskedMultiHeadAttention(2, 3, scheme="2:4", sparsity={"key": 0.5}, dropout=0.2)
    config = layer.get_config()
    copy = MaskedMultiHeadAttention.from_config(config)
    assert copy.get_config() == config
    assert repr(copy.scheme) == "NM(n=2, m=4)"
    copy.build(QUERY, VALUE)
    assert len(copy.masks) == 1


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
def test_saved_and_loaded_bit_for_bit(tmp_path, dtype):
    query, value = keras.Input(QUERY[1:]), keras.Input(VALUE[1:])
    layer = MaskedMultiHeadAttention(2, 3, sparsity=0.5, dropout=0.1, dtype=dtype, name="mha")
    model = keras.Model([query, value], layer(query, value))
    for mask in find_masks(model):
        rng = np.random.default_rng(0)
        mask.subnets[0].initialize(rng.random(mask.layout.shape), 0.5, rng)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for mask, other in zip(find_masks(model), find_masks(loaded), strict=True):
        assert mask.density == other.density == 0.5
        np.testing.assert_array_equal(mask.read()[1], other.read()[1])
    np.testing.assert_array_equal(model(arrays()), loaded(arrays()))


def attend(layer, x, mask=None, **options):
    """Outputs, the gradients of inputs and weights, and how they were computed."""

    @tf.function
    def derive(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = layer(x, x, attention_mask=mask, **options)
            loss = tf.reduce_sum(tf.nest.flatten(outputs)[0] ** 2)
        weights = [weight.value for weight in layer.trainable_weights]
        return tf.nest.flatten([outputs, tape.gradient(loss, [x, *weights])])

    types = {op.type for op in derive.get_concrete_function(x).graph.get_operations()}
    return derive(x), types


@pytest.mark.parametrize(
    "options, masked", [({}, False), ({}, True), ({"use_causal_mask": True}, True)]
)
def test_heads_attend_as_keras_does(sparse_kernels, options, masked):
    layer = MaskedMultiHeadAttention(2, 4, value_dim=3, sparsity=0.5)
    x = tf.random.stateless_normal((3, 6, 8), (0, 0))
    mask = tf.random.stateless_uniform((3, 6, 6), (0, 0)) < 0.5 if masked else None
    layer(x, x)
    found, types = attend(layer, x, mask, **options)
    assert "Einsum" not in types and "SpfdeSparseConv2D" in types
    with kernels.disabled():
        expected, types = attend(layer, x, mask, **options)
    assert "Einsum" in types and "SpfdeSparseConv2D" not in types
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "made, called, shape",
    [
        ({}, {"return_attention_scores": True}, (3, 6, 8)),
        ({"dropout": 0.5}, {"training": True}, (3, 6, 8)),
        ({"attention_axes": 2}, {}, (3, 2, 6, 8)),
    ],
)
def test_other_attention_is_left_to_keras(sparse_kernels, made, called, shape):
    layer = MaskedMultiHeadAttention(2, 4, sparsity=0.5, seed=0, **made)
    x = tf.random.stateless_normal(shape, (0, 0))
    layer(x, x)
    seeds = [v for v in layer.non_trainable_variables if "seed" in v.path]
    before = [seed.numpy() for seed in seeds]
    found, _ = attend(layer, x, **called)
    for seed, value in zip(seeds, before, strict=True):
        seed.assign(value)
    with kernels.disabled():
        expected, _ = attend(layer, x, **called)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
