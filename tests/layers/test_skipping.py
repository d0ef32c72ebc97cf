"""Layers that skip zeros, against Keras' own with the masks folded into their kernels."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import spfde_keras
from spfde_keras import compat, kernels
from spfde_keras.layers import (
    MaskedConv1D,
    MaskedConv2D,
    MaskedDense,
    MaskedEinsumDense,
    MaskedMultiHeadAttention,
    MaskedSeparableConv1D,
    MaskedSeparableConv2D,
    plain_class,
)

pytestmark = pytest.mark.usefixtures("sparse_kernels")

TOLERANCE = 1e-5  # of the largest value
OPERATOR = "SpfdeSparseConv2D"


def masked(layer_class, shape, *args, **options):
    """A built layer for inputs of this shape, with random masks, and garbage under them."""
    layer = layer_class(*args, **({"sparsity": 0.7, "bias_initializer": "normal"} | options))
    layer.build(shape)
    random = np.random.default_rng(0)
    for mask in layer.masks:
        kernel, masks = mask.read()
        mask.values.assign(random.random(masks.shape) < 0.3)
        mask.kernel.assign(random.normal(size=kernel.shape))
    return layer


def folded(layer, shape):
    """The plain Keras layer with the kept weights, zeros elsewhere, and those that are kept."""
    config = layer.get_config()
    plain = plain_class(layer).from_config(
        {name: config[name] for name in config if name not in ("scheme", "sparsity")}
    )
    plain.build(shape)
    masks = {id(mask.kernel): mask.read()[1][0] for mask in layer.masks}
    kept = [masks.get(id(weight), True) for weight in layer.trainable_weights]
    for weight, source, keep in zip(
        plain.trainable_weights, layer.trainable_weights, kept, strict=True
    ):
        weight.assign(np.where(keep, source, 0))
    return plain, kept


def derive(layer, x):
    """Outputs, and the gradients of inputs and weights."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = layer(x)
        loss = tf.reduce_sum(outputs**2)
    weights = [weight.value for weight in layer.trainable_weights]
    return outputs, *tape.gradient(loss, [x, *weights])


def operators_of(graph) -> list[str]:
    return [op.type for op in graph.get_operations() if op.type.startswith("Spfde")]


def check(layer, sizes, *shapes):
    """Whether a layer, traced once for `sizes`, skips zeros and is right for inputs of `shapes`."""
    shapes = shapes or [sizes]
    plain, kept = folded(layer, sizes)
    function = tf.function(lambda x: derive(layer, x))
    concrete = function.get_concrete_function(tf.TensorSpec(sizes))
    assert OPERATOR in operators_of(concrete.graph)
    assert layer.kernel_choice.sparse
    expected = tf.function(plain).get_concrete_function(tf.TensorSpec(sizes)).outputs[0].shape
    assert concrete.structured_outputs[0].shape.as_list() == expected.as_list()
    random = np.random.default_rng(1)
    for shape in shapes:
        x = tf.constant(random.normal(size=shape), "float32")
        found, (y, of_x, *of_weights) = concrete(x), derive(plain, x)
        of_weights = [g * keep for g, keep in zip(of_weights, kept, strict=True)]
        for one, other in zip(found, [y, of_x, *of_weights], strict=True):
            assert one.shape == other.shape
            scale = np.abs(other).max(initial=0) or 1
            np.testing.assert_allclose(one, other, rtol=0, atol=TOLERANCE * scale)


def check_left_to_keras(layer, shape):
    """Whether a layer computes without the operators, and right."""
    function = tf.function(layer).get_concrete_function(tf.TensorSpec(shape, layer.compute_dtype))
    assert not operators_of(function.graph)
    assert layer.kernel_choice is None or not layer.kernel_choice.sparse
    x = tf.constant(np.random.default_rng(1).normal(size=shape), layer.compute_dtype)
    plain, _ = folded(layer, shape)
    np.testing.assert_allclose(function(x), plain(x), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    "equation, output_shape, shape, options",
    [
        ("ab,bc->ac", 6, (3, 20), {"bias_axes": "c"}),
        ("...x,xy->...y", 6, (3, 5, 4, 20), {"bias_axes": "y", "activation": "tanh"}),
        ("abc,cde->abde", (None, 3, 4), (3, 5, 20), {"bias_axes": "de"}),  # a query
        ("abcd,cde->abe", (None, 6), (3, 5, 4, 5), {"bias_axes": "e"}),  # what attention gives
        ("abc,bcd->ad", 6, (3, 5, 4), {"activation": "relu"}),
    ],
)
def test_einsum_products(equation, output_shape, shape, options):
    options = {"equation": equation, "output_shape": output_shape} | options
    check(masked(MaskedEinsumDense, shape, **options), shape)


