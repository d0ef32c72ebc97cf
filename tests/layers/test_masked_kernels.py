"""Masked layers with kernels that skip zeros, against the same layers without."""

import os
import subprocess
import sys
from unittest.mock import Mock

import keras
import numpy as np
import pytest
import tensorflow as tf

import spfde_keras
from spfde_keras import kernels
from spfde_keras.kernel_gradients import kernel_gradients
from spfde_keras.layers import MaskedConv2D, MaskedDense
from spfde_keras.masking import find_masks

pytestmark = pytest.mark.usefixtures("sparse_kernels")

TOLERANCE = 1e-5  # of the largest value
CONVOLUTIONS = {
    "plain": {"use_bias": False},
    "bias": {"bias_initializer": "random_normal"},
    "activation": {"activation": "relu"},
    "strides": {"strides": 2},
    "same": {"padding": "same"},
    "same_strides": {"padding": "same", "strides": 2},
    "pointwise": {"kernel_size": 1},
    "oblong": {"kernel_size": (3, 2), "padding": "same"},
    "regularizers": {"kernel_regularizer": "l2", "activity_regularizer": "l1"},
}
DENSE = {
    "plain": {"use_bias": False},
    "bias": {"bias_initializer": "random_normal"},
    "activation": {"activation": "tanh"},
    "regularizers": {"kernel_regularizer": "l2", "activity_regularizer": "l1"},
}


def sparse_layer(layer_class, *shape, sparsity=0.8, **options):
    """A built layer with random masks and garbage under them."""
    layer = layer_class(6, sparsity=sparsity, **options)
    layer.build((None, *shape))
    random = np.random.default_rng(0)
    for mask in layer.masks:
        kernel, masks = mask.read()
        masks = random.random(masks.shape) < 0.2
        mask.values.assign(masks)
        mask.kernel.assign(np.where(masks[0], kernel, np.nan if len(masks) == 1 else kernel))
    return layer


