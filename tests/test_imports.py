"""What `import spfde_keras` needs and loads, and the line that names what is missing."""

import os
import runpy
import subprocess
import sys

import keras
import numpy as np
import pytest

import spfde_keras
from spfde_keras import backend, export

# What comes with extras, but flatbuffers and absl, which TensorFlow itself imports.
NOT_NEEDED = ("ai_edge_litert", "matplotlib", "sklearn", "tensorboard", "tensorflow_datasets")

ALONE = f"""
import sys
sys.modules.update(dict.fromkeys({NOT_NEEDED}))  # as if they were not installed
import keras, numpy as np, tensorflow
def packages():
    return {{name.partition(".")[0] for name in sys.modules}} - sys.stdlib_module_names
before = packages()
import spfde_keras
assert packages() - before == {{"spfde_keras"}}, packages() - before
net = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16), keras.layers.Dense(2)])
model = spfde_keras.sparsify(net, 0.5, dense=[])
model.compile("sgd", "mse")
model.fit(np.ones((8, 8)), np.ones((8, 2)), callbacks=[spfde_keras.SpFDE(interval=1)], verbose=0)
"""


def test_keras_numpy_and_tensorflow_are_enough():
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_without_tensorflow_there_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ModuleNotFoundError, match="^spfde_keras needs TensorFlow: pip install "):
        runpy.run_path(backend.__file__)


def test_another_backend_is_refused(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ImportError, match="KERAS_BACKEND=tensorflow .* Received: jax$"):
        runpy.run_path(backend.__file__)


def test_another_backend_that_is_not_installed_is_refused():
    code = "import sys; sys.modules['torch'] = None; import spfde_keras"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"KERAS_BACKEND": "torch"},
    )
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: spfde_keras works with Keras' backend TensorFlow only")
    assert "Received: one that needs torch" in last and last.endswith("which is not installed")


@pytest.fixture
def without_litert(monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    monkeypatch.delitem(sys.modules, "spfde_keras.export.litert", raising=False)
    monkeypatch.delattr(export, "litert", raising=False)
    monkeypatch.delitem(sys.modules, "spfde_keras.export.inspection.file", raising=False)


def test_without_litert_export_says_so_before_it_begins(without_litert, tmp_path):
    line = r"^ai_edge_litert.interpreter is not installed: pip install 'spfde-keras\[export\]'$"
    path = tmp_path / "model.tflite"
    with pytest.raises(ModuleNotFoundError, match=line):
        spfde_keras.export_tflite("not even a model", path)
    path.touch()
    with pytest.raises(ModuleNotFoundError, match=line):
        export.run_tflite(path, np.ones((1, 2)))
    with pytest.raises(ModuleNotFoundError, match=line):
        export.inspect_tflite(path)


def test_a_log_without_tensorboard_is_refused(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    spfde_keras.SpFDE(2)
    with pytest.raises(ModuleNotFoundError, match=r"^tensorboard is not .*spfde-keras\[apps\]'$"):
        spfde_keras.SpFDE(2, log_dir=str(tmp_path))