@pytest.mark.parametrize(
    "equation, output_shape, shape",
    [
        ("abc,dc->abd", (None, 6), (3, 5, 4)),  # a transposed kernel
        ("abc,bd->acd", (4, 6), (3, 5, 4)),  # not the last axis
        ("abc,cd->adb", (6, 5), (3, 5, 4)),  # outputs elsewhere
        ("abc,cde->abed", (None, 3, 6), (3, 5, 4)),  # outputs in another order
        ("abc,bcd->abd", (5, 6), (3, 5, 4)),  # a matrix for each b
    ],
)
def test_einsums_that_are_no_plain_product(equation, output_shape, shape):
    options = {"equation": equation, "output_shape": output_shape}
    check_left_to_keras(masked(MaskedEinsumDense, shape, **options), shape)


@pytest.mark.parametrize("padding", ["valid", "same", "causal"])
@pytest.mark.parametrize(
    "options", [{}, {"strides": 2}, {"dilation_rate": 2}, {"dilation_rate": 3, "kernel_size": 2}]
)
def test_sequences(padding, options):
    options = {"kernel_size": 3, "padding": padding, "activation": "tanh"} | options
    check(masked(MaskedConv1D, (3, 12, 5), 6, **options), (3, 12, 5))
    layer = masked(MaskedConv1D, (None, None, 5), 6, **options)
    check(layer, (None, None, 5), (3, 12, 5), (2, 13, 5), (1, 14, 5), (1, 8, 5))


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("strides", [1, 2])
def test_images_of_any_size(padding, strides):
    layer = masked(MaskedConv2D, (None, None, None, 5), 6, 3, padding=padding, strides=strides)
    check(layer, (None, None, None, 5), (3, 9, 8, 5), (2, 4, 7, 5), (1, 3, 3, 5))
    check(layer, (None, 9, None, 5), (3, 9, 8, 5), (2, 9, 7, 5))


def test_vectors_of_any_number():
    check(masked(MaskedDense, (None, 20), 6), (None, None, 20), (3, 5, 20), (1, 1, 20))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding": "same", "strides": 2, "activation": "relu"},
        {"dilation_rate": 2, "depth_multiplier": 2, "use_bias": False},
        {"sparsity": {"pointwise_kernel": 0.7}},
    ],
)
def test_the_pointwise_half_of_separable_convolutions(options):
    layer = masked(MaskedSeparableConv2D, (3, 9, 8, 5), 6, 3, **options)
    check(layer, (3, 9, 8, 5))
    check(layer, (None, None, None, 5), (2, 7, 8, 5))
    check(masked(MaskedSeparableConv1D, (3, 9, 5), 6, 3, **options), (3, 9, 5))


@pytest.mark.parametrize(
    "layer_class, shape, options",
    [
        (MaskedConv1D, (3, 9, 4), {"filters": 6, "kernel_size": 3, "groups": 2}),
        (MaskedConv1D, (3, 9, 4), {"filters": 6, "kernel_size": 3, "strides": 3}),
        (MaskedConv1D, (3, 9, 4), {"filters": 6, "kernel_size": 3, "dtype": "mixed_bfloat16"}),
        (MaskedConv1D, (3, 9, 4), {"filters": 6, "kernel_size": 3, "sparsity": {}}),
        (
            MaskedSeparableConv2D,
            (3, 9, 8, 4),
            {"filters": 6, "kernel_size": 3, "sparsity": {"depthwise_kernel": 0.7}},
        ),
        (
            MaskedEinsumDense,
            (3, 5, 4),
            {"equation": "abc,cd->abd", "output_shape": (5, 6), "dtype": "mixed_bfloat16"},
        ),
    ],
)
def test_what_is_left_to_keras(layer_class, shape, options):
    check_left_to_keras(masked(layer_class, shape, **options), shape)


@pytest.mark.parametrize(
    "layer_class, shape, options",
    [
        (MaskedConv1D, (3, 4, 9), {"filters": 6, "kernel_size": 3}),
        (MaskedSeparableConv2D, (3, 4, 9, 8), {"filters": 6, "kernel_size": 3}),
    ],
)
def test_channels_first_is_left_to_keras(layer_class, shape, options):
    layer = masked(layer_class, shape, data_format="channels_first", **options)
    function = tf.function(layer).get_concrete_function(tf.TensorSpec(shape))
    assert not operators_of(function.graph) and not layer.kernel_choice.sparse


@pytest.mark.parametrize(
    "layer_class, shape, options",
    [
        (MaskedConv1D, (3, 9, 4), {"filters": 6, "kernel_size": 3}),
        (MaskedEinsumDense, (3, 5, 4), {"equation": "abc,cd->abd", "output_shape": (5, 6)}),
    ],
)
def test_lora_trains_what_is_masked(layer_class, shape, options):
    layer = masked(layer_class, shape, **options)
    layer.enable_lora(2)
    layer.lora_kernel_b.assign(tf.ones(layer.lora_kernel_b.shape))
    x = tf.random.stateless_normal(shape, (0, 0))
    found = layer(x)
    assert not layer.kernel_choice.sparse
    with kernels.disabled():
        np.testing.assert_array_equal(found, layer(x))


