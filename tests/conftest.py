"""What every test shares: the backend, quiet logs, one seed, and the digits."""

import gc
import os

os.environ["KERAS_BACKEND"] = "tensorflow"
# What a test computes must not depend on which kernels are faster here. Children inherit it.
os.environ["SPFDE_KERNELS"] = "dense"

from apps import quiet  # noqa: F401  before TensorFlow is imported

# isort: split
import keras
import pytest


def pytest_collection_finish():
    """Spares what is imported, for good, from the garbage collections of each conversion."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def seed():
    """Every test starts from the same random state and a cleared Keras session."""
    # Without a garbage collection, which takes longer than most tests.
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session", autouse=True)
def own_measurements(tmp_path_factory):
    """The suite neither reads nor changes what was measured for the user."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPFDE_KERNELS_CACHE", str(tmp_path_factory.mktemp("kernels") / "cache.json"))
        yield


@pytest.fixture
def sparse_kernels(monkeypatch):
    """Masked layers skip zeros wherever they can; skips the test where kernels are not built."""
    from spfde_keras import kernels

    if kernels.status().library is None:
        pytest.skip("the kernels are not built: python -m spfde_keras.kernels.build")
    monkeypatch.setenv("SPFDE_KERNELS", "sparse")


@pytest.fixture(scope="session")
def digits():
    """The handwritten digits as an `apps.datasets.Dataset`."""
    from apps import datasets

    return datasets.load("digits")
