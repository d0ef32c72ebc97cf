"""The folder of a run: its files while it goes on, and how finished results are published."""

import csv
import json
import os
import pathlib
import re
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras

from spfde_keras.files import flush, replacing
from spfde_keras.resume import Resume
from spfde_keras.resume.folder import OwnFolder
from spfde_keras.resume.states import States

from . import finished, finished_analyses
from .config import RunConfig

FILES = ("model.keras", "model.tflite", "history.csv", "training.png", "results.json")

ANALYSES = (finished_analyses.FILE, *(f"{name}.png" for name in finished_analyses.PICTURES))
"""What runs that are analysed leave, too."""

# The last one says that a run is finished.
_ALL = (*FILES[:-1], *ANALYSES, FILES[-1])

_OPTIONS = ("config.json", "config_again.json")
"""The options of a run, twice, since one may be damaged."""

# What else a run writes while it goes on, and the names under which files are written first.
_BESIDE = r"\.?(model|dense|history|config|config_again|analyses)-[0-9a-f]{8}\.[a-z]+"
_NAMES = "|".join((r"states|dense\.tflite", _BESIDE, *map(re.escape, _ALL + _OPTIONS)))

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
    until those of a new one are. One rename, of `unfinished` to `publishing`, makes them the
    results; a run that is killed while they are moved is completed by the next one.

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
        self._own = OwnFolder(self.unfinished, _NAMES, "output_dir")
        self._publishing = OwnFolder(self.path / "publishing", _NAMES, "output_dir")
        self.states = States(self.unfinished / "states", "output_dir")

    def check(self) -> None:
        """Checks whether the run may write here and can be resumed.

        Nothing changes, except that what was being published when a run was killed is published.

        Raises:
            ValueError: the folder cannot be written, something in it is not of a run, there is
                nothing to resume, or what is there was started with other options.
        """
        existing = next(p for p in (self.path, *self.path.absolute().parents) if p.exists())
        if not (existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)):
            raise ValueError(
                f"`output_dir` must be a folder that can be written. Received: {self.path}"
            )
        self._take()
        if not self.config.resume:
            return
        kept = [self.unfinished / name for name in _OPTIONS]
        if not self.states.epochs() and not any(path.is_file() for path in kept):
            raise ValueError(
                f"`resume` needs an unfinished run in {self.path}. Found none; "
                "start one without --resume"
            )
        refusals = [refusal for path in kept if (refusal := self._differs(path))]
        if len(refusals) == len(kept):
            raise refusals[0]

    def _differs(self, path: pathlib.Path) -> ValueError | None:
        """Returns why a run whose options a file holds cannot go on as this one; None if it can."""
        try:
            earlier = dict(json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            return ValueError(
                f"`resume` must continue a run of the same options, but those of the one in "
                f"{self.path} cannot be read. Received: {path} ({error})"
            )
        try:
            self.config.check_resumes(earlier)
        except ValueError as differences:
            return differences
        return None

    def _take(self) -> None:
        """Keeps other processes out; refuses what no run has written."""
        if not self._own.is_marked and (self.unfinished / "backup").is_dir():
            raise ValueError(
                f"`output_dir` holds a run that an earlier version has begun, whose state has "
                f"another form: finish it with that version, or remove {self.unfinished} to start "
                f"anew. Received: {self.path}"
            )
        for folder in (self._own, self.states, self._publishing):
            folder.check()
        if self._publishing.path.exists():
            self._move()
        present = [name for name in _ALL if os.path.lexists(self.path / name)]
        if present and not _is_finished(self.path):
            raise ValueError(
                "`output_dir` must hold no files by the names of results but those of a run. "
                f"Received: {self.path}, whose {present[0]!r} belongs to none, since there is no "
                "results.json of a run"
            )

    def _say_what_is_replaced(self) -> None:
        """Warns where an unfinished run, or a finished one of other options, will be lost."""
        if epochs := self.states.epochs():
            warnings.warn(
                f"The unfinished run in {self.path} will be replaced ({epochs[0]} epochs are "
                "done); --resume continues it, --output_dir keeps both.",
                stacklevel=2,
            )
        if not _is_finished(self.path):
            return
        try:
            self.config.check_resumes(finished.read(self.path)["config"])
        except ValueError as differences:
            changed = str(differences).partition("Received: ")[2]
            warnings.warn(
                f"The finished run in {self.path} will be replaced ({changed}); --output_dir keeps "
                "both.",
                stacklevel=2,
            )

    def finished(self) -> dict | None:
        """Returns the results, if there is nothing left for `resume` to do; None otherwise.

        Raises:
            ValueError: the folder holds something that is not of a run.
        """
        if not self.config.resume:
            return None
        self._take()
        if self.unfinished.exists() or not _is_finished(self.path):
            return None
        found = finished.read(self.path)
        self.config.check_resumes(found["config"])
        return found

    def open(self) -> None:
        """Makes the folder for the run to write in; without `resume`, an empty one.

        Raises:
            ValueError: the folder cannot be made.
        """
        try:
            self._own.open()
            if not self.config.resume:
                self._say_what_is_replaced()
                self._own.clear()
            for name in _OPTIONS:
                with replacing(self.unfinished / name) as beside:
                    beside.write_text(self.config.to_json())
        except OSError as error:
            raise ValueError(
                f"`output_dir` must be a folder that can be written. "
                f"Received: {self.path} ({error.strerror})"
            ) from None

    def publish(self) -> None:
        """Puts the finished files in place, and removes the rest."""
        for name in _ALL:
            if name in FILES or (self.unfinished / name).exists():
                flush(self.unfinished / name)
        os.rename(self.unfinished, self._publishing.path)
        self._move()
        self._own.close()

    def _move(self) -> None:
        """Moves what `publishing` holds to its place, all of it or what is left of it."""
        self._publishing.open()
        left = [name for name in _ALL if (self._publishing.path / name).exists()]
        if left:
            # Until all is there, nothing says that a run is finished.
            (self.path / "results.json").unlink(missing_ok=True)
        if _ALL[0] in left:  # so that none has been moved
            for name in set(ANALYSES) - set(left):
                (self.path / name).unlink(missing_ok=True)
        for name in left:
            os.replace(self._publishing.path / name, self.path / name)
        self._publishing.remove()


def _is_finished(folder: pathlib.Path) -> bool:
    """Whether a folder holds the results of a run."""
    try:
        finished.read(folder)
    except ValueError:
        return False
    return True


class Recorder(keras.callbacks.Callback):
    """Writes a row of `history.csv` after each epoch, also those of before a run was resumed.

    It adds to the logs of an epoch what it measures. It must come after the callbacks whose logs
    it writes, and before the one that keeps the state of the run, and with it the logs.

    Args:
        path: the CSV file.
        measure: function that returns more of a row: numbers by column. Its time does not count.
        resume: None, or what keeps the state of the run.

    Example:

    >>> recorder = Recorder("runs/example/history.csv")
    >>> recorder.rows
    []
    """

    def __init__(
        self,
        path: str | os.PathLike,
        measure: Callable[[], Mapping[str, float]] = lambda: {},
        resume: Resume | None = None,
    ):
        super().__init__()
        self._path, self._measure, self._resume = pathlib.Path(path), measure, resume
        self._begun = 0.0
        self._own_seconds = 0.0
        self.rows: list[dict[str, float]] = []
        """One dictionary per epoch, with those of `COLUMNS` the run has; epochs count from 1.

        A column of one of several sub-nets has its name behind: "val_accuracy/subnet_90"."""

    @property
    def seconds_before(self) -> float:
        """Training time of the epochs before the run was resumed."""
        return sum(row["seconds"] for row in self.rows) - self._own_seconds

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        if self._resume is not None:
            self.rows = [_row(at, kept) for at, kept in enumerate(self._resume.history[:epoch])]
        self._begun = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        seconds = round(time.perf_counter() - self._begun, 3)
        self._own_seconds += seconds
        logs = {} if logs is None else logs
        logs.update(self._measure(), seconds=seconds)
        self.rows.append(_row(epoch, logs))
        write_history(self._path, self.rows)

    def on_train_end(self, logs: dict | None = None) -> None:
        if self._resume is not None and not self._own_seconds:
            # A run that is resumed after its last epoch starts no epoch.
            self.rows = [_row(at, kept) for at, kept in enumerate(self._resume.history)]
            write_history(self._path, self.rows)


def _row(epoch: int, logs: Mapping[str, Any]) -> dict[str, float]:
    values = {**logs, "epoch": epoch + 1}
    return {name: float(values[name]) for name in _in_order(values)}


def _in_order(values: Iterable[str]) -> list[str]:
    """Those of some names that are columns, in the order of `COLUMNS`, then of their sub-nets."""
    columns = [name for name in values if name.partition("/")[0] in COLUMNS]
    return sorted(columns, key=lambda name: ("/" in name, COLUMNS.index(name.partition("/")[0])))


def read_history(path: str | os.PathLike) -> list[dict[str, float]]:
    """Returns the rows of a `history.csv`."""
    with open(path, newline="") as file:
        return finished.rows(file)


def write_history(path: str | os.PathLike, rows: Sequence[Mapping[str, float]]) -> None:
    """Writes rows as a `history.csv`, whole numbers as such, and all digits of the others."""
    with replacing(path) as beside, open(beside, "w", newline="") as file:
        writer = csv.DictWriter(file, _in_order(dict.fromkeys(n for row in rows for n in row)))
        writer.writeheader()
        for row in rows:
            writer.writerow({k: int(v) if v.is_integer() else v for k, v in row.items()})
