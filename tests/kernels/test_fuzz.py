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
    output = run(["-m", "tests.kernels.fuzz", status().library, seed, cases], 120 + cases // 20)
    assert output[-1] == "done" and len(output) > cases


SHORT_OF_MEMORY = """
import resource, sys
import numpy as np
import tensorflow as tf

module = tf.load_op_library(sys.argv[1])
def inputs(shape, kernel):
    images, kernel = tf.ones(shape), tf.ones((kernel, kernel, shape[3], shape[3]))
    return {"images": images, "kernel": kernel, "mask": kernel > 0, "gradient": images}

def compute(inputs):
    same = [inputs["kernel"].shape[0] // 2] * 4
    options = {"stride": 1, "pad": same, "normalization": [], "derivation": []}
    return module.spfde_sparse_conv2d_gradients(**inputs, **options)

compute(inputs((8, 4, 4, 64), 1))  # starts all threads
# Rows of one image are several times as large as the image, sums of all threads as the kernel.
for large in (inputs((1, 3, 2**17, 8), 3), inputs((8, 4, 4, 1024), 1)):
    for megabytes in (16, 32, 64, 128, 2000):
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + megabytes * 2**20, resource.RLIM_INFINITY))
        try:
            of_images, of_kernel = compute(large)
            assert tf.reduce_max(of_kernel) == np.prod(large["images"].shape[:3])
            print("computed", end=" ")
        except tf.errors.ResourceExhaustedError:
            print("refused", end=" ")
    print()
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is not told by /proc")
def test_too_little_memory_is_an_error():
    output = run(["-c", SHORT_OF_MEMORY, status().library], 120)
    assert len(output) == 2
    for outcomes in map(str.split, output):
        assert outcomes[0] == "refused" and outcomes[-1] == "computed" and len(outcomes) == 5