def derive(layer, x):
    """Outputs, gradients of input and weights, and losses."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = layer(x)
        loss = tf.reduce_sum(tf.cast(outputs, "float32") ** 2)
        losses = [loss for loss in layer.losses if np.isfinite(loss)]
        loss += tf.add_n(losses or [0.0])
    variables = [weight.value for weight in layer.trainable_weights]
    return outputs, *tape.gradient(loss, [x, *variables]), tf.convert_to_tensor(losses)


def both(layer, x):
    """What `derive` gives with kernels that skip zeros, and without."""
    found = derive(layer, x)
    assert layer.kernel_choice.sparse
    with kernels.disabled():
        expected = derive(layer, x)
    return found, expected


def assert_equal(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape and one.dtype == other.dtype
        scale = np.abs(other).max(initial=0) or 1
        np.testing.assert_allclose(one, other, rtol=0, atol=TOLERANCE * scale)


def images(*shape, dtype="float32"):
    return tf.constant(np.random.default_rng(1).normal(size=shape), dtype)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name):
    options = {"kernel_size": 3} | CONVOLUTIONS[name]
    layer = sparse_layer(MaskedConv2D, 9, 8, 5, **options)
    assert_equal(*both(layer, images(7, 9, 8, 5)))


@pytest.mark.parametrize("name", DENSE)
@pytest.mark.parametrize("shape", [(), (3,), (3, 2)])
def test_dense_layers(name, shape):
    layer = sparse_layer(MaskedDense, *shape, 20, **DENSE[name])
    assert_equal(*both(layer, images(7, *shape, 20)))


def test_gradients_are_zero_behind_the_mask():
    for layer, x in [
        (sparse_layer(MaskedConv2D, 9, 8, 5, kernel_size=3), images(2, 9, 8, 5)),
        (sparse_layer(MaskedDense, 20), images(7, 20)),
    ]:
        of_kernel = derive(layer, x)[2].numpy()
        assert layer.kernel_choice.sparse
        hidden = ~layer.masks[0].read()[1][0]
        assert np.any(of_kernel) and not of_kernel[hidden].any()


@pytest.mark.parametrize("layer_class, shape", [(MaskedConv2D, (9, 8, 5)), (MaskedDense, (20,))])
def test_lora_trains_what_is_masked(layer_class, shape):
    # Its product of two matrices is not sparse.
    options = {"kernel_size": 3} if layer_class is MaskedConv2D else {}
    layer = sparse_layer(layer_class, *shape, **options)
    layer.enable_lora(2)
    layer.lora_kernel_b.assign(images(*layer.lora_kernel_b.shape))
    found = layer(images(7, *shape))
    with kernels.disabled():
        np.testing.assert_allclose(found, layer(images(7, *shape)), atol=1e-4)


@pytest.mark.parametrize(
    "options, shape",
    [
        ({"groups": 2}, (9, 8, 4)),
        ({"dilation_rate": 2}, (9, 8, 4)),
        ({"strides": (1, 2)}, (9, 8, 4)),
        ({"strides": 3}, (9, 8, 4)),
        ({"dtype": "float16"}, (9, 8, 4)),
        ({"dtype": "mixed_float16"}, (9, 8, 4)),
        ({"dtype": "float64"}, (9, 8, 4)),
        ({"sparsity": {}}, (9, 8, 4)),
    ],
)
def test_other_convolutions_are_computed_as_ever(options, shape):
    layer = sparse_layer(MaskedConv2D, *shape, **({"kernel_size": 3} | options))
    x = images(2, *shape, dtype=layer.compute_dtype)
    found = layer(x)
    assert layer.kernel_choice is None or not layer.kernel_choice.sparse
    with kernels.disabled():
        np.testing.assert_array_equal(found, layer(x))


def test_channels_first_is_left_to_tensorflow():
    layer = sparse_layer(MaskedConv2D, 4, 9, 8, kernel_size=3, data_format="channels_first")
    function = tf.function(layer).get_concrete_function(tf.TensorSpec([2, 4, 9, 8]))
    assert not operators_of(function.graph)


def operators_of(graph) -> list[str]:
    return [op.type for op in graph.get_operations() if op.type.startswith("Spfde")]


def net(sparsity=0.8):
    """A small classifier of 8x8 images whose inner layers are sparse."""
    # Masks are drawn by the names of layers: two nets get the same.
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(1)
    L = keras.layers
    plain = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            L.Conv2D(8, 3, padding="same", activation="relu"),
            L.Conv2D(16, 3, activation="relu"),
            L.Conv2D(16, 3, strides=2, activation="relu"),
            L.Conv2D(16, 1, activation="relu"),
            L.Flatten(),
            L.Dense(32, activation="relu"),
            L.Dense(10),
        ]
    )
    return spfde_keras.sparsify(plain, sparsity, initial="random", seed=0)


def compiled(model, **options):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"], **options)
    return model


def choices(model):
    """How each masked layer computed."""
    return [layer.kernel_choice for layer in model._flatten_layers() if hasattr(layer, "masks")]


class TrainsAs(keras.callbacks.Callback):
    """Notes how layers compute as an epoch's training begins: gradients at its end are dense."""

    def __init__(self):
        super().__init__()
        self.sparse = []

    def on_train_batch_end(self, batch, logs=None):
        if batch == 0:
            self.sparse += [bool(choice and choice.sparse) for choice in choices(self.model)]


def trained(digits, sparsity, make_callback):
    """A net after four epochs, its history, and whether its layers skipped zeros."""
    model, trains = compiled(net(sparsity)), TrainsAs()
    x = np.float32(digits.train_x[:416]).reshape(-1, 8, 8, 1) / 16
    callbacks = [make_callback(), trains]
    history = model.fit(x, digits.train_y[:416], 64, epochs=4, verbose=0, callbacks=callbacks)
    return model, history.history, trains.sparse[:4]


