"""Masked layers of several sub-nets against Keras' layers with each sub-net's kernels."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from spfde_keras import layers
from spfde_keras.masking import find_masks
from spfde_keras.schemes import NM, Block
from spfde_keras.subnets import SubnetSwitch

L = keras.layers
SPARSITIES = [0.25, 0.5, 0.75]
# Name: masked layer, Keras' layer, arguments, input shape.
CASES = {
    "dense": (layers.MaskedDense, L.Dense, (6,), (4,)),
    "conv2d": (layers.MaskedConv2D, L.Conv2D, (6, 3), (7, 6, 4)),
    "separable": (layers.MaskedSeparableConv2D, L.SeparableConv2D, (6, 3), (7, 6, 4)),
    "einsum": (layers.MaskedEinsumDense, L.EinsumDense, ("abc,cd->abd", (3, 6)), (3, 4)),
    "attention": (layers.MaskedMultiHeadAttention, L.MultiHeadAttention, (2, 3), (5, 4)),
}


def call(layer, x):
    return layer(x, x) if isinstance(layer, L.MultiHeadAttention) else layer(x)


def pair(name):
    """A layer with three random masks for each kernel, Keras' layer, inputs and the switch."""
    masked, plain, arguments, shape = CASES[name]
    masked, plain = masked(*arguments, sparsity=SPARSITIES), plain(*arguments)
    random = np.random.default_rng(0)
    x = tf.constant(random.normal(size=(5, *shape)), "float32")
    for layer in (masked, plain):
        call(layer, x)
    switch = SubnetSwitch(keras.Variable(0, dtype="int32"))
    for mask in find_masks(masked):
        mask.switch = switch
        kernel = random.normal(size=mask.layout.shape)
        mask.write(kernel, random.random((3, *mask.layout.shape)) < 0.5)
    return masked, plain, x, switch


def fold(masked, plain, subnet):
    """Gives the plain layer the weights that the sub-net has."""
    kernels = {id(mask.kernel): mask.subnets[subnet].read()[0] for mask in find_masks(masked)}
    for source, target in zip(masked.trainable_weights, plain.trainable_weights, strict=True):
        target.assign(kernels.get(id(source), source))


