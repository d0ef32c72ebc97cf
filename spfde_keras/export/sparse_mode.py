"""Runs TFLite files with XNNPACK's sparse kernels on, as a phone does, in the mobile kit.

A processor with AVX computes a sparse file densely: it shows neither its speed nor, where the
graph nearly qualifies, its errors. `make mobile-kit` installs runtimes that compute it sparsely
(tflite/kit/), each with a command that runs a job. A job is a folder with `job.json`:

- files: paths of .tflite files; signature: a name, or null;
- inputs: for each name its shape (samples, ...), dtype (float32 or int32) and raw file; a run
  takes as many samples as the file does, so that files that train are trained step by step;
- rounds: how often every file is run on every sample, file after file in each round.

The command leaves `result.json` there: seconds (files, rounds x runs) and the outputs of the
last round, described as the inputs are; or an error, and whether the job itself is at fault.
LiteRT's runtimes add where in memory their machine code lies, for those who count instructions.
"""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from spfde_keras import checks
from spfde_keras.export.inputs import fitted
from spfde_keras.export.verification import largest_error


@dataclasses.dataclass(frozen=True)
class SparseModeRun:
    """What a runtime gave for a file.

    Args:
        outputs: arrays (samples, *output shape) by name.
        seconds: array (rounds, runs), the time of each run. That of an emulated processor is no
            measure of a real one.
    """

    outputs: dict[str, np.ndarray]
    seconds: np.ndarray


def kit_folder() -> Path:
    """Returns where the mobile kit is: SPFDE_MOBILE_KIT, or .mobile-kit next to the package.

    >>> kit_folder().is_absolute()
    True
    """
    beside = Path(__file__).resolve().parents[2] / ".mobile-kit"
    return Path(os.environ.get("SPFDE_MOBILE_KIT") or beside).absolute()


def available_runtimes() -> list[str]:
    """Returns the names of the installed sparse-mode runtimes, the preferred one first.

    - "wasm": LiteRT.js in Node, WebAssembly kernels at their real speed;
    - "x86-64": this Python's LiteRT on an emulated processor without AVX, SSE kernels;
    - "arm64": LiteRT on an emulated phone processor, the NEON kernels of phones.

    Example:

    >>> set(available_runtimes()) <= {"wasm", "x86-64", "arm64"}
    True
    """
    return [name for name, command in _commands().items() if shutil.which(command[0])]


def run_sparse_mode(
    path: str | os.PathLike[str],
    inputs: Mapping[str, np.ndarray],
    signature: str | None = None,
    runtime: str | None = None,
) -> dict[str, np.ndarray]:
    """Runs a file with the sparse kernels on, in a child process.

    Args:
        path: the .tflite file.
        inputs: arrays (samples, *input shape) by the names of the inputs in the file; they are
            cast to the file's dtypes. A signature that takes several samples at once, such as
            `train`, is run on one batch after another, and keeps what it has learned.
        signature: the name of the sub-net to run, in a file of several.
        runtime: one of `available_runtimes()`; the first of them by default.

    Returns:
        Arrays (samples, *output shape) by the names of the outputs in the file.

    Raises:
        ValueError: if `path` does not exist, or `inputs` or `signature` do not fit the file, or
            `runtime` is not installed.
        RuntimeError: if no runtime is installed, or it cannot load or run the file.

    Example:

    >>> _ = export_tflite(model, "model.tflite")
    >>> for runtime in available_runtimes()[:1]:
    ...     outputs = run_sparse_mode("model.tflite", {"input_0": np.zeros((5, 8, 8, 1))})
    ...     assert outputs["output_0"].shape == (5, 10)
    """
    return run_job([path], inputs, signature=signature, runtime=runtime)[0].outputs


def check_sparse_mode(
    path: str | os.PathLike[str],
    inputs: Mapping[str, np.ndarray],
    expected: Mapping[str, np.ndarray],
    tolerance: float,
    signature: str | None = None,
    runtime: str | None = None,
) -> float:
    """Returns the largest error of a file in sparse mode, against its dense twin or its model.

    The error of an output is its largest absolute difference, divided by the largest magnitude
    expected.

    Args:
        path: the .tflite file.
        inputs: as in `run_sparse_mode`.
        expected: arrays (samples, *output shape) by the names of the outputs in the file.
        tolerance: float, the largest error accepted.
        signature: the name of the sub-net to run, in a file of several.
        runtime: one of `available_runtimes()`; the first of them by default.

    Raises:
        ValueError: as in `run_sparse_mode`.
        RuntimeError: as in `run_sparse_mode`, or if the error is above `tolerance` or NaN.

    Example:

    >>> _ = export_tflite(model, "model.tflite")
    >>> inputs = {"input_0": np.ones((5, 8, 8, 1))}
    >>> expected = {"output_0": spfde_keras.export.run_tflite("model.tflite", inputs)}
    >>> for runtime in available_runtimes()[:1]:
    ...     assert check_sparse_mode("model.tflite", inputs, expected, 1e-4) <= 1e-4
    """
    checks.number("tolerance", tolerance, above=0)
    checks.instance("expected", expected, Mapping, "a dictionary of arrays by names of outputs")
    outputs = run_sparse_mode(path, inputs, signature, runtime)
    runtime = _chosen(runtime)
    error = largest_error(outputs, expected)
    if not error <= tolerance:
        of_which = "" if signature is None else f" of {signature}"
        raise RuntimeError(
            f"in sparse mode ({runtime}) the outputs{of_which} are off by {error:.2g} of their "
            f"scale, more than {tolerance:g}: on phones this file gives wrong results"
        )
    return error