def assert_same_training(digits, sparsity, make_callback):
    model, history, sparse = trained(digits, sparsity, make_callback)
    assert sparse == [True] * 4
    assert history["loss"][-1] < history["loss"][0]
    with kernels.disabled():
        other, expected, sparse = trained(digits, sparsity, make_callback)
    assert sparse == [False] * 4
    # Rounding may settle which of two equally good weights is grown, not more.
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=2e-3)
    for one, two in zip(find_masks(model), find_masks(other), strict=True):
        (kernel, kept), (other_kernel, other_kept) = one.read(), two.read()
        assert np.mean(kept != other_kept) < 0.01
        stay = kept.any(axis=0) & other_kept.any(axis=0)
        off = np.abs(kernel - other_kernel)[stay]
        assert np.median(off) < 1e-4 * np.abs(kernel).max()
        assert not kernel[~kept.any(axis=0)].any()
    return model, history


def test_spfde_trains_as_with_dense_kernels(digits):
    before = [mask.read()[1] for mask in find_masks(net())]
    model, history = assert_same_training(
        digits,
        0.8,
        lambda: spfde_keras.SpFDE(epochs=4, updater="rigl", interval=1, freeze=0.2, seed=0),
    )
    assert history["frozen_blocks"][-1] > 0
    # Masked weights had gradients to grow by.
    for mask, old in zip(find_masks(model), before, strict=True):
        assert np.any(mask.read()[1] & ~old)


def test_subnets_train_as_with_dense_kernels(digits):
    assert_same_training(
        digits,
        [0.6, 0.8, 0.9],
        lambda: spfde_keras.AlternatingSparseTraining(epochs=4, interval=1, seed=0),
    )


def test_each_subnet_is_computed_with_its_own_mask(digits):
    model = compiled(net([0.5, 0.8, 0.9]))
    x = np.float32(digits.test_x[:70]).reshape(-1, 8, 8, 1) / 16
    found = []
    for subnet in range(3):
        model.activate(subnet)
        found.append(model.predict(x, verbose=0))
        plain = spfde_keras.densify(model, subnet=subnet)
        np.testing.assert_allclose(found[-1], plain.predict(x, verbose=0), atol=1e-5)
    assert all(choice.sparse for choice in choices(model))
    assert not np.allclose(found[0], found[1]) and not np.allclose(found[1], found[2])


def test_the_dense_gradient_reaches_what_is_masked(digits):
    model = compiled(net())
    data = np.float32(digits.train_x[:64]).reshape(-1, 8, 8, 1) / 16, digits.train_y[:64]
    masks = find_masks(model)
    found = kernel_gradients(model, lambda: data, masks, dense=True)
    model(data[0])
    assert all(choice.sparse for choice in choices(model))
    for mask in masks:
        hidden = found[mask.kernel_path][~mask.read()[1][0]]
        assert np.mean(hidden != 0) > 0.3


@pytest.mark.parametrize("sparsity, subnet", [(0.8, 0), ([0.5, 0.8, 0.9], 1)])
def test_the_gradient_of_what_is_kept_skips_zeros(digits, monkeypatch, sparsity, subnet):
    model = compiled(net(sparsity))
    data = np.float32(digits.train_x[:64]).reshape(-1, 8, 8, 1) / 16, digits.train_y[:64]
    masks = find_masks(model)
    dense = kernel_gradients(model, lambda: data, masks, dense=True, subnet=subnet)
    convolve = Mock(side_effect=kernels.sparse_conv2d)
    monkeypatch.setattr(kernels, "sparse_conv2d", convolve)
    found = kernel_gradients(model, lambda: data, masks, subnet=subnet)
    assert convolve.called
    for mask in masks:
        expected = np.where(mask.read()[1][subnet], dense[mask.kernel_path], 0)
        assert np.any(expected)
        np.testing.assert_allclose(found[mask.kernel_path], expected, rtol=1e-3, atol=1e-5)


