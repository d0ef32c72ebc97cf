"""FusedBatchNormalization against Keras' own layer, and against a case worked by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from spfde_keras.layers.batch_norm import FusedBatchNormalization

SHAPE = (6, 5, 4, 3)


def inputs_of(shape, dtype="float32", seed=0):
    random = np.random.default_rng(seed)
    return tf.constant(random.normal(0.7, 2.0, shape), dtype)


def pair(shape=SHAPE, **kwargs):
    """A fused and a Keras layer with the same, non-trivial weights."""
    layers = FusedBatchNormalization(**kwargs), keras.layers.BatchNormalization(**kwargs)
    for layer in layers:
        layer.build(shape)
        random = np.random.default_rng(1)
        layer.set_weights([random.uniform(0.5, 1.5, w.shape) for w in layer.weights])
    return layers


def step(layer, x, training):
    """Output, gradients and weights after one call."""
    upstream = inputs_of(x.shape, x.dtype, seed=2)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=training)
        # A product with y makes second-order terms of the statistics matter.
        loss = tf.reduce_sum(tf.cast(y * upstream * tf.cast(y, x.dtype), "float32"))
    variables = [w.value for w in layer.trainable_weights]
    gradients = tape.gradient(loss, [x, *variables])
    return [y.numpy(), *[g.numpy() for g in gradients], *layer.get_weights()]


def assert_same(x, training, rtol=1e-5, **kwargs):
    fused, plain = pair(x.shape, **kwargs)
    for mine, theirs in zip(step(fused, x, training), step(plain, x, training), strict=True):
        assert mine.dtype == theirs.dtype
        scale = np.abs(theirs.astype("float64")).max() + 1e-12
        np.testing.assert_allclose(
            mine.astype("float64") / scale, theirs.astype("float64") / scale, atol=rtol
        )


def uses_kernel(layer, x, training=True, mask=None):
    graph = (
        tf.function(lambda x: layer(x, training=training, mask=mask)).get_concrete_function(x).graph
    )
    return any(op.type == "FusedBatchNormV3" for op in graph.get_operations())


def test_hand_worked():
    layer = FusedBatchNormalization(momentum=0.9, epsilon=2.0)
    x = np.reshape([1.0, 2.0, 3.0, 6.0], (2, 2, 1, 1)).astype("float32")
    y = layer(x, training=True)
    # Mean 3, population variance (4 + 1 + 0 + 9) / 4 = 3.5 (the sample's would be 14 / 3).
    np.testing.assert_allclose(np.ravel(y), (np.ravel(x) - 3) / np.sqrt(5.5), rtol=1e-6)
    np.testing.assert_allclose(layer.moving_mean, [0.3], rtol=1e-6)
    np.testing.assert_allclose(layer.moving_variance, [0.9 + 0.35], rtol=1e-6)


@pytest.fixture(params=["tensorflow", "own"])
def kernels_used(request):
    """TensorFlow's kernel, then our own."""
    if request.param == "own":
        request.getfixturevalue("sparse_kernels")


@pytest.mark.usefixtures("kernels_used")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("trainable", [True, False])
def test_equals_keras(training, trainable):
    assert_same(inputs_of(SHAPE), training, trainable=trainable)


@pytest.mark.usefixtures("kernels_used")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "kwargs",
    [
        {"center": False},
        {"scale": False},
        {"center": False, "scale": False},
        {"axis": 3},
        {"axis": 1},
        {"epsilon": 1.001e-5},
        {"epsilon": 1e-6},
        {"momentum": 0.5},
        {"renorm": True},
        {"dtype": "float64"},
    ],
    ids=str,
)
def test_equals_keras_when_configured(kwargs, training):
    assert_same(inputs_of(SHAPE, kwargs.get("dtype", "float32")), training, **kwargs)


@pytest.mark.usefixtures("kernels_used")
@pytest.mark.parametrize("shape", [(8, 3), (4, 6, 3), (2, 3, 4, 2, 3), (1, 1, 1, 3)], ids=str)
def test_equals_keras_on_other_shapes(shape):
    assert_same(inputs_of(shape), training=True)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype, rtol", [("float16", 4e-3), ("bfloat16", 3e-2)])
