"""Counts the ARM64 instructions of one inference, with the mobile kit's emulator.

The emulator logs every block of instructions when it first meets it, and its address whenever it
runs. Only LiteRT's own code is logged: Python's start takes longer than the inference. What
loading takes cancels out between a job of two inferences and a job of one.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from spfde_keras.export.sparse_mode import read_job, write_job

# All of the emulated memory in one piece, so that code is at the same place in every run.
MEMORY = {"QEMU_RESERVED_VA": "0x200000000"}


def count(path: str | os.PathLike, sample: dict[str, np.ndarray]) -> int:
    """Returns how many instructions LiteRT executes for one inference, on one thread.

    Args:
        path: the .tflite file, of one signature.
        sample: arrays (1, *input shape) by the names of the inputs in the file.

    Raises:
        ValueError: if the sample does not fit, or the kit has no "arm64" runtime.
        RuntimeError: if the runtime cannot run the file, or its log is not understood.
    """
    _, result = _run(path, sample, 1, {})
    logged = {
        "QEMU_LOG": "in_asm,exec,nochain",
        "QEMU_LOG_FILENAME": "/dev/stdout",
        "QEMU_DFILTER": ",".join(f"{start:#x}..{end:#x}" for start, end in result["code"]),
    }
    one, two = (_run(path, sample, rounds, logged)[0] for rounds in (1, 2))
    if not two > one > 0:
        raise RuntimeError(f"QEMU logged {one} instructions for one inference, {two} for two")
    return two - one


def executed(log: Iterable[bytes]) -> int:
    """Returns how many instructions a log says were executed.

    Args:
        log: lines of QEMU's log of `in_asm,exec,nochain`: after a line "IN:" the instructions
            of a block as it is met, with their addresses; "Trace" and the block whenever it runs.

    Raises:
        RuntimeError: if a block ran that was never met.
    """
    total, met, sizes = 0, 0, {}
    for line in log:
        if line.startswith(b"Trace "):
            if line not in sizes:
                if not met:
                    raise RuntimeError(f"QEMU's log is not understood: {line.decode().strip()}")
                sizes[line], met = met, 0
            total += sizes[line]
        elif line.startswith(b"IN:"):
            met = 0
        elif line.startswith(b"0x"):
            met += 1
    return total


def _run(
    path: str | os.PathLike,
    sample: dict[str, np.ndarray],
    rounds: int,
    variables: dict[str, str],
) -> tuple[int, dict]:
    """Runs a job; returns the instructions of its log, and its result.json."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, words = Path(scratch), Path(scratch, "stderr.txt")
        command = write_job(folder, [path], sample, rounds, runtime="arm64")
        variables = os.environ | MEMORY | variables
        with (
            open(words, "w") as stderr,
            subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=stderr, env=variables
            ) as process,
        ):
            assert process.stdout is not None  # it is a pipe
            total = executed(process.stdout)
        read_job(folder, process.returncode, words.read_text(errors="replace"))
        return total, json.loads((folder / "result.json").read_text())
