"""Finished runs: which to read, what they found, and that as a table. TensorFlow is not needed."""

import csv
import dataclasses
import json
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from .program import Options, option

# What results.json holds as numbers, for the run and for each of its sub-nets.
_NUMBERS = (
    "test_accuracy",
    "tflite_test_accuracy",
    "sparse_mode_test_accuracy",
    "sparse_mode_test_samples",
    "sparsity",
    "training_flops",
    "dense_training_flops",
    "flops_share",
    "planned_training_flops",
    "memory_average_bytes",
    "memory_minimum_bytes",
    "active_samples",
    "train_samples",
    "test_samples",
    "frozen_blocks",
    "blocks",
    "steps",
    "wall_time_s",
    "training_time_s",
    "tflite_bytes",
    "tflite_dense_bytes",
    "tflite_share",
)


@dataclasses.dataclass(frozen=True)
class Finished(Options):
    """The options of programs that read finished runs."""

    folders: tuple[str, ...] = option(
        (), "folders of finished runs, or files of `make evidence`", several=str, positional=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.folders:
            raise ValueError("At least one folder of a finished run is needed. Received: none")


class Results(dict):
    """What a run found, by name; what it has not is said in one line.

    Args:
        values: the dictionary.
        source: the folder or file that it comes from.

    Example:

    >>> Results({"steps": 3}, "a")["blocks"]
    Traceback (most recent call last):
    ValueError: A run must be one of this version. Received: a, whose results have no 'blocks'
    """

    def __init__(self, values: Mapping, source: str | os.PathLike):
        super().__init__(values)
        self._source = source

    def __missing__(self, name: str) -> Any:
        raise ValueError(
            f"A run must be one of this version. Received: {self._source}, whose results have no "
            f"{name!r}"
        )


def read(folder: str | os.PathLike) -> Results:
    """Returns what `results.json` in the folder of a finished run holds.

    Args:
        folder: the folder, or a file of benchmarks/results/evidence, which holds the same.

    Raises:
        ValueError: there is none, or it is not of a run.
    """
    path = pathlib.Path(folder)
    try:
        if path.is_file():
            about = _json(path)
            found = {"machine": about.get("machine")} | about["results"]
        else:
            found = _json(path / "results.json")
        found["config"]["method"]
        parts = [Results(found, path), *(Results(s, path) for s in found.get("subnets", ()))]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise ValueError(_no_results(path)) from None
    for part in parts:
        for name in _NUMBERS:
            value = part.get(name, 0)
            unmeasured = value is None and name == "sparse_mode_test_accuracy"
            if isinstance(value, bool) or not (unmeasured or isinstance(value, (int, float))):
                raise ValueError(
                    f"`{name}` of a finished run must be a number. Received: {value!r}, in {path}"
                )
    results, *subnets = parts
    return Results(results | ({"subnets": subnets} if subnets else {}), path)


def _no_results(path: pathlib.Path) -> str:
    """What is to be said of a path with no results in it."""
    if path.is_file():
        return f"A file of results must be one of `make evidence`. Received: {path}"
    said = f"A folder must hold results.json of a finished run. Received: {path}"
    if (path / "results.json").exists():
        return f"{said}, whose results.json is damaged"
    if next(path.glob("*/results.json"), None):
        return f"{said}; folders in it do: give them, as {path}/*"
    return said


def machines(runs: Iterable[Mapping]) -> list[str]:
    """Returns the machines of runs, in words; one of which nothing is known is called so.

    Args:
        runs: what `read` returns of each.
    """
    known = [run.get("machine") or {} for run in runs]
    words = [f"{m['processor']}, {m['cores']} cores" if m else "an unknown machine" for m in known]
    return sorted(set(words))


def on_one_machine(runs: Sequence[Mapping], name: str) -> float | None:
    """Returns the mean of seconds that runs took; None if they ran on several machines."""
    return fmean(run[name] for run in runs) if len(machines(runs)) == 1 else None


def duration(seconds: float | None) -> str:
    """Returns seconds in words, as of `on_one_machine`."""
    return "several machines" if seconds is None else f"{seconds:.0f} s"


def of_several_machines(names: Sequence[str]) -> list[str]:
    """Returns the lines that warn of times on different machines, none if there is one.

    Args:
        names: what `machines` returns of all runs.
    """
    said = "Training times are of different machines, and do not compare: "
    return ["", said + "; ".join(names)] if len(names) > 1 else []


def check_same_data(runs: Mapping[str, Mapping]) -> None:
    """Raises ValueError if runs cannot be compared, since they are of different data.

    Args:
        runs: what `read` returns of each, by what the message is to call it.
    """
    seen: dict[tuple, tuple[str, Any]] = {}
    for name, run in runs.items():
        config = run["config"]
        of = ("dataset", "image_size")
        # How many there are to train on says nothing of runs that were told how many to take.
        for count, options in (("test_samples", of), ("train_samples", (*of, "train_samples"))):
            key = (count, *(str(config.get(option)) for option in options))
            other, expected = seen.setdefault(key, (name, run[count]))
            if run[count] != expected:
                raise ValueError(
                    f"Runs of one dataset must have the same data. Received: {config['dataset']} "
                    f"with {expected} {count} in {other}, and with {run[count]} in {name}"
                )


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run, with all that it has left.

    Args:
        source: its folder, or its file of benchmarks/results/evidence.
        results: what `read` returns.
        history: one dictionary an epoch, as in `history.csv`.
        command: None, or the command that trains it again.
        machine: what kind of machine trained it, as far as that is known.
    """

    source: pathlib.Path
    results: Results
    history: list[dict[str, float]]
    command: str | None
    machine: Mapping[str, Any]


def load(folder: str | os.PathLike) -> Run:
    """Returns a finished run, with all that it has left.

    Args:
        folder: as in `read`.

    Raises:
        ValueError: a file is missing, damaged, or not of a run.
    """
    path, results = pathlib.Path(folder), read(folder)
    about = _json(path) if path.is_file() else {}
    file = path if path.is_file() else path / "history.csv"
    try:
        history = rows(about["history"] if about else file.read_text().splitlines())
        if not history or [row["epoch"] for row in history] != [*range(1, len(history) + 1)]:
            raise ValueError("epochs are missing")
    except (OSError, ValueError, LookupError, TypeError, csv.Error):
        raise ValueError(
            "The history of a finished run must be a table of numbers, a line for each epoch. "
            f"Received: {file}"
        ) from None
    return Run(path, results, history, about.get("command"), dict(results.get("machine") or {}))


def rows(lines: Iterable[str]) -> list[dict[str, float]]:
    """Returns the rows of a `history.csv`, of which `lines` are those.

    >>> rows(["epoch,loss,seconds", "1,0.5,"])
    [{'epoch': 1.0, 'loss': 0.5}]
    """
    return [
        {name: float(text) for name, text in row.items() if text} for row in csv.DictReader(lines)
    ]


def _json(path: pathlib.Path) -> Any:
    return json.loads(path.read_text())


def table(results: Mapping) -> str:
    """Returns the results as a short table to print."""
    accuracy = [
        ("test accuracy", "{test_accuracy:.4f}" + _of_paper(results, "accuracy", ".4f")),
        ("test accuracy, .tflite", "{tflite_test_accuracy:.4f}"),
    ]
    sparse_mode = "{sparse_mode_test_accuracy:.4f}"
    measured = results["sparse_mode_test_samples"] > 0
    if measured:
        text = f"{sparse_mode}, on {{sparse_mode_test_samples}} samples"
        accuracy.append(("in sparse mode", text))
    if len(results["subnets"]) > 1:
        text = "test accuracy {test_accuracy:.4f}, .tflite {tflite_test_accuracy:.4f}"
        text += (
            f", in sparse mode {sparse_mode} on {{sparse_mode_test_samples}}" if measured else ""
        )
        accuracy = [(s["name"], text.format_map(s)) for s in results["subnets"]]
    lines = [
        *accuracy,
        ("sparsity", "{sparsity:.4f}"),
        (
            "training FLOPs",
            "{training_flops:.3g}, {flops_share:.3f} of dense" + _of_paper(results, "flops", ".3g"),
        ),
        ("samples in use", "{active_samples} of {train_samples}"),
        ("frozen blocks", "{frozen_blocks} of {blocks}"),
        (".tflite", "{tflite_bytes:,} bytes, {tflite_share:.3f} of dense"),
        ("on phones", ON_PHONES[results["tflite_runs_sparse"]]),
        ("time", "{wall_time_s:.0f} s"),
    ]
    return "\n".join(f"{name:<24}{text.format_map(results)}" for name, text in lines)


def _of_paper(results: Mapping, what: str, form: str) -> str:
    """What a paper reports, in words to stand behind what was found."""
    found = results["config"].get(f"paper_{what}")
    return "" if found is None else f"; the paper {found:{form}}"


ON_PHONES = {
    True: "runs sparse, on ARM64, ARM and WebAssembly",
    False: "does not run sparse: `spfde inspect` with the file says why",
}
"""What is to be said of a file, by `tflite_runs_sparse`."""
