"""What every test shares: the backend, quiet logs, one seed, and the digits."""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import pytest


@pytest.fixture(autouse=True)
def seed():
    """Every test starts from the same random state and a cleared Keras session."""
    # Without a garbage collection, which takes longer than most tests.
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def digits():
    """The handwritten digits as an `apps.datasets.Dataset`."""
    from apps import datasets

    return datasets.load("digits")