def test_equals_keras_in_mixed_precision(dtype, rtol, training):
    x = inputs_of(SHAPE, dtype)
    assert_same(x, training, rtol=rtol, dtype=f"mixed_{dtype}")
    fused, plain = pair(SHAPE, dtype=f"mixed_{dtype}")
    assert uses_kernel(fused, x)
    fused(x, training=True), plain(x, training=True)
    for mine, theirs in zip(fused.get_weights(), plain.get_weights(), strict=True):
        assert mine.dtype == np.float32
        np.testing.assert_allclose(mine, theirs, rtol=1e-5)


def test_float16_values_too_large_to_square():
    x = 300.0 * inputs_of(SHAPE, "float16")
    fused, plain = pair(SHAPE, dtype="mixed_float16")
    np.testing.assert_allclose(fused(x, training=True), plain(x, training=True), atol=4e-3)
    np.testing.assert_allclose(fused.moving_variance, plain.moving_variance, rtol=1e-5)


def test_mask():
    x, mask = inputs_of(SHAPE), inputs_of(SHAPE[:-1], seed=3) > 0
    fused, plain = pair()
    np.testing.assert_allclose(
        fused(x, training=True, mask=mask), plain(x, training=True, mask=mask), rtol=1e-5
    )
    for mine, theirs in zip(fused.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5)


def test_kernel_is_used_where_it_can_be():
    x = inputs_of(SHAPE)
    assert uses_kernel(pair()[0], x, training=True)
    assert uses_kernel(pair()[0], x, training=False)
    assert not uses_kernel(pair()[0], x, mask=x[..., 0] > 0)
    for kwargs in ({"axis": 1}, {"epsilon": 1e-5}, {"synchronized": True}, {"renorm": True}):
        assert not uses_kernel(pair(**kwargs)[0], x), kwargs


def test_own_kernels_are_used_in_single_precision(sparse_kernels):
    for dtype, used in [("float32", True), ("bfloat16", False)]:
        layer = pair(dtype=f"mixed_{dtype}" if dtype == "bfloat16" else dtype)[0]
        call = tf.function(lambda x, layer=layer: layer(x, training=True))
        graph = call.get_concrete_function(inputs_of(SHAPE, dtype)).graph
        assert used == any(op.type == "SpfdeMoments" for op in graph.get_operations())


@pytest.mark.usefixtures("kernels_used")
def test_unknown_batch_size():
    fused, plain = pair((None, *SHAPE[1:]))
    x = inputs_of(SHAPE)
    for layer in (fused, plain):
        call = tf.function(lambda x, layer=layer: layer(x, training=True))
        call.get_concrete_function(tf.TensorSpec((None, *SHAPE[1:])))(x)
    np.testing.assert_allclose(fused.moving_variance, plain.moving_variance, rtol=1e-5)


@pytest.mark.usefixtures("kernels_used")
def test_trains_like_keras_and_survives_saving(tmp_path):
    def model_of(normalization):
        keras.utils.set_random_seed(0)
        layers = keras.layers
        model = keras.Sequential(
            [layers.Input((6, 6, 2)), layers.Conv2D(4, 3), normalization(), layers.ReLU()]
            + [layers.GlobalAveragePooling2D(), layers.Dense(3, activation="softmax")]
        )
        model.compile(keras.optimizers.SGD(0.05), "sparse_categorical_crossentropy")
        return model

    x, y = inputs_of((22, 6, 6, 2)).numpy(), np.arange(22) % 3
    fused, plain = model_of(FusedBatchNormalization), model_of(keras.layers.BatchNormalization)
    for model in (fused, plain):
        model.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0)
    for mine, theirs in zip(fused.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)
    np.testing.assert_allclose(fused.predict(x, verbose=0), plain.predict(x, verbose=0), atol=1e-5)

    fused.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert any(type(layer) is FusedBatchNormalization for layer in loaded.layers)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), fused.predict(x, verbose=0))


def test_configuration_is_keras_own():
    kwargs = {"momentum": 0.9, "epsilon": 1e-4, "scale": False, "name": "norm"}
    fused, plain = pair(**kwargs)
    assert fused.get_config() == plain.get_config()
    assert [w.path for w in fused.weights] == [w.path for w in plain.weights]
    assert FusedBatchNormalization.from_config(plain.get_config()).get_config() == (
        plain.get_config()
    )
