import types

import pytest

from apps import evaluation, phones, training


@pytest.fixture
def no_export(monkeypatch):
    """Leaves out what takes half the time of a short run: the files, and the picture."""

    def export(model, path, **_):
        path.write_bytes(b"file")
        return types.SimpleNamespace(bytes=4, runs_sparse=False)

    def accuracies(model, path, x, y, signatures):
        unknown = {"sparse_mode_test_accuracy": None, "sparse_mode_test_samples": 0}
        return [unknown] * len(signatures)

    monkeypatch.setattr(training, "export_tflite", export)
    monkeypatch.setattr(evaluation, "evaluate_tflite", lambda *_, signature: 0.5)
    monkeypatch.setattr(phones, "sparse_mode_accuracies", accuracies)
    monkeypatch.setattr(training.plots, "plot_history", lambda rows, path, *_: path.touch())
