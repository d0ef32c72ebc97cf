"""Runs a job in LiteRT; spfde_keras/export/sparse_mode.py says what a job is.

python run_litert.py FOLDER

It is run by an emulated Python that has NumPy and LiteRT, and nothing else.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter


class InputError(Exception):
    """The job does not fit its files."""


def load(file: str, signature: str | None) -> Any:
    """Returns the runner of a signature; the interpreter stays alive with it."""
    interpreter = Interpreter(model_path=file, num_threads=1)
    interpreter.allocate_tensors()
    names = list(interpreter.get_signature_list())
    chosen = names[0] if signature is None and len(names) == 1 else signature
    if chosen not in names:
        raise InputError(f"`signature` must be one of {', '.join(names)}. Received: {chosen}")
    return interpreter.get_signature_runner(chosen)


def runs(runner: Any, inputs: dict, folder: Path) -> list[dict[str, np.ndarray]]:
    """Returns the tensors of each run, in the dtypes of the file."""
    details = runner.get_input_details()
    if details.keys() != inputs.keys():
        raise InputError(
            f"`inputs` must have the names {', '.join(sorted(details))}. "
            f"Received: {', '.join(sorted(inputs))}"
        )
    arrays = {}
    for name, stored in inputs.items():
        shape, received = tuple(details[name]["shape"]), tuple(stored["shape"])
        if received[1:] != shape[1:] or received[0] % shape[0]:
            first = "samples" if shape[0] == 1 else f"runs x {shape[0]}"
            expected = ", ".join(str(size) for size in (first, *shape[1:]))
            raise InputError(f"Input '{name}' must be ({expected}). Received: shape {received}")
        array = np.fromfile(folder / stored["file"], stored["dtype"]).reshape((-1, *shape))
        arrays[name] = array.astype(details[name]["dtype"])
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) != 1:
        raise InputError(
            f"`inputs` must hold the same number of samples for every input. Received: {counts}"
        )
    return [dict(zip(arrays, run, strict=True)) for run in zip(*arrays.values(), strict=True)]


def run(folder: Path) -> dict:
    """Runs every file on all that it is given, round by round."""
    job = json.loads((folder / "job.json").read_text())
    runners = [load(file, job["signature"]) for file in job["files"]]
    inputs = [runs(runner, job["inputs"], folder) for runner in runners]
    seconds: list[list[float]] = [[] for _ in runners]
    outputs: list[list[dict[str, np.ndarray]]] = [[] for _ in runners]
    for _ in range(job["rounds"]):
        for index, runner in enumerate(runners):
            outputs[index] = []
            for given in inputs[index]:
                start = time.perf_counter()
                outputs[index].append(runner(**given))
                seconds[index].append(time.perf_counter() - start)
    written = [write(results, index, folder) for index, results in enumerate(outputs)]
    return {"seconds": seconds, "outputs": written, "code": code()}


def write(results: list[dict[str, np.ndarray]], index: int, folder: Path) -> dict:
    """Writes the outputs of one file and says where they are."""
    described = {}
    for i, name in enumerate(results[0]):
        array, file = np.concatenate([r[name] for r in results]), f"output_{index}_{i}.bin"
        array.tofile(folder / file)
        described[name] = {"shape": array.shape, "dtype": array.dtype.name, "file": file}
    return described


def code() -> list[list[int]]:
    """Returns from where to where LiteRT's machine code lies, in bytes."""
    with open("/proc/self/maps") as maps:
        spans = [
            line.split()[0] for line in maps if " r-xp " in line and "/ai_edge_litert/" in line
        ]
    return [[int(end, 16) for end in span.split("-")] for span in spans]


def main(folder: Path) -> None:
    """Leaves result.json in `folder`, whatever happens."""
    try:
        result = run(folder)
    except Exception as error:
        message = (str(error) or type(error).__name__).splitlines()[0]
        result = {"error": message, "input": isinstance(error, InputError)}
    (folder / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
