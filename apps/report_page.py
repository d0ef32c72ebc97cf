"""One page about finished runs: what they found, at what cost, and how. It needs no network."""

import dataclasses
import math
import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from . import finished, finished_analyses, report_analyses, report_origin
from .finished import ON_PHONES, Run
from .report_charts import STYLES, Line, curves, mark, number
from .report_html import Markup, charts, details, document, html, paragraph, section, table
from .report_rows import Row, rows


def page(folders: Sequence[str | os.PathLike]) -> str:
    """Returns an HTML page about runs; those that differ in their seed alone are taken together.

    Args:
        folders: those of finished runs, of any methods and settings.

    Raises:
        ValueError: a file is missing or damaged, or two runs have the same options and seed.
    """
    found = rows(folders)
    whole = [row for row in found if row.index == 0]
    return document(
        _title(whole),
        [
            paragraph(_about(whole)),
            section("Results", _results(found)),
            section("Accuracy and cost", *_ends(found)),
            section("Training", *_training(found)),
            section("Sparsity, freezing and sieving over time", *_over_time(found)),
            section("Cost and memory, against the plan", *_cost(whole)),
            section("Masks, layers and samples", *_analyses(whole)),
            section("The .tflite file", _file(found)),
            section("How to repeat it", *report_origin.parts(found)),
        ],
    )


def _title(whole: Sequence[Row]) -> str:
    if len(whole) > 1:
        return f"{len(whole)} ways to train, compared"
    config = whole[0].runs[0].results["config"]
    parts = (config.get("model"), config["method"], config.get("dataset"))
    return ", ".join(str(part) for part in parts if part)


def _about(whole: Sequence[Row]) -> str:
    runs = [run for row in whole for run in row.runs]
    shared = []
    for name in ("dataset", "train_samples", "model", "width", "epochs", "batch_size"):
        values = {str(run.results["config"].get(name)) for run in runs}
        if len(values) == 1 and values != {"None"}:
            shared.append(f"{name} {values.pop()}")
    count = "One run" if len(runs) == 1 else f"{len(runs)} finished runs"
    means = "" if len(runs) == len(whole) else "; means over seeds"
    return f"{count}: {', '.join(shared)}{means}."


def _results(found: Sequence[Row]) -> Markup:
    headings = ["run", "test accuracy, %", *(["± deviation"] if _has_seeds(found) else [])]
    headings += ["zeros, %", "training FLOPs", "share of dense", "training time", ".tflite"]
    reported = _of_papers(found)
    headings += ["seeds", *reported]
    lines = []
    for index, row in enumerate(found):
        lines.append(
            (
                _keyed(row),
                f"{100 * row.found['test_accuracy']:.2f}",
                *([_deviation(row)] if _has_seeds(found) else []),
                f"{100 * row.found['sparsity']:.2f}",
                number(row.mean("training_flops")),
                f"{row.found['flops_share']:.3f}",
                _duration(row.found["training_time_s"]),
                _bytes(row.mean("tflite_bytes")),
                row.found["n"],
                *(cells[index] for cells in reported.values()),
            )
        )
    return table("after the last epoch, on all test samples", headings, lines)


def _of_papers(found: Sequence[Row]) -> dict[str, list[str]]:
    """Columns of what papers report of such runs, where any has that; by heading."""

    def cells(name: str, said: Callable[[float], str]) -> list[str]:
        known = [None if row.subnet else row.runs[0].results["config"].get(name) for row in found]
        return ["" if value is None else said(value) for value in known]

    columns = {
        "the paper's accuracy, %": cells("paper_accuracy", lambda share: f"{100 * share:.2f}"),
        "its FLOPs": cells("paper_flops", number),
    }
    return {heading: column for heading, column in columns.items() if any(column)}


def _deviation(row: Row) -> str:
    deviation = row.found["test_accuracy_std"]
    return "" if deviation is None else f"{100 * deviation:.2f}"


def _keyed(row: Row) -> Markup:
    """The name of a row, behind its sign in charts."""
    if not row.key:
        return html(row.runs[0].results["config"]["method"])
    sign = mark(row.style, 8, 8)
    svg = f'<svg class="key" viewBox="0 0 16 16" aria-hidden="true">{sign}</svg>'
    return Markup(f'<span class="c{row.style % 5}">{svg}</span> {html(row.name)}')


def _keys(found: Sequence[Row]) -> Markup:
    """What the numbers in charts stand for."""
    items = "".join(f"<li>{_keyed(row)}</li>" for row in found)
    return Markup(f'<ul class="keys">{items}</ul>' if len(found) > 1 else "")


