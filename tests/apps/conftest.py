import types

import pytest

from apps import train


@pytest.fixture
def no_export(monkeypatch):
    """Leaves out what takes half the time of a short run."""

    def export(model, path, **_):
        path.write_bytes(b"file")
        return types.SimpleNamespace(bytes=4)

    monkeypatch.setattr(train, "export_tflite", export)
    monkeypatch.setattr(train, "evaluate_tflite", lambda *_, signature: 0.5)
