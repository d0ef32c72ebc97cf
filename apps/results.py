"""The folder of a run: its files while it goes on, and how finished results are published."""

import csv
import json
import os
import pathlib
import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras

from spfde_keras.files import replacing

from . import finished
from .config import RunConfig

FILES = ("model.keras", "model.tflite", "history.csv", "training.png", "results.json")

COLUMNS = (
    "epoch",
    "loss",
    "accuracy",
    "val_loss",
    "val_accuracy",
    "sparsity",
    "target_sparsity",
    "frozen_blocks",
    "active_samples",
    "flops_share",
    "gradient_corrections",
    "seconds",
)


class RunFolder:
    """The output folder. Files are written to its subfolder `unfinished` and moved at the end.

    So a killed run can be resumed from there, and the results of an earlier run stay whole
    until those of a new one are.

    Args:
        config: the run; `config.folder` is made when the run opens it.

    Example:

    >>> folder = RunFolder(RunConfig(output_dir="runs/example"))
    >>> folder.check()
    >>> folder.unfinished.name
    'unfinished'
    """

    def __init__(self, config: RunConfig):
        self.config = config
        self.path = pathlib.Path(config.folder)
        self.unfinished = self.path / "unfinished"

    def check(self) -> None:
        """Checks whether the run may write here and can be resumed, without changing anything.

        Raises:
            ValueError: the folder cannot be written, there is nothing to resume, or what is
                there was started with other options.
        """
        existing = next(p for p in (self.path, *self.path.absolute().parents) if p.exists())
        if not (existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)):
            raise ValueError(
                f"`output_dir` must be a folder that can be written. Received: {self.path}"
            )
        if not self.config.resume:
            self._say_what_is_replaced()
            return
        started_with = self.unfinished / "config.json"
        if not started_with.is_file():
            raise ValueError(
                f"`resume` needs an unfinished run in {self.path}. Found none; "
                "start one without --resume"
            )
        self.config.check_resumes(json.loads(started_with.read_text()))

    def _say_what_is_replaced(self) -> None:
        """Warns where a finished run of other options would be lost."""
        try:
            run = finished.read(self.path)
        except ValueError:
            return  # nothing that a run has written
        try:
            self.config.check_resumes(run["config"])
        except ValueError as differences:
            changed = str(differences).partition("Received: ")[2]
            warnings.warn(
                f"The finished run in {self.path} will be replaced ({changed}); --output_dir keeps "
                "both.",
                stacklevel=2,
            )

    def open(self) -> None:
        """Makes the folder for the run to write in; without `resume`, an empty one.

        Raises:
            ValueError: the folder cannot be made.
        """
        try:
            if not self.config.resume and self.unfinished.exists():
                shutil.rmtree(self.unfinished)
            self.unfinished.mkdir(parents=True, exist_ok=True)
            with replacing(self.unfinished / "config.json") as beside:
                beside.write_text(self.config.to_json())
        except OSError as error:
            raise ValueError(
                f"`output_dir` must be a folder that can be written. "
                f"Received: {self.path} ({error.strerror})"
            ) from None

    def publish(self) -> None:
        """Puts the finished files in place, `results.json` last, and removes the rest."""
        for name in FILES:
            os.replace(self.unfinished / name, self.path / name)
        shutil.rmtree(self.unfinished)


class Recorder(keras.callbacks.Callback):
    """Writes a row of `history.csv` after each epoch; a resumed run appends to the file.

    It must come after the callbacks whose logs it writes and before the one that backs up the
    epoch, so that every epoch that was backed up has its row.

    Args:
        path: the CSV file.
        measure: function that returns more of a row: numbers by column. Its time does not count.

    Example:

    >>> recorder = Recorder("runs/example/history.csv")
    >>> recorder.rows
    []
    """

    def __init__(
        self, path: str | os.PathLike, measure: Callable[[], Mapping[str, float]] = lambda: {}
    ):
        super().__init__()
        self._path, self._measure = pathlib.Path(path), measure
        self._begun = 0.0
        self.rows: list[dict[str, float]] = []
        """One dictionary per epoch, with those of `COLUMNS` the run has; epochs count from 1.

        A column of one of several sub-nets has its name behind: "val_accuracy/subnet_90"."""
        self.seconds_before = 0.0
        """Training time of the epochs before the run was resumed."""

    def on_train_begin(self, logs: dict | None = None) -> None:
        if self._path.is_file():
            self.rows = read_history(self._path)
        self.seconds_before = sum(row["seconds"] for row in self.rows)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        # A run may have been killed after the row of an epoch was written, before its backup.
        del self.rows[epoch:]
        self._begun = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        seconds = time.perf_counter() - self._begun
        values = {**(logs or {}), **self._measure(), "epoch": epoch + 1}
        values["seconds"] = round(seconds, 3)
        self.rows.append({name: float(values[name]) for name in _in_order(values)})
        write_history(self._path, self.rows)


def _in_order(values: Iterable[str]) -> list[str]:
    """Those of some names that are columns, in the order of `COLUMNS`, then of their sub-nets."""
    columns = [name for name in values if name.partition("/")[0] in COLUMNS]
    return sorted(columns, key=lambda name: ("/" in name, COLUMNS.index(name.partition("/")[0])))


def read_history(path: str | os.PathLike) -> list[dict[str, float]]:
    """Returns the rows of a `history.csv`."""
    with open(path, newline="") as file:
        return [
            {name: float(text) for name, text in row.items() if text}
            for row in csv.DictReader(file)
        ]


def write_history(path: str | os.PathLike, rows: Sequence[Mapping[str, float]]) -> None:
    """Writes rows as a `history.csv`, whole numbers as such, and all digits of the others."""
    with replacing(path) as beside, open(beside, "w", newline="") as file:
        writer = csv.DictWriter(file, _in_order(dict.fromkeys(n for row in rows for n in row)))
        writer.writeheader()
        for row in rows:
            writer.writerow({k: int(v) if v.is_integer() else v for k, v in row.items()})


def rounded(value: Any) -> Any:
    """Returns a value, or all those in dictionaries and lists, with 6 significant digits.

    >>> rounded({"a": [1 / 3, 2], "b": None})
    {'a': [0.333333, 2], 'b': None}
    """
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
