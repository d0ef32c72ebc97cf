"""Every masked layer against the Keras layer with its kernel multiplied by the mask."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from spfde_keras import layers
from spfde_keras.layers import MaskedLayer, masked_class, plain_class, register_masked
from spfde_keras.layout import KernelLayout
from spfde_keras.masking import find_masks
from spfde_keras.schemes import Block

L = keras.layers
GROUPED = "conv2d_groups"
# Name: Keras' layer, its arguments, input shape, canonical shapes of its kernels.
CASES = {
    "conv1d": (L.Conv1D, (6, 3), {}, (7, 4), [(3, 4, 6)]),
    "conv1d_causal": (
        L.Conv1D,
        (6, 3),
        {"padding": "causal", "dilation_rate": 2},
        (7, 4),
        [(3, 4, 6)],
    ),
    "conv2d": (L.Conv2D, (6, (3, 2)), {"activation": "relu"}, (7, 6, 4), [(6, 4, 6)]),
    GROUPED: (L.Conv2D, (6, 3), {"groups": 2, "strides": 2}, (7, 6, 4), [(9, 2, 6)]),
    "conv2d_dilated": (
        L.Conv2D,
        (6, 3),
        {"dilation_rate": 2, "padding": "same"},
        (7, 6, 4),
        [(9, 4, 6)],
    ),
    "conv3d": (L.Conv3D, (6, 2), {"use_bias": False}, (4, 3, 3, 4), [(8, 4, 6)]),
    "depthwise": (L.DepthwiseConv2D, (3,), {"depth_multiplier": 2}, (7, 6, 4), [(9, 1, 8)]),
    "separable": (
        L.SeparableConv2D,
        (6, 3),
        {"depth_multiplier": 2},
        (7, 6, 4),
        [(9, 1, 8), (1, 8, 6)],
    ),
    "transpose": (L.Conv2DTranspose, (6, 3), {"strides": 2}, (4, 3, 5), [(9, 5, 6)]),
    "dense": (L.Dense, (6,), {"activation": "tanh"}, (4,), [(1, 4, 6)]),
    "dense_3d": (L.Dense, (6,), {}, (3, 4), [(1, 4, 6)]),
    "einsum": (L.EinsumDense, ("ab,bc->ac", 6), {"bias_axes": "c"}, (4,), [(1, 4, 6)]),
    "einsum_heads": (
        L.EinsumDense,
        ("abc,cde->abde", (None, 2, 3)),
        {"bias_axes": "de"},
        (5, 4),
        [(1, 4, 6)],
    ),
    "einsum_merge": (L.EinsumDense, ("abcd,cde->abe", (None, 5)), {}, (3, 2, 4), [(1, 8, 5)]),
    "einsum_separate": (L.EinsumDense, ("abc,bcd->abd", (3, 6)), {}, (3, 4), [(3, 4, 6)]),
    "einsum_ellipsis": (L.EinsumDense, ("...x,xy->...y", 6), {}, (3, 4), [(1, 4, 6)]),
    "einsum_kernel_first": (L.EinsumDense, ("abc,dc->abd", (None, 6)), {}, (3, 4), [(1, 4, 6)]),
}


def pair(name, dtype=None, sparsity=0.5):
    """The masked layer with random masks and garbage under them, and its folded Keras twin."""
    plain, args, kwargs, shape, _ = CASES[name]
    masked = masked_class(plain(*args, **kwargs))(
        *args, **kwargs, sparsity=sparsity, dtype=dtype, name=name
    )
    plain = plain(*args, **kwargs, dtype=dtype)
    for layer in (masked, plain):
        layer.build((None, *shape))
    random = np.random.default_rng(0)
    for target, source in zip(plain.weights, own_weights(masked), strict=True):
        source.assign(random.normal(size=source.shape))
        target.assign(source)
    for weight, mask in zip(masked.masked_weights, masked.masks, strict=True):
        values = random.random((1, *mask.layout.shape)) < 0.5
        mask.values.assign(values)
        getattr(plain, weight).assign(np.where(values[0], mask.kernel.numpy(), 0))
        mask.kernel.assign(np.where(values[0], mask.kernel.numpy(), np.nan))
    return masked, plain, tf.constant(random.normal(size=(5, *shape)), "float32")


def own_weights(layer):
    masks = [variable for mask in layer.masks for variable in mask.variables]
    return [weight for weight in layer.weights if not any(weight is mask for mask in masks)]


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
@pytest.mark.parametrize("name", CASES)
def test_outputs_are_those_of_the_folded_keras_layer(name, dtype):
    masked, plain, x = pair(name, dtype)
    outputs = masked(x)
    assert np.isfinite(outputs).all(), "a masked weight came through"
    assert outputs.dtype == plain(x).dtype == masked.compute_dtype
    np.testing.assert_array_equal(outputs, plain(x))


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_the_folded_layers_and_zero_behind_the_mask(name):
    masked, plain, x = pair(name)

    def gradients(layer):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(layer(x) ** 2)
        variables = [weight.value for weight in layer.trainable_weights]
        return [g.numpy() for g in tape.gradient(loss, [x, *variables])]

    found, expected = gradients(masked), gradients(plain)
    masked_out = {id(mask.kernel): ~mask.read()[1][0] for mask in masked.masks}
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-5)
    for weight, gradient, other in zip(
        masked.trainable_weights, found[1:], expected[1:], strict=True
    ):
        hidden = masked_out.get(id(weight), np.zeros(weight.shape, bool))
        assert not gradient[hidden].any()
        np.testing.assert_allclose(gradient, np.where(hidden, 0, other), rtol=1e-4, atol=1e-4)
        assert np.any(gradient)


@pytest.mark.parametrize("name", CASES)
def test_layouts(name):
    masked, _, _ = pair(name)
    assert [mask.layout.canonical_shape for mask in masked.masks] == CASES[name][-1]
    for mask in masked.masks:
        assert mask.layout.shape == tuple(mask.kernel.shape)
        # Every output of one canonical column is fed by that column alone.
        column = mask.layout.from_canonical(
            np.broadcast_to(np.arange(mask.layout.canonical_shape[2]), mask.layout.canonical_shape)
        )
        np.testing.assert_array_equal(
            mask.layout.to_canonical(column)[0, 0], np.arange(mask.layout.canonical_shape[2])
        )


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("separable", "einsum")])
def test_canonical_outputs_are_the_layers_outputs(name):
    masked, _, x = pair(name)
    mask = masked.masks[0]
    positions, inputs, outputs = mask.layout.canonical_shape
    ones = np.zeros((positions, inputs, outputs), bool)
    ones[:, :, 2] = True
    for weight in own_weights(masked):
        weight.assign(np.zeros(weight.shape))
    mask.write(np.ones(mask.layout.shape), mask.layout.from_canonical(ones)[None])
    out = masked(x).numpy()
    if name == "einsum_heads":
        out = out.reshape(*out.shape[:2], 6)
    assert out[..., 2].any()
    assert not np.delete(out, 2, axis=-1).any()


@pytest.mark.parametrize("name", CASES)
def test_config_makes_an_equal_layer(name):
    masked, _, x = pair(name)
    config = masked.get_config()
    copy = type(masked).from_config(config)
    assert copy.get_config() == config
    assert list(copy.sparsity) == list(masked.masked_weights)
    copy.build(x.shape)
    copy.set_weights(masked.get_weights())
    np.testing.assert_array_equal(copy(x), masked(x))
    assert plain_class(masked) is CASES[name][0]


def test_config_holds_scheme_and_sparsities():
    layer = layers.MaskedSeparableConv2D(
        4, 3, scheme=Block(outputs=2), sparsity={"pointwise_kernel": 0.75}
    )
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert repr(copy.scheme) == "Block(outputs=2, inputs=1)"
    assert copy.sparsity == {"pointwise_kernel": 0.75}
    copy.build((None, 8, 8, 4))
    assert [mask.kernel_path.split("/")[-1] for mask in copy.masks] == ["pointwise_kernel"]
    assert copy(np.ones((1, 8, 8, 4))).shape == (1, 6, 6, 4)


def trained_model(dtype):
    """A compiled model with every kind of masked layer, trained for two steps."""
    with_policy = {"dtype": dtype, "sparsity": 0.5}
    inputs = keras.Input((4, 4, 4))
    x = layers.MaskedConv2D(4, 3, padding="same", groups=2, **with_policy)(inputs)
    x = layers.MaskedDepthwiseConv2D(3, padding="same", **with_policy)(x)
    x = layers.MaskedSeparableConv2D(4, 3, padding="same", **with_policy)(x)
    x = layers.MaskedConv2DTranspose(4, 3, padding="same", **with_policy)(x)
    x = keras.layers.Reshape((4, 4, 4, 1))(x)
    x = layers.MaskedConv3D(2, 2, padding="same", **with_policy)(x)
    x = keras.layers.Reshape((16, 8))(x)
    x = layers.MaskedConv1D(4, 3, padding="causal", **with_policy)(x)
    x = layers.MaskedEinsumDense("abc,cd->abd", (16, 4), **with_policy)(x)
    x = layers.MaskedMultiHeadAttention(2, 2, **with_policy)(x, x)
    x = keras.layers.Flatten()(x)
    outputs = layers.MaskedDense(3, **with_policy)(x)
    model = keras.Model(inputs, outputs)
    random = np.random.default_rng(0)
    for mask in find_masks(model):
        mask.subnets[0].initialize(random.random(mask.layout.shape), 0.5, random)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    # Keras compiles a step that makes variables twice.
    model.optimizer.build(model.trainable_variables)
    for _ in range(2):
        model.train_on_batch(*batch())
    return model


def batch():
    random = np.random.default_rng(1)
    return random.normal(size=(8, 4, 4, 4)).astype("float32"), np.arange(8) % 3


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
def test_a_trained_model_is_saved_and_loaded_bit_for_bit(tmp_path, dtype):
    model = trained_model(dtype)
    x, y = batch()
    path = tmp_path / "model.keras"
    model.save(path)
    loaded = keras.saving.load_model(path)
    for mask, other in zip(find_masks(model), find_masks(loaded), strict=True):
        assert mask.kernel_path == other.kernel_path
        np.testing.assert_array_equal(mask.read()[1], other.read()[1])
        assert not mask.read()[0][~mask.read()[1][0]].any(), "training moved a masked weight"
    np.testing.assert_array_equal(model(x), loaded(x))
    for one, two in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one, two)
    for each in (model, loaded):
        each.train_on_batch(x, y)
    np.testing.assert_array_equal(model(x), loaded(x))


@pytest.mark.parametrize(
    "sparsity, message",
    [
        (1.2, r"\[0, 1\). Received: 1.2"),
        ("a", "Received: 'a'"),
        ({"bias": 0.5}, r"must name weights among \('kernel',\). Received: \['bias'\]"),
        ({"kernel": -1}, r"\[0, 1\). Received: -1"),
    ],
)
def test_wrong_sparsity_is_refused_before_the_layer_is_built(sparsity, message):
    with pytest.raises(ValueError, match=message):
        layers.MaskedDense(4, sparsity=sparsity)


def test_a_kernel_the_scheme_cannot_divide_is_named():
    with pytest.raises(ValueError, match=r"'fc/kernel' with 6 outputs.*`dense=`"):
        layers.MaskedDense(6, scheme="block", sparsity=0.5, name="fc").build((None, 4))


class Noisy(keras.layers.Layer):
    """A layer with a kernel, state of its own, a sublayer with state, and a loss."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.dropout = keras.layers.Dropout(0.5)

    def build(self, input_shape):
        self.w = self.add_weight(shape=(input_shape[-1], self.units), name="w")
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False, name="calls")
        self.built = True

    def call(self, inputs, training=False):
        self.calls.assign_add(1.0)
        self.add_loss(ops.sum(self.w))
        return self.dropout(inputs @ self.w, training=training)

    def get_config(self):
        return super().get_config() | {"units": self.units}


