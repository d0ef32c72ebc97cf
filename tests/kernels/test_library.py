"""What is loaded, and what is said where nothing can be."""

import functools
import platform

import keras
import numpy as np
import pytest
import tensorflow as tf

import spfde_keras
from spfde_keras.kernels import Status, compilation, library, sparse_conv2d, status
from spfde_keras.layers import MaskedConv2D


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the library is looked for; nothing is there yet."""
    path = functools.partial(compilation.library_path, folder=tmp_path)
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
    other = compilation.library_path("2.3.4", folder)
    other.touch()
    compilation.library_path("9.8.7", folder).with_name("sparse-tf9.8.7-m68k.so").touch()
    assert_off(f"{WHERE} (built are {other.name}); run `python -m spfde_keras.kernels.build`")


def test_a_damaged_library(folder):
    path = compilation.library_path(tf.__version__, folder)
    path.write_bytes(b"\x7fELF damaged")
    reason = status().reason
    assert reason.startswith(f"{path.name} cannot be loaded ({path}: file too short)")
    assert_off(reason)


def fit(model, **arguments):
    model.compile("sgd", "mse")
    model.fit(np.ones((4, 8)), np.ones((4, 2)), **arguments)


def test_the_first_fit_says_once_that_zeros_are_computed(folder, capsys, monkeypatch):
    library.tell_if_missing.cache_clear()
    net = keras.Sequential([keras.Input((8,)), keras.layers.Dense(8), keras.layers.Dense(2)])
    sparse, dense = spfde_keras.sparsify(net, 0.5, dense=[]), spfde_keras.wrap(net)
    fit(dense)
    fit(sparse, verbose=0)
    monkeypatch.setenv("SPFDE_KERNELS", "dense")
    fit(sparse)
    assert "zeros" not in capsys.readouterr().out
    library.tell_if_missing.cache_clear()
    monkeypatch.setenv("SPFDE_KERNELS", "auto")
    fit(sparse)
    fit(sparse)
    told = [line for line in capsys.readouterr().out.splitlines() if "zeros" in line]
    assert told == [
        f"spfde_keras computes zeros, too, since sparse kernels are {WHERE} (none are built); "
        "run `python -m spfde_keras.kernels.build`"
    ]


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
        assert now.library == str(compilation.library_path(tf.__version__))
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
