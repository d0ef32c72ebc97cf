"""One fault of each kind. `python benchmarks/faults.py` has them all."""

import shutil

import numpy as np
import pytest

from tests.faults.faults import Faults, can_mount

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")


@pytest.fixture(scope="module")
def faults(tmp_path_factory):
    faults = Faults(tmp_path_factory.mktemp("faults"))
    yield faults
    faults.close()


@pytest.mark.parametrize("mode", ["kill", "term", "full"])
def test_a_fault_at_some_point(faults, mode):
    at = np.random.default_rng(len(mode)).integers(10, faults.touches - 10)
    assert faults.struck(mode, int(at)) == "equal"


def test_a_damaged_file(faults):
    (newest,) = [name for name in faults.stopped if name.endswith(".data-00000-of-00001")][-1:]
    assert faults.damaged(newest, "flipped at 50%") == "equal"


def test_disks_of_their_own(faults, tmp_path):
    if not can_mount(tmp_path):
        pytest.skip("needs root, to mount file systems")
    assert faults.on_a_small_disk(64) in ("equal", "refused")
    assert faults.on_a_disk_to_read(resume=True, begun=True) == "refused"
