"""An update in a file is the one that Keras makes; files that differ are not written."""

import keras
import numpy as np
import pytest

import spfde_keras
from spfde_keras.device import agreement, gradients
from tests.device import trained_nets
from tests.device.nets import LOSS
from tests.test_masks_inside import Closure

L = keras.layers


def sparse(model):
    """The model with masks on each of its kernels that can have one."""
    try:
        return spfde_keras.sparsify(model, 0.6, dense=())
    except ValueError:
        return spfde_keras.wrap(model)


@pytest.fixture
def updates_agree(tmp_path):
    """Exports a net; the exporter compares two updates of all that is stored."""

    def updates_agree(model, optimizer="sgd", loss=LOSS):
        path = tmp_path / "trains.tflite"
        report = spfde_keras.export_trainable_tflite(model, path, optimizer, loss, batch_size=4)
        assert report.max_error <= 1e-5 and report.bytes == path.stat().st_size

    return updates_agree


def test_of_a_net_of_many_kinds_of_layers(updates_agree):
    def body(x):
        y = trained_nets.separable(L.GroupNormalization(2)(L.Conv2D(4, 3, padding="same")(x)))
        y = L.MaxPooling2D(2)(L.ReLU()(y))
        return L.Dropout(0.0)(L.LayerNormalization()(L.AveragePooling2D(1)(y)))

    x = keras.Input((8, 8, 3))
    y = L.Dense(3, activation="softmax")(L.GlobalAveragePooling2D()(body(x)))
    updates_agree(sparse(keras.Model(x, y)), keras.optimizers.Adam())


@pytest.mark.slow
@pytest.mark.parametrize(
    "body", [*trained_nets.IMAGES, *trained_nets.SEQUENCES], ids=lambda body: body.__name__
)
def test_of_each_kind_of_net(updates_agree, body):
    updates_agree(sparse(trained_nets.classifier(body)), keras.optimizers.SGD(momentum=0.9))


@pytest.mark.slow
def test_of_a_net_that_looks_up_integers(updates_agree):
    updates_agree(sparse(trained_nets.looked_up()), "adam")


@pytest.mark.slow
@pytest.mark.parametrize("name", trained_nets.OPTIMIZERS)
def test_of_each_optimizer(updates_agree, name):
    updates_agree(sparse(trained_nets.small()), trained_nets.OPTIMIZERS[name]())


@pytest.mark.slow
@pytest.mark.parametrize("name", trained_nets.LOSSES)
def test_of_each_loss(updates_agree, name):
    loss, activation, units = trained_nets.LOSSES[name]
    updates_agree(sparse(trained_nets.small(units, activation)), loss=loss)


@pytest.mark.slow
def test_of_an_optimizer_that_mixes_positions(updates_agree):
    """Without masks: with them Keras' own Adafactor gives NaN."""
    updates_agree(spfde_keras.wrap(trained_nets.small()), keras.optimizers.Adafactor())


def test_a_file_that_differs_is_not_written(tmp_path, monkeypatch):
    """A gradient off by a thousandth is seen."""
    true = gradients._tanh
    broken = "SpfdeDeviceBrokenTanh"
    if broken not in gradients.OVERRIDES.values():
        gradients._overrides("BrokenTanh")(lambda op, g: 1.001 * true(op, g))
    monkeypatch.setitem(gradients.OVERRIDES, "Tanh", broken)
    path = tmp_path / "trains.tflite"
    model = keras.Sequential([keras.Input((4,)), L.Dense(4, activation="tanh"), L.Dense(2)])
    with pytest.raises(RuntimeError, match="an update of .* is off by .* No file was written"):
        spfde_keras.export_trainable_tflite(model, path, "sgd", "mse", batch_size=4)
    assert not list(tmp_path.iterdir())


def test_what_rounding_explains_is_no_error():
    expected = np.array([1.0, 1e-3])
    others = [expected + [2e-6, 0], expected - [1e-6, 1e-7]]
    for found, error in [([1 + 6e-6, 1e-3], 0), ([1 + 5e-5, 1e-3], 4.4e-5), ([1, 2e-3], 9.94e-4)]:
        got = agreement._error("w", np.array(found), expected, others, 0.0)
        assert got.unexplained == pytest.approx(error, abs=2e-6)
        assert got.rounding == pytest.approx(2e-6)
    # A start that gives no number explains nothing.
    unknown = agreement._error("w", expected + [5e-5, 0], expected, [*others, [np.nan, 0]], 0.0)
    assert unknown.unexplained == pytest.approx(4.4e-5, abs=2e-6)
    alone = agreement._error("w", expected + [1.0, 0], expected, [np.full(2, np.inf)], 0.0)
    assert alone.unexplained == pytest.approx(1.0)
    of_nan = agreement._error("w", np.array([1.0, np.nan]), expected, others, 0.0)
    assert of_nan.unexplained == np.inf


@pytest.mark.filterwarnings("ignore:Layers .* belong to both models")
def test_layers_that_are_shared_keep_their_weights(updates_agree):
    layers = [keras.Input((4,)), Closure(name="closure"), L.Dense(2)]
    model = spfde_keras.wrap(keras.Sequential(layers))
    before = model.get_weights()
    updates_agree(model, loss="mse")
    assert all(map(np.array_equal, model.get_weights(), before))


def test_a_model_of_a_class_of_its_own(updates_agree):
    class Mine(keras.Model):
        def __init__(self):
            super().__init__()
            self.body, self.head = L.Dense(8, activation="relu"), L.Dense(2)

        def call(self, inputs):
            return self.head(self.body(inputs))

    model = Mine()
    model(np.zeros((1, 4), "float32"))
    updates_agree(model, loss="mse")
