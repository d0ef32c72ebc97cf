"""What the tests of the export share."""

import os

import keras
import pytest

from spfde_keras.files import replacing
from tests.export import sparse_nets


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """Returns (path, models) of a net of `sparse_nets` by name; converted once."""
    folder, cache = tmp_path_factory.getbasetemp(), {}
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # that of all workers: a net is the same in each
    folder = folder / "sparse_nets"
    folder.mkdir(exist_ok=True)

    def written(name):
        if name not in cache:
            keras.utils.clear_session(free_memory=False)  # layers are numbered from the start
            models = sparse_nets.build(sparse_nets.NETS[name])
            path = folder / f"{name}.tflite"
            if not path.exists():
                with replacing(path) as beside:
                    sparse_nets.write(sparse_nets.NETS[name], models, beside)
            cache[name] = path, models
        return cache[name]

    return written


@pytest.fixture
def no_kit(tmp_path_factory, monkeypatch):
    """No sparse-mode runtime is installed, so that an export takes no longer than it must."""
    monkeypatch.setenv("SPFDE_MOBILE_KIT", str(tmp_path_factory.mktemp("kit")))
