"""What every test shares: the backend, quiet logs, one seed, and the digits."""

import gc
import os
import shutil

os.environ["KERAS_BACKEND"] = "tensorflow"
# What a test computes must not depend on which kernels are faster here. Children inherit it.
os.environ["SPFDE_KERNELS"] = "dense"

from apps import quiet  # noqa: F401  before TensorFlow is imported

# isort: split
import keras
import pytest

CHROMIUM_FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
)


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


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """Headless Chromium, driven by selenium; it logs requests and its console."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    programs = shutil.which("chromium"), shutil.which("chromedriver")
    if None in programs:
        pytest.skip("Chromium is not installed: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for flag in (*CHROMIUM_FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(programs[1]))
    yield driver
    driver.quit()
