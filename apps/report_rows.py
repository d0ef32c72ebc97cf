"""The rows of a report: runs that differ in their seed alone, and the curves of each."""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from . import compare_runs, finished
from .finished import Results, Run
from .program import text
from .report_charts import Line

# Options that follow from others, unless they are given.
_FOLLOWING = ("warmup_epochs",)


@dataclasses.dataclass(frozen=True)
class Row:
    """A sub-net of runs that differ in their seed alone, or all there is of such runs.

    Args:
        number: that of its runs; "" where all runs differ in their seed alone.
        style: of its lines.
        label: the options in which it differs from other rows.
        subnet: its name; "" where the runs have one only.
        index: the place of the sub-net among those of its run.
        found: what `compare_runs.compare` has of it.
        runs: one for each seed.
    """

    number: str
    style: int
    label: str
    subnet: str
    index: int
    found: Mapping
    runs: Sequence[Run]

    @property
    def key(self) -> str:
        """What it is called in charts; "" for the only row."""
        if not self.number:
            return self.subnet
        return self.number + (chr(ord("a") + self.index) if self.subnet else "")

    @property
    def name(self) -> str:
        """All of what it is called, its key first."""
        name = ", ".join(filter(None, (self.label, self.subnet)))
        return f"{self.key}: {name}" if self.number else self.subnet

    @property
    def of_all_subnets(self) -> str:
        """What its runs are called."""
        return f"{self.number}: {self.label}" if self.number else "the run"

    def mean(self, name: str) -> float:
        """The mean over seeds of a number that runs have found; NaN where one has it not."""
        return _mean([run.results[name] for run in self.runs])

    def mean_of_subnet(self, name: str) -> float:
        """The mean over seeds of what was found of this sub-net."""
        return _mean([_subnet(run.results, self.index)[name] for run in self.runs])

    def curve(
        self,
        column: str,
        over: Callable[[Run], Sequence[float]],
        label: str | None = None,
        times: float = 1,
    ) -> Line:
        """Returns a column of the history: its mean and range over seeds.

        Args:
            column: its name, without that of a sub-net.
            over: function that returns, for a run, where each epoch lies.
            label: what the line is called; by default as the row.
            times: factor on the values.
        """
        length = min(len(run.history) for run in self.runs)
        name = self._column(column)
        y = np.array([[row.get(name, np.nan) for row in run.history[:length]] for run in self.runs])
        y *= times
        x = np.array([over(run)[:length] for run in self.runs]).mean(axis=0)
        several = len(self.runs) > 1
        label = self.key if label is None else label
        return Line(
            label,
            x.tolist(),
            y.mean(axis=0).tolist(),
            y.min(axis=0).tolist() if several else (),
            y.max(axis=0).tolist() if several else (),
            self.style,
            self.name,
        )

    def end(self, over: str) -> Line:
        """Returns the accuracy on all test samples, in percent, over a number that runs found."""
        found = [100 * _subnet(run.results, self.index)["test_accuracy"] for run in self.runs]
        mean, low, high = [_mean(found)], [min(found)], [max(found)]
        return Line(self.key, [self.mean(over)], mean, low, high, self.style, self.name)

    def _column(self, name: str) -> str:
        own = f"{name}/{_subnet_name(self.runs[0].results, self.index)}"
        return own if own in self.runs[0].history[0] else name


def rows(folders: Sequence[str | os.PathLike]) -> list[Row]:
    """Returns the rows of a report on finished runs, as `compare_runs.compare` groups them.

    Args:
        folders: those of the runs.

    Raises:
        ValueError: a file is missing or damaged, or two runs have the same options and seed.
    """
    found = compare_runs.compare(folders)["rows"]
    runs = {str(folder): finished.load(folder) for folder in folders}
    groups = list(dict.fromkeys(tuple(row["runs"]) for row in found))
    labels = _labels([row["options"] for row in found])
    rows: list[Row] = []
    for style, (row, label) in enumerate(zip(found, labels, strict=True)):
        group = tuple(row["runs"])
        index = sum(other.found["runs"] == row["runs"] for other in rows)
        number = str(groups.index(group) + 1) if len(groups) > 1 else ""
        loaded = [runs[folder] for folder in group]
        rows.append(Row(number, style, label, row["subnet"], index, row, loaded))
    return rows


def _labels(options: Sequence[Mapping]) -> list[str]:
    """The options in which each row differs from others; what is off or follows only if need be."""

    def label(given: Mapping, all_of_them: bool) -> str:
        shown = {
            name: value
            for name, value in given.items()
            if all_of_them or (value not in (None, 0, [], "") and name not in _FOLLOWING)
        }
        method = [str(shown.pop("method"))] if "method" in shown else []
        return ", ".join([*method, *(f"{name}={text(value)}" for name, value in shown.items())])

    short = [label(given, False) for given in options]
    different = len({str(given) for given in options})
    if "" not in short and len(set(short)) == different:
        return short
    return [label(given, True) for given in options]


def _mean(values: Sequence[float | None]) -> float:
    return float(np.mean([np.nan if value is None else value for value in values]))


def _subnet(results: Results, index: int) -> Results:
    """What was found of a sub-net; of the only one, as the run as a whole has it."""
    return results["subnets"][index] if len(results["subnets"]) > 1 else results


def _subnet_name(results: Results, index: int) -> str:
    return results["subnets"][index]["name"]