def test_xla_asked_for_does_no_harm(digits):
    with pytest.warns(UserWarning, match="doesn't support `jit_compile=True`"):
        model = compiled(net(), jit_compile=True)
    x = np.float32(digits.train_x[:64]).reshape(-1, 8, 8, 1) / 16
    model.fit(x, digits.train_y[:64], verbose=0)
    assert all(choice.sparse for choice in choices(model))
    with kernels.disabled():
        expected = model(x)
        function = tf.function(lambda x: model(x), jit_compile=True)
        np.testing.assert_allclose(function(x), expected, atol=1e-5)


def test_what_is_exported_runs_without_the_kernels(tmp_path):
    model = net()
    x = images(5, 8, 8, 1)
    expected = model(x)
    model.export(tmp_path / "saved", verbose=False)
    saved = (tmp_path / "saved" / "saved_model.pb").read_bytes()
    assert b"Conv2D" in saved and b"Spfde" not in saved
    saved = tf.saved_model.load(tmp_path / "saved")
    np.testing.assert_allclose(saved.serve(x), expected, atol=1e-5)
    assert all(choice.sparse for choice in choices(model))


def test_archives_and_converters_of_others_trace_it_without_the_kernels(tmp_path):
    model = net()
    x = images(1, 8, 8, 1)
    expected = model(x)
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", model.__call__, [tf.TensorSpec((None, 8, 8, 1))])
    archive.write_out(tmp_path / "saved", verbose=False)
    assert b"Spfde" not in (tmp_path / "saved" / "saved_model.pb").read_bytes()
    content = tf.lite.TFLiteConverter.from_keras_model(model).convert()
    (tmp_path / "net.tflite").write_bytes(content)
    found = spfde_keras.export.run_tflite(tmp_path / "net.tflite", x)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_tflite(tmp_path):
    model = net()
    x = images(5, 8, 8, 1)
    spfde_keras.export_tflite(model, tmp_path / "net.tflite")
    found = spfde_keras.export.run_tflite(tmp_path / "net.tflite", x)
    np.testing.assert_allclose(found, model(x), atol=1e-5)


def test_saved_and_loaded(tmp_path):
    model = net([0.6, 0.8])
    model.save(tmp_path / "net.keras")
    again = keras.models.load_model(tmp_path / "net.keras")
    x = images(5, 8, 8, 1)
    for subnet in range(2):
        model.activate(subnet)
        again.activate(subnet)
        np.testing.assert_array_equal(again(x), model(x))
    assert all(choice.sparse for choice in choices(again))


def test_the_last_batch_may_be_smaller(digits):
    model = compiled(net())
    x = np.float32(digits.train_x[:70]).reshape(-1, 8, 8, 1) / 16
    found = model.predict(x, batch_size=32, verbose=0)
    np.testing.assert_allclose(found, model(x), atol=1e-5)


REPLICAS = """
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras, spfde_keras
from spfde_keras import kernels

def run():
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        plain = keras.Sequential([
            keras.Input((8, 8, 4)), keras.layers.Conv2D(8, 3), keras.layers.Conv2D(8, 3, strides=2),
            keras.layers.Flatten(), keras.layers.Dense(8), keras.layers.Dense(1),
        ])
        model = spfde_keras.sparsify(plain, 0.8, seed=0)
        model.compile(keras.optimizers.SGD(0.01), "mse")
    random = np.random.default_rng(0)
    x, y = random.normal(size=(21, 8, 8, 4)), random.normal(size=(21, 1))
    history = model.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0)
    sparse = [l.kernel_choice.sparse for l in model.layers if hasattr(l, "masks")]
    return history.history["loss"], sparse, [w.numpy() for w in model.weights]

found, sparse, weights = run()
assert sparse == [True, True], sparse
kernels.choice.status = lambda: kernels.Status(False, "", "dense", None, "")
expected, sparse, others = run()
assert sparse == [False, False], sparse
np.testing.assert_allclose(found, expected, rtol=1e-4)
for one, other in zip(weights, others, strict=True):
    np.testing.assert_allclose(one, other, atol=1e-4)
"""


def test_replicas():
    result = subprocess.run(
        [sys.executable, "-c", REPLICAS], env=os.environ, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-2000:]
