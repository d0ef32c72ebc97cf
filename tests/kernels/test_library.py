"""What is loaded, and what is said where nothing can be."""

import functools
import platform

import numpy as np
import pytest
import tensorflow as tf

from spfde_keras.kernels import Status, build, library, sparse_conv2d, status
from spfde_keras.layers import MaskedConv2D


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the library is looked for; nothing is there yet."""
    path = functools.partial(build.library_path, folder=tmp_path)
    monkeypatch.setattr(library, "library_path", path)
    monkeypatch.setattr(library, "FOLDER", tmp_path)
    library._load.cache_clear()
    monkeypatch.setenv("SPFDE_KERNELS", "auto")
    yield tmp_path
    library._load.cache_clear()


def assert_off(reason):
    """Layers compute densely, without a word; who asks is told why."""
    now = status()
    assert (now.active, now.library, now.mode) == (False, None, "auto")
    assert now.reason == reason
    assert str(now) == f"sparse kernels off (auto): {reason}"
    layer = MaskedConv2D(2, 3, sparsity=0.9)
    assert layer(np.ones((1, 4, 4, 1))).shape == (1, 2, 2, 2)
    assert (layer.kernel_choice.sparse, layer.kernel_choice.reason) == (False, reason)
    one = np.ones((1, 1, 1, 1))
    with pytest.raises(RuntimeError, match="^Sparse kernels are "):
        sparse_conv2d(one, one, one > 0)


WHERE = f"not built for TensorFlow {tf.__version__} on {platform.machine()}"


def test_nothing_is_built(folder):
    assert_off(f"{WHERE} (none are built); run `python -m spfde_keras.kernels.build`")


def test_built_for_another_tensorflow(folder):
    other = build.library_path("2.3.4", folder)
    other.touch()
    build.library_path("9.8.7", folder).with_name("sparse-tf9.8.7-m68k.so").touch()
    assert_off(f"{WHERE} (built are {other.name}); run `python -m spfde_keras.kernels.build`")


def test_a_damaged_library(folder):
    path = build.library_path(tf.__version__, folder)
    path.write_bytes(b"\x7fELF damaged")
    reason = status().reason
    assert reason.startswith(f"{path.name} cannot be loaded ({path}: file too short)")
    assert_off(reason)


def test_modes(sparse_kernels, monkeypatch):
    for mode, active, reason in [
        ("auto", True, "is loaded"),
        ("sparse", True, "is loaded"),
        ("dense", False, "SPFDE_KERNELS is dense"),
    ]:
        monkeypatch.setenv("SPFDE_KERNELS", mode)
        now = status()
        assert (now.mode, now.active, now.tensorflow) == (mode, active, tf.__version__)
        assert now.reason.endswith(reason)
        assert now.library == str(build.library_path(tf.__version__))
    monkeypatch.delenv("SPFDE_KERNELS")
    assert status().mode == "auto"


@pytest.mark.parametrize("mode", ["", "fast", "Sparse"])
def test_a_wrong_mode_is_refused(monkeypatch, mode):
    monkeypatch.setenv("SPFDE_KERNELS", mode)
    message = f"SPFDE_KERNELS must be one of auto, sparse, dense. Received: '{mode}'"
    with pytest.raises(ValueError, match=message):
        status()


def test_a_gpu_is_left_alone(sparse_kernels, monkeypatch):
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [kind])
    now = status()
    assert not now.active and "GPU" in now.reason


def test_status_prints_itself():
    now = Status(True, "a.so is loaded", "sparse", "/b/a.so", "2.3.4")
    assert str(now) == "sparse kernels on (sparse): a.so is loaded"
