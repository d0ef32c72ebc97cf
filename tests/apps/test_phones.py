"""Accuracy in sparse mode: hand-worked, capped, and without a runtime."""

import json

import keras
import numpy as np
import pytest

from apps import mobilenets, phones, train
from spfde_keras import export_tflite
from spfde_keras.export.sparse_mode import available_runtimes


@pytest.fixture
def model():
    """Says of two pixels which is brighter."""
    x = keras.Input((1, 2, 1), name="image")
    return keras.Model(x, keras.layers.Flatten()(keras.layers.Rescaling(2.0)(x)))


@pytest.fixture
def pairs():
    x = np.float32([[1, 2], [4, 3], [6, 5], [7, 8]]).reshape(4, 1, 2, 1)
    return x, np.array([1, 0, 1, 0])  # the last two labels are wrong


@pytest.fixture
def runtime(monkeypatch):
    """Stands in for a runtime; returns the jobs it is given."""
    jobs = []

    def run(path, inputs, signature):
        jobs.append((path, signature))
        if signature == "broken":
            raise RuntimeError("the runtime ended")
        (x,) = inputs.values()
        logits = x.reshape(len(x), 2)
        return {"output_0": -logits if signature == "inverse" else logits}

    monkeypatch.setattr(phones, "run_sparse_mode", run)
    monkeypatch.setattr(phones, "available_runtimes", lambda: ["some"])
    return jobs


def measured(accuracy, samples):
    return {"sparse_mode_test_accuracy": accuracy, "sparse_mode_test_samples": samples}


def test_each_signature_is_measured_by_itself(model, pairs, runtime):
    x, y = np.concatenate([pairs[0], pairs[0][:1]]), np.append(pairs[1], 1)
    found = phones.sparse_mode_accuracies(model, "file", x, y, ["plain", "inverse"])
    assert found == [measured(3 / 5, 5), measured(2 / 5, 5)]
    assert runtime == [("file", "plain"), ("file", "inverse")]


def test_nan_is_no_class(model, pairs, runtime, capsys):
    x, y = pairs
    x[2] = np.nan
    assert phones.sparse_mode_accuracies(model, "file", x, y) == [measured(None, 0)]
    assert "in sparse mode not measured: NaN among the outputs" in capsys.readouterr().out


def test_so_many_samples_are_used_as_256_mib_hold():
    assert phones.most((8, 8, 1)) == 2**20
    assert phones.most((224, 224, 3)) == 445
    assert phones.most((2**14, 2**14, 3)) == 1


def test_a_failing_runtime_is_a_line(model, pairs, runtime, capsys):
    found = phones.sparse_mode_accuracies(model, "file", *pairs, ["plain", "broken"])
    assert found == [measured(None, 0)] * 2
    assert capsys.readouterr().out == (
        "testing in the sparse mode of phones, on 4 samples\n"
        "accuracy in sparse mode not measured: the runtime ended\n"
    )


def test_without_the_kit_a_line_says_how_to_get_it(model, pairs, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("SPFDE_MOBILE_KIT", str(tmp_path))
    assert phones.sparse_mode_accuracies(model, "file", *pairs) == [measured(None, 0)]
    assert capsys.readouterr().out == (
        "the sparse mode of phones is left out: it needs the mobile kit (make mobile-kit)\n"
    )


@pytest.mark.mobile_kit
def test_in_a_real_runtime(model, pairs, tmp_path):
    if not available_runtimes():
        pytest.skip("no sparse-mode runtime is installed: make mobile-kit")
    export_tflite(model, tmp_path / "model.tflite", sparse=False)
    found = phones.sparse_mode_accuracies(model, tmp_path / "model.tflite", *pairs)
    assert found == [measured(1 / 2, 4)]


def trained(folder, **options):
    """The results of a run of two epochs on a hundred digits."""
    flags = {"epochs": 2, "interval": 1, "train_samples": 100, "width": 0.25} | options
    flags |= {"freeze_reduction": 0, "output_dir": folder}
    assert train.main([f"--{name}={value}" for name, value in flags.items()]) == 0
    return json.loads((folder / "results.json").read_text())


def test_a_run_without_the_kit_has_null(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SPFDE_MOBILE_KIT", str(tmp_path / "no_kit"))
    found = trained(tmp_path / "run", model="mlp")
    assert found.items() >= measured(None, 0).items()
    printed = capsys.readouterr().out
    assert printed.count("make mobile-kit") == 1
    assert "in sparse mode  " not in printed and "No runtime" not in printed


@pytest.mark.mobile_kit
def test_accuracy_of_a_run_in_sparse_mode_equals_that_of_keras(tmp_path, monkeypatch, capsys):
    if not available_runtimes():
        pytest.skip("no sparse-mode runtime is installed: make mobile-kit")
    # The front stages alone convert in a fraction of the time.
    monkeypatch.setattr(mobilenets, "VERSION1_STAGES", mobilenets.VERSION1_STAGES[:2])
    found = trained(tmp_path, model="mobilenet_sparse", method="ast", sparsity="0.8,0.9")
    assert found["tflite_runs_sparse"] is True
    for subnet in found["subnets"]:
        assert subnet["sparse_mode_test_accuracy"] == pytest.approx(subnet["test_accuracy"])
        assert subnet["sparse_mode_test_samples"] == found["test_samples"] == 360
    printed = capsys.readouterr().out
    assert f"in sparse mode {found['sparse_mode_test_accuracy']:.4f}" in printed
    assert "on phones               runs sparse" in printed