def _compares(found: Sequence[Row]) -> bool:
    """Whether the rows are of runs with different options."""
    return any(row.found["runs"] != found[0].found["runs"] for row in found)


def _ends(found: Sequence[Row]) -> Iterator[Markup]:
    if not _compares(found):
        return
    yield charts(
        *(
            curves(
                f"test accuracy over {label}, %",
                [row.end(name) for row in known],
                label,
                log_x=True,
            )
            for name, label, known in (
                ("training_flops", "training FLOPs", found),
                ("training_time_s", "seconds of training", _timed(found)),
            )
            if known
        )
    )
    yield _keys(found)
    means = "A mark is the mean over seeds, its bar the range. " if _has_seeds(found) else ""
    signs = "" if len(found) <= STYLES else "The same signs come again: go by the numbers. "
    machines = finished.machines(run.results for row in found for run in row.runs)
    differ = f" They were different ones: {'; '.join(machines)}." if len(machines) > 1 else ""
    yield paragraph(
        f"{means}{signs}The scales below are logarithmic. Seconds are those of the machine at that "
        f"time: other work on it counts, too.{differ}"
    )


def _timed(found: Sequence[Row]) -> list[Row]:
    """The rows whose runs all were on one machine, so that their seconds have a mean."""
    return [row for row in found if row.found["training_time_s"] is not None]


def _has_seeds(found: Sequence[Row]) -> bool:
    return any(len(row.runs) > 1 for row in found)


def _epochs(run: Run) -> list[float]:
    return [row["epoch"] for row in run.history]


def _flops(run: Run) -> list[float]:
    """FLOPs up to each epoch: the history has them as a share of dense training so far."""
    dense = run.results["dense_training_flops"] / run.history[-1]["epoch"]
    return [row.get("flops_share", math.nan) * dense * row["epoch"] for row in run.history]


def _seconds(run: Run) -> list[float]:
    return np.cumsum([row.get("seconds", math.nan) for row in run.history]).tolist()


def _training(found: Sequence[Row]) -> Iterator[Markup]:
    yield charts(*(_compared(found) if _compares(found) else _alone(found)))
    yield _keys(found)
    ranges = " Around a mean over seeds is their range." if _has_seeds(found) else ""
    yield paragraph(
        "Test accuracy after each epoch is that on a part of the test samples; the results above "
        f"are on all of them.{ranges}"
    )


def _alone(found: Sequence[Row]) -> Iterator[str]:
    """The curves of one row, or of its sub-nets: those on tests beside those in training."""

    def grey(column: str, times: float = 1) -> Line:
        line = found[0].curve(column, _epochs, "training", times)
        return dataclasses.replace(line, style=None, name="training")

    def tests(column: str, times: float = 1) -> list[Line]:
        return [row.curve(column, _epochs, row.key or "test", times) for row in found]

    accuracies = [grey("accuracy", 100), *tests("val_accuracy", 100)]
    yield curves("accuracy, %", accuracies, "epoch")
    yield curves("loss", [grey("loss"), *tests("val_loss")], "epoch", log_y=True)


