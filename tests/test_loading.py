"""`load_model` needs nothing but the package, without which Keras says what we say it says."""

import subprocess
import sys

import keras
import numpy as np
import pytest

import spfde_keras
from spfde_keras.masking import find_masks


@pytest.fixture
def saved(tmp_path):
    net = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16), keras.layers.Dense(2)])
    model = spfde_keras.sparsify(net, 0.5, dense=[])
    model.compile("sgd", "mse")
    path = tmp_path / "model.keras"
    model.save(path)
    return model, path


def test_a_model_comes_back_whole(saved):
    model, path = saved
    x = np.random.default_rng(0).random((3, 8), dtype="float32")
    loaded = spfde_keras.load_model(path)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    assert [mask.density for mask in find_masks(loaded)] == [0.5, 0.5]
    assert loaded.compiled and not spfde_keras.load_model(path, compile=False).compiled


def test_own_objects_and_safe_mode_are_as_in_keras(tmp_path):
    class Own(keras.layers.Layer):
        def call(self, inputs):
            return 2 * inputs

    path = tmp_path / "own.keras"
    spfde_keras.wrap(keras.Sequential([keras.Input((2,)), Own()])).save(path)
    loaded = spfde_keras.load_model(path, custom_objects={"Own": Own})
    assert loaded(np.ones((1, 2))).numpy().tolist() == [[2.0, 2.0]]
    net = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x + 1)])
    spfde_keras.wrap(net).save(path)
    with pytest.raises(ValueError, match="safe_mode"):
        spfde_keras.load_model(path)
    assert spfde_keras.load_model(path, safe_mode=False)(np.ones((1, 2))).shape == (1, 2)


def test_without_the_package_keras_could_not_locate_a_class(saved):
    code = f"import keras; keras.models.load_model({str(saved[1])!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode and "Could not locate class 'SparseModel'" in done.stderr
    assert "Could not locate class 'SparseModel'" in spfde_keras.load_model.__doc__
