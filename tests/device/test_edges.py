"""Inputs at the edges: zeros, kinks, and sizes that are not the file's."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

import spfde_keras

L = keras.layers


def export(net, path, optimizer="sgd", loss="mse", **options):
    spfde_keras.export_trainable_tflite(net, path, optimizer, loss, batch_size=4, **options)
    app = Interpreter(str(path))
    return {name: app.get_signature_runner(name) for name in app.get_signature_list()}


def updated(net, file, x, y, optimizer, loss="mse"):
    """The loss and the weights after an update, in the file and in Keras."""
    found = file["train"](x=x, y=y, rate=np.float32([0.1]))["loss"][0]
    state = file["save"]()["state"]
    twin = keras.models.clone_model(net)
    twin.set_weights(net.get_weights())
    twin.compile(optimizer, loss)
    expected = float(twin.train_on_batch(x, y))
    spfde_keras.load_device_state(net, state)
    return (found, net.get_weights()), (expected, twin.get_weights())


def check(got, expected):
    np.testing.assert_allclose(got[0], expected[0], rtol=1e-6)
    for one, other in zip(got[1], expected[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)


X, Y = np.zeros((4, 5), "float32"), np.ones((4, 3), "float32")


def test_gradients_of_zero_are_clipped_by_their_common_norm(tmp_path):
    """Keras divides by the norm; RSQRT of 0 is NaN in XNNPACK."""
    net = keras.Sequential([keras.Input((5,)), L.Dense(8, activation="relu"), L.Dense(3)])
    sgd = keras.optimizers.SGD(0.1, global_clipnorm=0.1)
    file = export(net, tmp_path / "t.tflite", sgd)
    check(*updated(net, file, X, 0 * Y, sgd))
    assert np.isfinite(file["save"]()["state"]).all()


@pytest.mark.parametrize("activation", ["selu", "elu", "relu", "leaky_relu", "relu6", "softsign"])
def test_units_without_input_stand_at_a_kink(activation, tmp_path):
    net = keras.Sequential([keras.Input((5,)), L.Dense(4, activation), L.Dense(3)])
    sgd = keras.optimizers.SGD(0.1)
    check(*updated(net, export(net, tmp_path / "t.tflite", sgd), X, Y, sgd))


def test_a_vector_of_zeros_is_normalized(tmp_path):
    net = keras.Sequential([keras.Input((5,)), L.UnitNormalization(), L.Dense(3)])
    sgd = keras.optimizers.SGD(0.1)
    check(*updated(net, export(net, tmp_path / "t.tflite", sgd), X, Y, sgd))


def test_a_plain_net_with_batch_normalization(tmp_path):
    net = keras.Sequential([keras.Input((5,)), L.Dense(8), L.BatchNormalization(), L.Dense(3)])
    sgd = keras.optimizers.SGD(0.1)
    file = export(net, tmp_path / "t.tflite", sgd)
    x = np.random.default_rng(0).random((4, 5), "float32")
    (loss, _), (expected, _) = updated(net, file, x, Y, sgd)
    assert loss == pytest.approx(expected, rel=1e-5)


def embedding():
    layers = [keras.Input((6,), dtype="int32"), L.Embedding(9, 4), L.Flatten(), L.Dense(3)]
    return keras.Sequential(layers)


@pytest.mark.parametrize("optimizer", ["adagrad", "rmsprop", "adadelta"])
def test_what_divides_gradients_of_rows_is_refused(optimizer, tmp_path):
    with pytest.raises(ValueError, match="an optimizer that divides gradients of embeddings"):
        export(embedding(), tmp_path / "t.tflite", optimizer)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "lion"])
def test_rows_that_are_looked_up(optimizer, tmp_path):
    net = embedding()
    x = np.arange(24, dtype="int32").reshape(4, 6) % 7
    given = keras.optimizers.get(optimizer)
    given.learning_rate = 0.1
    check(*updated(net, export(net, tmp_path / "t.tflite", optimizer), x, Y, given))


class TestSizes:
    @pytest.fixture(scope="class")
    def file(self, tmp_path_factory):
        net = keras.Sequential([keras.Input((6, 6, 2)), L.Conv2D(4, 3), L.Flatten(), L.Dense(3)])
        path = tmp_path_factory.mktemp("sizes") / "t.tflite"
        return export(net, path, loss="sparse_categorical_crossentropy", stages=1)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"x": (1, 6, 6, 2)},
            {"x": (8, 6, 6, 2)},
            {"x": (4, 6, 6, 1)},
            {"x": (4, 5, 6, 2)},
            {"y": (1,)},
            {"y": (8,)},
            {"rate": (1,)},
        ],
        ids=str,
    )
    def test_those_of_others_are_errors_of_the_runtime(self, file, wrong):
        right = {name: np.ones(d["shape"], d["dtype"]) for name, d in inputs(file).items()}
        (name, shape), *_ = wrong.items()
        before = file["save"]()["state"]
        with pytest.raises(RuntimeError, match="SCATTER_ND|SPLIT_V"):
            file["train"](**right | {name: np.ones(shape, right[name].dtype)})
        assert np.isfinite(file["train"](**right)["loss"])
        file["restore"](state=before)

    def test_many_samples_are_no_single_one(self, file):
        with pytest.raises(RuntimeError, match="SCATTER_ND"):
            file["infer"](x=np.ones((4, 6, 6, 2), "float32"))


def inputs(file):
    return file["train"].get_input_details()