@register_masked(Noisy)
class MaskedNoisy(MaskedLayer, Noisy):
    masked_weights = ("w",)

    def kernel_layout(self, weight):
        return KernelLayout(tuple(self.w.shape), (), inputs=(0,), outputs=(1,))


def test_a_custom_layer_keeps_its_state_seeds_and_losses():
    layer = MaskedNoisy(4, sparsity=0.5)
    x = np.ones((2, 100), "float32")
    layer.build(x.shape)
    layer.masks[0].write(np.ones((100, 4)), np.eye(100, 4, dtype=bool)[None])
    first, second = layer(x, training=True).numpy(), layer(x, training=True).numpy()
    draws = [layer(x, training=True).numpy() for _ in range(5)]
    assert any((draw != first).any() for draw in [second, *draws]), "the same dropout each time"
    assert float(layer.calls) == 7
    # The loss of the last call, of the masked kernel.
    assert [float(loss) for loss in layer.losses] == [4.0] * len(layer.losses) != []


def test_a_custom_layer_trains_in_a_model(tmp_path):
    inputs = keras.Input((3,))
    model = keras.Model(inputs, MaskedNoisy(4, sparsity=0.5, name="noisy")(inputs))
    model.compile("sgd", "mse")
    calls = model.layers[1].calls
    before = float(calls)
    model.fit(np.ones((6, 3)), np.ones((6, 4)), batch_size=2, epochs=2, verbose=0)
    # Keras may call the layer once more than there are steps, to find shapes.
    assert float(calls) >= before + 6
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(np.ones((2, 3))), model(np.ones((2, 3))))