def _compared(found: Sequence[Row]) -> Iterator[str]:
    """The curves of all rows."""

    def accuracies(over: Callable[[Run], Sequence[float]], known: Sequence[Row]) -> list[Line]:
        return [row.curve("val_accuracy", over, times=100) for row in known]

    lines = accuracies(_epochs, found)
    # What the first half has would flatten the rest.
    late = [y for line in lines for _, y in line.points[len(line.points) // 2 :]]
    floor = min(late, default=None)
    losses = [_of_run(row, "loss") for row in found if row.index == 0]
    yield curves("test accuracy over epochs, %", lines, "epoch", floor=floor)
    yield curves("training loss", losses, "epoch", log_y=True)
    for over, label, known in (
        (_flops, "training FLOPs so far", found),
        (_seconds, "seconds so far", _timed(found)),
    ):
        title = f"test accuracy over {label}, %"
        if known:
            yield curves(title, accuracies(over, known), label, floor=floor, log_x=True)


def _of_run(row: Row, column: str) -> Line:
    """A curve that all sub-nets of a run share."""
    line = row.curve(column, _epochs, row.number)
    return dataclasses.replace(line, name=row.of_all_subnets)


def _over_time(found: Sequence[Row]) -> Iterator[Markup]:
    """What is off in all runs has no chart."""
    whole = [row for row in found if row.index == 0]
    samples = max(row.mean("train_samples") for row in whole)
    shown = []
    for title, column, off, counts in (
        ("zeros, %", "sparsity", 0.0, False),
        ("frozen blocks", "frozen_blocks", 0.0, True),
        ("samples in use", "active_samples", samples, True),
    ):
        if counts:
            lines = [_of_run(row, column) for row in whole]
        else:
            lines = [row.curve(column, _epochs, times=100) for row in found]
        if any(y != off for line in lines for _, y in line.points):
            level = (samples, "all") if column == "active_samples" else None
            shown.append(curves(title, lines, "epoch", counts=counts, level=level))
    yield charts(*shown)
    yield _keys(found) if shown else Markup()


def _cost(whole: Sequence[Row]) -> Iterator[Markup]:
    headings = ["run", "training FLOPs", "planned", "off by, %", "memory, average", "least"]
    lines = []
    for row in whole:
        spent, planned = row.mean("training_flops"), row.mean("planned_training_flops")
        lines.append(
            (
                row.of_all_subnets,
                number(spent),
                number(planned),
                f"{100 * (spent / planned - 1):+.2f}" if planned > 0 else "",
                _bytes(row.mean("memory_average_bytes")),
                _bytes(row.mean("memory_minimum_bytes")),
            )
        )
    yield table("FLOPs that training took, and its plan", headings, lines)
    yield paragraph(
        "Memory is the plan's: weights that are kept, outputs of layers for a batch, and the "
        "gradients of both, which frozen blocks have not."
    )
    if len(whole) == 1:
        (row,) = whole
        spent = np.mean([_flops(run) for run in row.runs], axis=0).tolist()
        line = Line("", _epochs(row.runs[0]), spent)
        level = row.mean("planned_training_flops"), "planned"
        yield charts(curves("training FLOPs so far", [line], "epoch", level=level))
        yield _blocks(row.runs[0])


def _blocks(run: Run) -> Markup:
    """What a sample costs in each block; earlier versions did not say."""
    found = run.results.get("block_flops_per_sample", {})
    try:
        costs = np.array([*found.values()], dtype=float).T
    except (ValueError, TypeError, AttributeError):
        raise ValueError(
            "`block_flops_per_sample` of a finished run must be lists of numbers, one a block. "
            f"Received: {run.source}"
        ) from None
    if not costs.size:
        return Markup()
    headings = ["block", *(name.replace("_", " ") for name in found)]
    lines = [(block, *map(number, of_block)) for block, of_block in enumerate(costs, start=1)]
    return table("FLOPs of a sample at the end, block by block", headings, lines)


def _analyses(whole: Sequence[Row]) -> Iterator[Markup]:
    runs = [run for row in whole for run in row.runs]
    for run in runs:
        found = finished_analyses.read(run.source)
        if found is not None:
            parts = report_analyses.parts(found)
            yield details(run.source, *parts, shown=len(runs) == 1)


def _file(found: Sequence[Row]) -> Markup:
    headings = ["run", "bytes", "dense", "share", "test accuracy, %"]
    sparse_mode = [row.mean_of_subnet("sparse_mode_test_accuracy") for row in found]
    measured = not all(map(math.isnan, sparse_mode))
    lines = []
    for row, accuracy in zip(found, sparse_mode, strict=True):
        lines.append(
            (
                _keyed(row),
                f"{row.mean('tflite_bytes'):,.0f}",
                f"{row.mean('tflite_dense_bytes'):,.0f}",
                f"{row.mean('tflite_share'):.3f}",
                _accuracy(row.mean_of_subnet("tflite_test_accuracy")),
                *([_in_sparse_mode(row, accuracy)] if measured else []),
                ON_PHONES[all(run.results["tflite_runs_sparse"] for run in row.runs)],
            )
        )
    headings += ["in sparse mode, %"] if measured else []
    return table("its size, and what it does on phones", [*headings, "on phones"], lines)


def _in_sparse_mode(row: Row, accuracy: float) -> str:
    samples, tests = row.mean_of_subnet("sparse_mode_test_samples"), row.mean("test_samples")
    return _accuracy(accuracy) + (f" (on {samples:.0f} samples)" if 0 < samples < tests else "")


def _accuracy(share: float) -> str:
    return "not measured" if math.isnan(share) else f"{100 * share:.2f}"


def _duration(seconds: float | None) -> str:
    if seconds is None or seconds < 600:
        return finished.duration(seconds)
    return f"{seconds / 60:.1f} min"


def _bytes(size: float) -> str:
    return f"{size / 1e6:.2f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"
