"""Layers in front of a cut are frozen: their features are computed once, and train the rest."""

import keras
import numpy as np
import pytest

import spfde_keras
from spfde_keras.device import exporter
from spfde_keras.device.cutting import check_cut, parts_of
from tests.device.nets import LOSS, App, batches, small_cnn

L = keras.layers
CUT = "conv2d_1"


@pytest.fixture(scope="module")
def cut(tmp_path_factory):
    """A report and its model."""
    keras.utils.clear_session(free_memory=False)
    path, model = tmp_path_factory.mktemp("cut") / "trains.tflite", small_cnn()
    report = spfde_keras.export_trainable_tflite(
        model, path, keras.optimizers.Adam(), LOSS, batch_size=8, cut=CUT
    )
    return report, model


@pytest.fixture
def app(cut):
    return App(cut[0].path)


def test_features_are_what_frozen_layers_give(cut, app):
    ((x, _),) = batches(1)
    prefix = keras.Model(cut[1].inputs[0], cut[1].get_layer(CUT).output)
    features = np.concatenate([app.features(x=one[None])["features"] for one in x])
    np.testing.assert_allclose(features, prefix(x), atol=1e-6)


def test_updates_from_features_are_those_from_inputs(cut, app):
    other, rate = App(cut[0].path), np.float32([0.01])
    for x, y in batches(3):
        features = np.concatenate([app.features(x=one[None])["features"] for one in x])
        from_features = app.train_on_features(features=features, y=y, rate=rate)
        from_inputs = other.step(x, y, rate=0.01)
        np.testing.assert_allclose(from_features["loss"], from_inputs["loss"], rtol=1e-6)
        assert from_features["correct"].tolist() == from_inputs["correct"].tolist()
    np.testing.assert_allclose(app.state, other.state, atol=1e-5)


def test_frozen_layers_are_not_in_the_state(cut):
    report, model = cut
    kernel, masks = spfde_keras.masking.find_masks(model.get_layer("dense"))[0].read()
    assert (report.kept, report.masked) == (np.count_nonzero(masks), kernel.size)
    # Marks and the count of steps; values and two slots; places.
    whole = 16 + 16 * 10 + 10
    assert report.state_size == 7 + 3 * (report.kept + whole) + report.kept


def test_the_model_takes_a_state_back(cut, app):
    model = spfde_keras.wrap(cut[1])
    for x, y in batches(2):
        app.step(x, y)
    spfde_keras.load_device_state(model, app.state, cut=CUT)
    x = next(batches(1))[0][:1]
    np.testing.assert_allclose(model(x), app.infer(x=x)["outputs"], atol=1e-6)
    with pytest.raises(ValueError, match="of this model"):
        spfde_keras.load_device_state(model, app.state)


@pytest.fixture(scope="module")
def skipping():
    x = keras.Input((4,))
    y = L.Dense(4, name="inside")(x)
    y = L.Add(name="both")([x, y])
    return keras.Model(x, L.Softmax(name="last")(L.Dense(3, name="head")(y)))


@pytest.mark.parametrize("name", ["no layer", 3, "input_layer"])
def test_cuts_that_are_no_layers_are_refused(skipping, name):
    with pytest.raises(ValueError, match="`cut` must be one of 'inside', 'both', 'head', 'last'"):
        check_cut(skipping, name)


@pytest.mark.parametrize("name", ["inside", "head", "last"])
def test_cuts_that_leave_nothing_or_go_around_are_refused(skipping, name):
    with pytest.raises(ValueError, match="`cut` must be .* Received: "):
        parts_of(skipping, name)


def test_layers_on_both_sides_are_refused():
    x, shared = keras.Input((4,)), L.Dense(4, name="shared")
    y = L.Dense(2)(shared(L.ReLU(name="between")(shared(x))))
    with pytest.raises(ValueError, match="`cut` must be .* Received: 'between'"):
        parts_of(keras.Model(x, y), "between")


def test_parts_make_up_the_model(skipping):
    x = np.float32([[1, 2, 3, 4]])
    prefix, tail = parts_of(skipping, "both")
    np.testing.assert_allclose(tail(prefix(x)), skipping(x), rtol=1e-6)
    assert parts_of(skipping, None) == (None, skipping)


def pointwise():
    """Frozen 1x1 convolutions between a strided one and the cut, and one that is trained."""
    x = keras.Input((16, 16, 3))
    y = L.Conv2D(8, 3, strides=2, padding="same", activation="relu")(x)
    for filters in (32, 64):
        y = L.Conv2D(filters, 1, use_bias=False)(y)
        y = L.ReLU()(L.BatchNormalization()(y))
    y = L.Dropout(0.5, name="cut")(y)  # in front of the cut it does nothing
    y = L.GlobalAveragePooling2D()(L.ReLU()(L.Conv2D(32, 1)(y)))
    return spfde_keras.sparsify(keras.Model(x, L.Dense(4, activation="softmax")(y)), 0.9)


@pytest.mark.slow
@pytest.mark.parametrize("miswritten", ["", "in some way"])
def test_frozen_weights_are_stored_sparse_where_that_is_right(tmp_path, monkeypatch, miswritten):
    monkeypatch.setattr(exporter.acceptance, "miswritten", lambda _: miswritten)
    path = tmp_path / "trains.tflite"
    report = spfde_keras.export_trainable_tflite(
        pointwise(), path, "adam", LOSS, batch_size=4, cut="cut"
    )
    graphs = {graph.name: graph for graph in spfde_keras.export.inspect_tflite(path).graphs}
    stored = [weights.stored for weights in graphs["features"].weights]
    assert (report.sparse, "sparse" in stored) == (not miswritten, not miswritten)
    assert all(weights.stored == "dense" for weights in graphs["train_on_features"].weights)
