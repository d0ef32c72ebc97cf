"""Short runs of `spfde train` with faults, and what is left of them."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np

HERE = Path(__file__).parent
FLAGS = {"epochs": 3, "interval": 1, "train_samples": 60, "batch_size": 32}
FLAGS |= {"model": "mlp", "width": 0.25, "freeze_reduction": 0.05}
# What differs between two equal runs.
_OF_THE_DAY = ("wall_time_s", "training_time_s", "date", "commit", "config", "tflite_bytes")


def compiled(folder: Path) -> Path:
    """Compiles `strike.c` into a folder; returns the library."""
    library = folder / "strike.so"
    command = ["gcc", "-shared", "-fPIC", "-O1", "-o", library, HERE / "strike.c", "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return library


class Runs:
    """A process that runs `spfde train` as often as it is asked to.

    Args:
        scratch: an empty folder.
    """

    def __init__(self, scratch: Path):
        root = HERE.parent.parent
        environment = os.environ | {
            "LD_PRELOAD": str(compiled(scratch)),
            "PYTHONPATH": str(root),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "SPFDE_KERNELS": "dense",
        }
        self._console = scratch / "console"
        self._log = open(scratch / "log", "w")
        self._server = subprocess.Popen(
            [sys.executable, HERE / "server.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
        )

    def close(self) -> None:
        self._server.stdin.close()
        self._server.wait()
        self._log.close()

    def __call__(
        self, folder: Path, mode: str = "count", at: int = 0, resume: bool = False, **flags
    ) -> dict:
        """Runs it; returns "status", "console", and "seen", how often it touched a file."""
        given = {**FLAGS, "output_dir": folder, **flags}
        request = {
            "folder": str(folder),
            "flags": [f"--{name}={value}" for name, value in given.items()]
            + (["--resume"] if resume else []),
            "console": str(self._console),
            "mode": mode,
            "at": at,
        }
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def after(self, folder: Path) -> str:
        """Goes on after a fault; returns "equal" or "refused", which is one line and no change.

        Raises:
            AssertionError: it is neither.
        """
        before = contents(folder)
        resumed = self(folder, resume=True)
        if resumed["status"] == 0:
            return "equal"
        assert resumed["status"] in (1, 2), resumed
        assert is_one_line(resumed, "error: "), resumed["console"]
        assert contents(folder) == before, "something has changed"
        return "refused"


def is_one_line(ended: dict, start: str) -> bool:
    """Whether a run that did not end well says so in one line, its last."""
    lines = ended["console"].splitlines()
    told = [line for line in lines if line.startswith(start)]
    return len(told) == 1 and told[0] == lines[-1] and "Traceback" not in ended["console"]


def contents(folder: Path) -> dict[str, bytes]:
    """Returns what is in a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def results(folder: Path) -> dict:
    """Returns what a finished run has found, without what differs from day to day."""
    assert {path.name for path in folder.iterdir()} == {
        "model.keras", "model.tflite", "history.csv", "training.png", "results.json"
    }  # fmt: skip
    found = json.loads((folder / "results.json").read_text())
    with open(folder / "history.csv", newline="") as file:
        rows = [{**row, "seconds": None} for row in csv.DictReader(file)]
    return {
        "weights": _weights(folder / "model.keras"),
        "history": rows,
        "found": {name: value for name, value in found.items() if name not in _OF_THE_DAY},
    }


def _weights(path: Path) -> dict[str, bytes]:
    found = {}

    def note(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = np.asarray(item).tobytes()

    with zipfile.ZipFile(path) as archive:
        with h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
            file.visititems(note)
    return found


def copied(folder: Path, to: Path) -> Path:
    """Returns a copy of the folder of a run, in place of what was there."""
    shutil.rmtree(to, ignore_errors=True)
    return shutil.copytree(folder, to)
