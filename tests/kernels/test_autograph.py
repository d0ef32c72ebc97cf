"""A user's own `tf.function` is converted by AutoGraph, which warns of what it cannot convert."""

import inspect
import pkgutil

import pytest
import tensorflow as tf

from spfde_keras import finite, kernels, layers, masking
from spfde_keras.alternating import correction, gradients

MODULES = [finite, masking, correction, gradients]
MODULES += [
    __import__(f"{package.__name__}.{module.name}", fromlist=["_"])
    for package in (kernels, layers)
    for module in pkgutil.iter_modules(package.__path__)
]
FUNCTIONS = {
    f"{module.__name__}.{name}": function
    for module in MODULES
    for name, function in vars(module).items()
    if inspect.isfunction(function) and function.__module__ == module.__name__
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_autograph_takes_it(name):
    tf.autograph.to_code(FUNCTIONS[name])
