"""Every example in the library's docstrings runs and shows what it says."""

import doctest
import importlib
import pkgutil

import keras
import numpy as np
import pytest
import tensorflow as tf

import spfde_keras
from spfde_keras import layers
from spfde_keras.cost.model import profile
from spfde_keras.layout import KernelLayout
from spfde_keras.masking import find_masks

MODULES = sorted(
    module.name for module in pkgutil.walk_packages(spfde_keras.__path__, "spfde_keras.")
)
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
# What an example may use without importing it, beside the names of its own module.
NAMESPACE = {
    "keras": keras,
    "np": np,
    "tf": tf,
    "spfde_keras": spfde_keras,
    "KernelLayout": KernelLayout,
    "find_masks": find_masks,
    "profile": profile,
}
for package in (spfde_keras, layers):
    NAMESPACE |= {name: getattr(package, name) for name in package.__all__}


def small_model():
    """What an example means by `model`: a sparse classifier of 8x8 images."""
    plain = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(16, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    return spfde_keras.sparsify(plain, sparsity=0.9)


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # an example may write files
    module = importlib.import_module(name)
    report = []
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    for example in doctest.DocTestFinder(exclude_empty=True).find(module, globs={}):
        if not example.examples:
            continue
        keras.utils.set_random_seed(0)
        example.globs = NAMESPACE | vars(module) | {"model": small_model()}
        runner.run(example, out=report.append)
    assert not runner.summarize(verbose=False).failed, "".join(report)
