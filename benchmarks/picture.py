"""Draws README's picture: accuracy against time and FLOPs of training.

    python benchmarks/picture.py

Reads benchmarks/results.json, which holds numbers of docs/benchmarks.md and the commands that
gave them; writes docs/results.png.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

RESULTS = Path(__file__).with_name("results.json")
PICTURE = RESULTS.parents[1] / "docs" / "results.png"

_COLOURS = {"dense": "tab:gray", "SpFDE": "tab:red"}
# Where a method's name stands beside its point, in points: close ones must not overlap.
_OFFSETS = {"static": (6, 8), "RigL": (-32, 2), "SET": (-28, -8), "MEST EM": (6, -3)}


def draw(results: Mapping, path: Path) -> None:
    """Writes the picture.

    Args:
        results: what results.json holds.
        path: the PNG file.
    """
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    seconds, flops = figure.subplots(1, 2)
    _panel(seconds, results["training"], "seconds", "seconds of training, CPU")
    seconds.set_xlim(0, 1750)
    _panel(flops, results["methods"], "flops_share", "training FLOPs, share of dense")
    flops.set_xscale("log")
    flops.set_xlim(0.075, 1.4)
    flops.set_xticks([0.1, 0.2, 0.5, 1.0], ["0.1", "0.2", "0.5", "1"], minor=False)
    flops.minorticks_off()
    FigureCanvasAgg(figure).print_png(path)


def _panel(axes: Axes, results: Mapping, column: str, label: str) -> None:
    for row in results["rows"]:
        name = row["method"]
        colour = _COLOURS.get(name.split()[0], "tab:blue")
        axes.plot(row[column], row["accuracy"], "o", color=colour)
        dense = name.startswith("dense")
        offset = (-6, -14) if dense else _OFFSETS.get(name, (7, -4))
        axes.annotate(
            name,
            (row[column], row["accuracy"]),
            offset,
            textcoords="offset points",
            ha="right" if dense else "left",
        )
    accuracies = [row["accuracy"] for row in results["rows"]]
    axes.set_ylim(min(accuracies) - 0.5, max(accuracies) + 0.5)
    axes.set_title(results["title"], fontsize=9)
    axes.set_xlabel(label)
    axes.set_ylabel("test accuracy, %")
    axes.grid(alpha=0.3)


if __name__ == "__main__":
    draw(json.loads(RESULTS.read_text()), PICTURE)