def test_gradients_of_gradients():
    layer = masked(MaskedConv1D, (3, 12, 5), 6, 2, padding="causal", dilation_rate=3)
    plain, (keep, _) = folded(layer, (3, 12, 5))
    x = tf.random.stateless_normal((3, 12, 5), (0, 0))

    def penalty(layer):
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                inner.watch(x)
                loss = tf.reduce_sum(layer(x) ** 3)
            norm = tf.reduce_sum(inner.gradient(loss, x) ** 2)
        return outer.gradient(norm, layer.trainable_weights[0].value)

    expected = penalty(plain) * keep
    scale = np.abs(expected).max()
    np.testing.assert_allclose(penalty(layer), expected, atol=1e-4 * scale)


def test_each_subnet_runs_with_its_own_mask():
    model = attentive([0.5, 0.9])
    x = tf.random.stateless_normal((2, 6, 16), (0, 0))
    found = []
    for subnet in range(2):
        model.activate(subnet)
        found.append(model(x))
        np.testing.assert_allclose(
            found[-1], spfde_keras.densify(model, subnet=subnet)(x), atol=1e-5
        )
    assert not np.allclose(*found)
    assert all(choice.sparse for choice in choices(model))


def attentive(sparsity=0.8):
    """A small transformer with a convolution of sequences, of any length."""
    layers = keras.layers
    inputs = keras.Input((None, 16))
    x = layers.Dense(16, name="first")(inputs)
    x = layers.add([x, layers.MultiHeadAttention(2, 8, name="attention")(x, x)])
    x = layers.EinsumDense("abc,cd->abd", (None, 16), activation="relu", name="einsum")(x)
    x = layers.Conv1D(16, 3, padding="causal", dilation_rate=2, name="conv")(x)
    x = layers.GlobalAveragePooling1D()(x)
    model = keras.Model(inputs, layers.Dense(3, name="last")(x))
    return spfde_keras.sparsify(model, sparsity, dense=["last"], initial="random")


def choices(model):
    found = [getattr(layer, "kernel_choice", None) for layer in compat.all_layers(model)]
    return [choice for choice in found if choice is not None]


def test_attention_skips_zeros_and_the_summary_says_so(capsys):
    layer = MaskedMultiHeadAttention(2, 8, sparsity=0.8)
    x = tf.random.stateless_normal((2, 6, 16), (0, 0))
    found = layer(x, x)
    with kernels.disabled():
        np.testing.assert_allclose(found, layer(x, x), atol=1e-5)
    model = attentive()
    model(x)
    assert len(choices(model)) == 7 and all(choice.sparse for choice in choices(model))
    spfde_keras.summary(model)
    assert "zeros skipped: in 7 of 7 kernels" in capsys.readouterr().out


def gain_said(model, speedups, capsys):
    layers = [layer for layer in compat.all_layers(model) if hasattr(layer, "kernel_choice")]
    for layer, speedup in zip(layers, speedups, strict=False):
        layer.kernel_choice = kernels.Choice(True, speedup, "measured")
    spfde_keras.summary(model)
    return capsys.readouterr().out.partition("zeros skipped: ")[2].splitlines()[0]


def test_one_gain_is_no_range(capsys):
    model = attentive()
    assert gain_said(model, [], capsys) == "not known before the model has run"
    assert gain_said(model, [1.21, 1.18], capsys) == "in 2 of 2 kernels, 1.2x as fast"
    assert gain_said(model, [1.2, 2.5], capsys) == "in 2 of 2 kernels, 1.2x to 2.5x as fast"


def test_what_computes_zeros_is_named_by_its_path(monkeypatch, capsys):
    monkeypatch.setenv("SPFDE_KERNELS", "dense")
    model = attentive()
    model(tf.zeros((2, 6, 16)))
    spfde_keras.summary(model)
    computing = capsys.readouterr().out.split("zeros computed: ")[1]
    assert {"first,", "attention/query,", "attention/value,", "conv"} < set(computing.split())


def test_training_with_xla_asked_for_and_export(tmp_path):
    model = attentive()
    with pytest.warns(UserWarning, match="doesn't support `jit_compile=True`"):
        model.compile("sgd", "mse", jit_compile=True)
    x, y = np.random.default_rng(0).normal(size=(8, 6, 16)).astype("float32"), np.zeros((8, 3))
    model.layers[1].trainable = False
    model.fit(x, y, verbose=0)
    assert all(choice.sparse for choice in choices(model))
    model.export(tmp_path / "saved", verbose=False)
    assert b"Spfde" not in (tmp_path / "saved" / "saved_model.pb").read_bytes()
    saved = tf.saved_model.load(tmp_path / "saved")
    np.testing.assert_allclose(saved.serve(x), model(x), atol=1e-5)
