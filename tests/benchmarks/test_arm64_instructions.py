"""Counting from QEMU's log: a log by hand, and a net whose sparse file takes fewer."""

import numpy as np
import pytest

import spfde_keras
from apps import models
from benchmarks import arm64_instructions
from spfde_keras.cost.model import profile
from spfde_keras.export import export_tflite
from spfde_keras.export.sparse_mode import available_runtimes

# A block of two instructions runs three times, one of a single instruction once.
LOG = b"""\
----------------
IN: sgemm
0xabce4860:  a9bb7bfd  stp      x29, x30, [sp, #-0x50]!
0xabce4864:  d2800024  movz     x4, #0x1

Trace 0: 0x7f6e62be1b00 [00001001/00000000abce4860/00000001/00008200] sgemm
Trace 0: 0x7f6e62be1b00 [00001001/00000000abce4860/00000001/00008200] sgemm
----------------
IN:
0xabce4868:  d65f03c0  ret

Trace 0: 0x7f6e62be2340 [00001001/00000000abce4868/00000001/00008200]
INFO: anything else
Trace 0: 0x7f6e62be1b00 [00001001/00000000abce4860/00000001/00008200] sgemm
"""


def test_a_log_by_hand():
    assert arm64_instructions.executed(LOG.splitlines(keepends=True)) == 7
    assert arm64_instructions.executed([]) == 0


def test_a_block_that_was_never_met_is_refused():
    log = LOG.splitlines()
    for lost, address in [(slice(0, 5), "0x7f6e62be1b00"), (slice(7, 11), "0x7f6e62be2340")]:
        with pytest.raises(RuntimeError, match=f"log is not understood: Trace 0: {address}"):
            arm64_instructions.executed([line for line in log if line not in log[lost]])


@pytest.mark.slow
@pytest.mark.mobile_kit
def test_a_sparse_file_takes_fewer_instructions(tmp_path):
    if "arm64" not in available_runtimes():
        pytest.skip("arm64 is not installed: make mobile-kit")
    net = models.build("mobilenet_sparse", (32, 32, 3), 10, width=0.25)
    net = spfde_keras.sparsify(net, 0.9, dense=models.dense_layers("mobilenet_sparse"))
    counts = []
    for sparse in (False, True):
        export_tflite(net, tmp_path / "net.tflite", sparse=sparse)
        sample = {"image": np.ones((1, 32, 32, 3))}
        counts.append(arm64_instructions.count(tmp_path / "net.tflite", sample))
    # Every connection is a multiplication, of which an instruction does four.
    multiplications = sum(kernel.size * kernel.positions for kernel in profile(net).kernels)
    assert multiplications / 4 < counts[0] < multiplications / 2
    assert counts[1] < 0.6 * counts[0]  # measured: 0.47; what is not 1x1 stays as it is
