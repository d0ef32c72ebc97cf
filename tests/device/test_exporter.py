"""A file trains as Keras does, keeps zeros zero, and takes back its own states alone."""

import re

import keras
import numpy as np
import pytest

import spfde_keras
from spfde_keras.export.inspection.file import read_tflite
from tests.device.nets import LOSS, batches


def test_fifty_steps_are_those_of_keras(exported, app):
    twin = spfde_keras.wrap(exported[1])
    twin.compile(keras.optimizers.SGD(0.1, momentum=0.9), LOSS)
    data = list(batches(50))
    losses = [app.step(x, y)["loss"][0] for x, y in data]
    np.testing.assert_allclose(losses, [twin.train_on_batch(x, y) for x, y in data], rtol=1e-5)
    x = data[0][0][:1]
    np.testing.assert_allclose(app.infer(x=x)["outputs"], twin(x), atol=1e-5)


def test_the_file_has_nothing_but_builtin_operators(exported):
    graphs = read_tflite(exported[0].path).graphs
    names = {operator.name for graph in graphs for operator in graph.operators}
    assert names and not {name for name in names if not re.fullmatch("[A-Z0-9_]+", name)}, names


def test_weights_and_slots_are_stored_packed(exported):
    report, model = exported
    masks = [mask.read()[1] for mask in spfde_keras.masking.find_masks(model)]
    kept, masked = sum(map(np.count_nonzero, masks)), sum(mask.size for mask in masks)
    assert (report.kept, report.masked) == (kept, masked)
    whole = sum(np.asarray(v).size for v in model.trainable_variables) - masked
    # Marks and the optimizer's count of steps; values and slots; places.
    assert report.state_size == 7 + 2 * (whole + kept) + kept


def test_right_samples_are_told(app):
    ((x, _),) = batches(1)
    y = np.concatenate([app.infer(x=one[None])["outputs"] for one in x]).argmax(1).astype("int32")
    y[:3] = (y[:3] + 1) % 10
    assert app.step(x, y, rate=0)["correct"].tolist() == [0, 0, 0, 1, 1, 1, 1, 1]


def test_a_state_comes_back(app):
    start = app.state
    ((x, y),) = batches(1)
    first = app.step(x, y)["loss"]
    assert not np.array_equal(app.state, start)
    assert app.restore(state=start)["restored"].tolist() == [1]
    np.testing.assert_array_equal(app.state, start)
    assert app.step(x, y)["loss"] == first


def changed(state, at, value):
    state = state.copy()
    state[at] = value
    return state


@pytest.mark.parametrize("at, value", [(0, 1), (1, 1), (2, 1), (3, 1), (50, np.nan), (50, np.inf)])
def test_damaged_states_and_those_of_others_change_nothing(app, at, value):
    start = app.state
    assert app.restore(state=changed(start, at, value))["restored"].tolist() == [0]
    np.testing.assert_array_equal(app.state, start)


@pytest.mark.parametrize("more", [-1, 1])
def test_states_of_another_size_are_refused_by_the_runtime(app, more):
    start = app.state
    with pytest.raises(RuntimeError, match="size_splits must sum"):
        app.restore(state=np.resize(start, start.size + more))
    assert app.restore(state=start)["restored"].tolist() == [1]


@pytest.mark.parametrize("what", ["label", "negative label", "nan", "inf", "rate"])
def test_a_step_that_makes_no_sense_changes_nothing(app, what):
    start = app.state
    ((x, y),) = batches(1)
    y[0] = {"label": 10, "negative label": -1}.get(what, y[0])
    x[0, 0, 0, 0] = {"nan": np.nan, "inf": np.inf}.get(what, 0)
    assert np.isnan(app.step(x, y, rate=np.nan if what == "rate" else 0.1)["loss"])
    np.testing.assert_array_equal(app.state, start)


def test_batches_of_another_size_are_refused_by_the_runtime(app):
    start = app.state
    ((x, y),) = batches(1)
    with pytest.raises(RuntimeError, match="failed to prepare"):
        app.step(x[:4], y[:4])
    np.testing.assert_array_equal(app.state, start)
    assert np.isfinite(app.step(x, y)["loss"])