@pytest.mark.parametrize("name", CASES)
def test_each_sub_net_is_the_folded_keras_layer(name):
    masked, plain, x, switch = pair(name)
    traced = tf.function(lambda x: call(masked, x))
    seen = []
    for subnet in (1, 2, 0):
        switch.active.assign(subnet)
        fold(masked, plain, subnet)
        seen.append(call(masked, x).numpy())
        np.testing.assert_array_equal(seen[-1], call(plain, x))
        np.testing.assert_allclose(traced(x), seen[-1], rtol=1e-5, atol=1e-5)
    assert traced.experimental_get_tracing_count() == 1
    assert np.any(seen[0] != seen[1]) and np.any(seen[1] != seen[2])


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_zero_but_for_the_sub_net_that_runs(name):
    masked, plain, x, switch = pair(name)
    for subnet in range(3):
        fold(masked, plain, subnet)
        kept = {id(mask.kernel): mask.subnets[subnet].read()[1] for mask in find_masks(masked)}
        found = []
        with switch.at(subnet):
            for layer in (masked, plain):
                with tf.GradientTape() as tape:
                    loss = tf.reduce_sum(call(layer, x) ** 2)
                found.append(tape.gradient(loss, [w.value for w in layer.trainable_weights]))
        for weight, gradient, other in zip(masked.trainable_weights, *found, strict=True):
            here = kept.get(id(weight), np.ones(weight.shape, bool))
            assert not gradient.numpy()[~here].any()
            np.testing.assert_allclose(gradient, np.where(here, other, 0), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    "layer, shares",
    [
        (layers.MaskedDense(8, scheme=["2:4", Block(outputs=2)], sparsity=[0.5, 0.75]), ["kernel"]),
        (
            layers.MaskedSeparableConv2D(
                8, 3, scheme=["block", "filter"], sparsity={"pointwise_kernel": [0.5, 0.75]}
            ),
            ["pointwise_kernel"],
        ),
        (
            layers.MaskedMultiHeadAttention(
                2, 4, scheme=[NM(2, 4), "block"], sparsity={"key": [0.5, 0.75], "output": 0.5}
            ),
            ["key", "output"],
        ),
        (layers.MaskedConv1D(8, 3, scheme=["block", "2:4"], sparsity=0.5), ["kernel"]),
        (layers.MaskedConv1D(8, 3, scheme="block", sparsity=(0.5, 0.75)), ["kernel"]),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_config_goes_through_json_and_makes_an_equal_layer(layer, shares):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    copy = keras.saving.deserialize_keras_object(config)
    assert list(copy.sparsity) == list(layer.sparsity) == shares
    shape = (None, 8, 8, 8) if isinstance(layer, L.SeparableConv2D) else (None, 8, 8)
    for each in (layer, copy):
        each.build(*[shape] * (1 + isinstance(layer, L.MultiHeadAttention)))
    for mask, other in zip(layer.masks, copy.masks, strict=True):
        assert len(mask.subnets) == 2
        for one, two in zip(mask.subnets, other.subnets, strict=True):
            assert (repr(one.scheme), one.sparsity) == (repr(two.scheme), two.sparsity)
    config = keras.saving.serialize_keras_object(copy)
    assert keras.saving.deserialize_keras_object(config).get_config() == copy.get_config()


def test_saved_and_loaded_bit_for_bit(tmp_path):
    inputs = keras.Input((4, 4, 8))
    options = {"scheme": ["unstructured", "2:4"], "sparsity": [0.75, 0.5]}
    x = layers.MaskedConv2D(8, 3, name="conv", **options)(inputs)
    x = layers.MaskedSeparableConv2D(8, 2, sparsity=[0.5, 0.75], name="separable")(x)
    x = L.Reshape((1, 8))(x)
    x = layers.MaskedMultiHeadAttention(2, 4, name="mha", **options)(x, x)
    model = keras.Model(inputs, layers.MaskedDense(3, name="fc", **options)(L.Flatten()(x)))
    random = np.random.default_rng(0)
    for mask in find_masks(model):
        for subnet in mask.subnets:
            subnet.initialize(random.random(mask.layout.shape), 1 - subnet.sparsity, random)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert len(find_masks(loaded)) == 8
    for mask, other in zip(find_masks(model), find_masks(loaded), strict=True):
        assert mask.kernel_path == other.kernel_path
        np.testing.assert_array_equal(mask.read()[0], other.read()[0])
        np.testing.assert_array_equal(mask.read()[1], other.read()[1])
        for one, two in zip(mask.subnets, other.subnets, strict=True):
            assert (repr(one.scheme), one.sparsity) == (repr(two.scheme), two.sparsity)
            assert one.density == pytest.approx(1 - one.sparsity, abs=1 / mask.layout.size)
    x = random.normal(size=(2, 4, 4, 8)).astype("float32")
    np.testing.assert_array_equal(model(x), loaded(x))


@pytest.mark.parametrize(
    "scheme, sparsity, message",
    [
        (["block", "2:4"], [0.5, 0.5, 0.5], "`scheme` and `sparsity` must each be a single"),
        (
            ["block", "2:4"],
            {"kernel": [0.5]},
            "`scheme` and `sparsity` must each be a single",
        ),
        ("block", [], "`scheme` and `sparsity` must each be a single"),
        ("block", [0.5, 1.5], r"\[0, 1\). Received: 1.5"),
        ("block", {"kernel": [0.5, "a"]}, "Received: 'a'"),
        (["block", "nothing"], 0.5, "`scheme` must be .* Received: 'nothing'"),
    ],
)
def test_wrong_arguments_are_refused_before_the_layer_is_built(scheme, sparsity, message):
    with pytest.raises(ValueError, match=message):
        layers.MaskedDense(4, scheme=scheme, sparsity=sparsity)
