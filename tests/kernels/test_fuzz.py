"""Whatever an operator is given, it returns the right values or an error: no crash, no hang."""

import subprocess
import sys
from pathlib import Path

import pytest

from spfde_keras.kernels import status

pytestmark = pytest.mark.usefixtures("sparse_kernels")

ROOT = Path(__file__).resolve().parents[2]


def run(arguments, timeout):
    """Runs a Python program in a process of its own; returns what it prints."""
    try:
        result = subprocess.run(
            [sys.executable, *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired as error:
        raise AssertionError(f"no end after {(error.stdout or b'').decode()[-1000:]}") from None
    output = result.stdout.splitlines()
    assert result.returncode == 0, (
        f"{result.returncode} after {output[-1:]}\n{result.stderr[-2000:]}"
    )
    return output


@pytest.mark.parametrize(
    "seed, cases", [(0, 2000), pytest.param(1, 50_000, marks=pytest.mark.slow)]
)
def test_right_values_or_an_error(seed, cases):
    output = run(["-m", "tests.kernels.fuzz", status().library, seed, cases], 60 + cases // 20)
    assert output[-1] == "done" and len(output) > cases


SHORT_OF_MEMORY = """
import resource, sys
import numpy as np
import tensorflow as tf

module = tf.load_op_library(sys.argv[1])
def compute(extent):
    # Sums of all threads take several times the memory of a kernel.
    kernel = np.ones((1, 1, extent, extent), "float32")
    images = np.ones((8, 4, 4, extent), "float32")
    options = {"stride": 1, "pad": [0] * 4, "normalization": [], "derivation": []}
    return module.spfde_sparse_conv2d_gradients(
        images=images, kernel=kernel, mask=kernel > 0, gradient=images, **options
    )
compute(64)  # starts all threads
for megabytes in (8, 16, 32, 64, 128, 2000):
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + megabytes * 2**20, resource.RLIM_INFINITY))
    try:
        of_images, of_kernel = compute(1024)
        assert of_images[0, 0, 0, 0] == 1024 and of_kernel[0, 0, 0, 0] == 128
        print("computed")
    except tf.errors.ResourceExhaustedError:
        print("refused")
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is not told by /proc")
def test_too_little_memory_is_an_error():
    output = run(["-c", SHORT_OF_MEMORY, status().library], 60)
    assert output[0] == "refused" and output[-1] == "computed" and len(output) == 6