def run_job(
    files: Sequence[str | os.PathLike[str]],
    inputs: Mapping[str, np.ndarray],
    rounds: int = 1,
    signature: str | None = None,
    runtime: str | None = None,
) -> list[SparseModeRun]:
    """Runs several files in turns in one child process, so that their times compare.

    Args:
        files: paths of .tflite files with the same inputs.
        inputs: as in `run_sparse_mode`.
        rounds: int, how often each file runs on each sample.
        signature: the name of the sub-net to run, in files of several.
        runtime: one of `available_runtimes()`; the first of them by default.

    Returns:
        For each file its outputs and times.

    Raises:
        ValueError: as in `run_sparse_mode`.
        RuntimeError: as in `run_sparse_mode`.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = write_job(Path(folder), files, inputs, rounds, signature, runtime)
        ended = subprocess.run(command, capture_output=True, text=True, errors="replace")
        return read_job(Path(folder), ended.returncode, ended.stderr)


def write_job(
    folder: Path,
    files: Sequence[str | os.PathLike[str]],
    inputs: Mapping[str, np.ndarray],
    rounds: int = 1,
    signature: str | None = None,
    runtime: str | None = None,
) -> list[str]:
    """Writes a job into an empty folder and returns the command that runs it; see `run_job`.

    Args:
        folder: where the job is written, and its result afterwards.
        files: paths of .tflite files with the same inputs.
        inputs: as in `run_sparse_mode`.
        rounds: int, how often each file runs on each sample.
        signature: the name of the sub-net to run, in files of several.
        runtime: one of `available_runtimes()`; the first of them by default.

    Raises:
        ValueError: if a file does not exist, or samples are missing, or `runtime` is unknown.
        RuntimeError: if no runtime is installed.
    """
    for path in files:
        checks.file("path", path, "a .tflite file")
    checks.instance("inputs", inputs, Mapping, "a dictionary of arrays by the names of inputs")
    arrays = {name: np.asarray(array) for name, array in inputs.items()}
    checks.optional(checks.instance, "signature", signature, str, "None or a name")
    checks.optional(checks.instance, "runtime", runtime, str, "None or a name")
    if not arrays or not all(array.ndim and len(array) for array in arrays.values()):
        raise ValueError(
            "`inputs` must hold at least one sample for every input. "
            f"Received: { ({name: array.shape for name, array in arrays.items()}) }"
        )
    command = _commands()[_chosen(runtime)]
    described = {}
    for i, (name, array) in enumerate(arrays.items()):
        dtype = "int32" if array.dtype.kind in "biu" else "float32"
        fitted(array, dtype, name, "inputs").tofile(folder / f"input_{i}.bin")
        described[name] = {"shape": array.shape, "dtype": dtype, "file": f"input_{i}.bin"}
    job = {
        "files": [os.path.abspath(path) for path in files],
        "signature": signature,
        "inputs": described,
        "rounds": rounds,
    }
    (folder / "job.json").write_text(json.dumps(job))
    return [*command, str(folder)]


def read_job(folder: Path, code: int, log: str) -> list[SparseModeRun]:
    """Returns what the command of `write_job` left in its folder.

    Args:
        folder: as in `write_job`.
        code: int, how the command ended.
        log: what it wrote to its standard error, quoted if it left no result.

    Raises:
        ValueError: if `inputs` or `signature` do not fit the files.
        RuntimeError: if the runtime cannot load or run a file.
    """
    try:
        result = json.loads((folder / "result.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):  # killed, or aborted in the runtime's code
        last = (log.strip().splitlines() or ["it said nothing"])[-1]
        raise RuntimeError(f"the sparse-mode runtime ended with code {code}: {last}") from None
    if "error" in result:
        if result["input"]:
            raise ValueError(result["error"])
        raise RuntimeError(f"the sparse-mode runtime cannot run the file: {result['error']}")
    return [
        SparseModeRun(
            outputs={
                name: np.fromfile(folder / stored["file"], stored["dtype"]).reshape(stored["shape"])
                for name, stored in outputs.items()
            },
            seconds=np.reshape(seconds, (_rounds(folder), -1)),
        )
        for outputs, seconds in zip(result["outputs"], result["seconds"], strict=True)
    ]


def _rounds(folder: Path) -> int:
    return json.loads((folder / "job.json").read_text())["rounds"]


def _chosen(runtime: str | None) -> str:
    available = available_runtimes()
    if not available:
        raise RuntimeError(
            "No runtime with XNNPACK's sparse mode is installed: run `make mobile-kit`, or set "
            "SPFDE_MOBILE_KIT to the folder of an installed kit."
        )
    if runtime not in (None, *available):
        raise ValueError(
            f"`runtime` must be one of the installed {available}. Received: {runtime!r}; "
            "`make mobile-kit` installs more, or explains why it cannot."
        )
    return runtime or available[0]


def _commands() -> dict[str, list[str]]:
    """What the kit's kit.json holds, {kit} and {python} filled in."""
    kit = kit_folder()
    try:
        commands = json.loads((kit / "kit.json").read_text())
    except FileNotFoundError:
        return {}
    return {
        name: [part.format(kit=kit, python=sys.executable) for part in command]
        for name, command in commands.items()
    }