def test_a_custom_layer_is_saved_under_its_own_package():
    assert keras.saving.get_registered_name(MaskedNoisy) == "tests>MaskedNoisy"
    assert keras.saving.get_registered_name(layers.MaskedDense) == "spfde_keras>MaskedDense"

    class Own(keras.layers.Dense):
        pass

    @register_masked(Own)
    @keras.saving.register_keras_serializable("mine")
    class MaskedOwn(layers.MaskedDense):
        pass

    assert keras.saving.get_registered_name(MaskedOwn) == "mine>MaskedOwn"


def test_a_custom_layer_of_an_older_file_loads(tmp_path):
    model = keras.Sequential([keras.Input((3,)), MaskedNoisy(4, sparsity=0.5, name="noisy")])
    text = model.to_json()
    older = text.replace("tests>MaskedNoisy", "spfde_keras>MaskedNoisy")
    assert older != text
    assert isinstance(keras.models.model_from_json(older).layers[0], MaskedNoisy)


def test_a_custom_layer_does_not_take_the_place_of_ours():
    class MaskedDense(layers.MaskedDense):
        pass

    register_masked(type("Own", (keras.layers.Dense,), {}))(MaskedDense)
    assert keras.saving.get_registered_object("spfde_keras>MaskedDense") is layers.MaskedDense


def test_a_layer_follows_a_stateless_call():
    masked, _, x = pair("dense")
    for mask in masked.masks:
        mask.write(*mask.read())
    doubled = [2 * weight.numpy() for weight in masked.trainable_variables]
    others = [variable.value for variable in masked.non_trainable_variables]
    outputs, _ = masked.stateless_call(doubled, others, x)
    kernel, bias = doubled
    np.testing.assert_allclose(outputs, np.tanh(x @ kernel + bias), rtol=1e-5)


def test_masked_class_is_by_exact_type():
    class Mine(keras.layers.Dense):
        pass

    assert masked_class(keras.layers.Dense(2)) is layers.MaskedDense
    assert masked_class(Mine(2)) is None
    assert masked_class(keras.layers.Flatten()) is None
    assert plain_class(keras.layers.Dense(2)) is None
