"""Pictures: one run over its epochs, and the sub-nets of several runs."""

import itertools
import os
from collections.abc import Mapping, Sequence

from spfde_keras.extras import extra

with extra("apps"):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

_PANELS: dict[str, dict[str, str | None]] = {
    "accuracy": {"accuracy": "training", "val_accuracy": "test"},
    "sparsity": {"sparsity": None},
    "frozen blocks": {"frozen_blocks": None},
    "active samples": {"active_samples": None},
}
_COUNTS = ("frozen blocks", "active samples")


def plot_history(rows: Sequence[Mapping[str, float]], path: str | os.PathLike, title: str) -> None:
    """Draws the history of a run as a PNG file.

    Args:
        rows: one mapping per epoch, with the columns of `history.csv`.
        path: where to write.
        title: text on top.

    Example:

    >>> rows = [{"epoch": e, "accuracy": 0.9, "sparsity": 0.9} for e in (1, 2)]
    >>> plot_history(rows, "training.png", "digits")
    """
    # Not made by pyplot: needs no window system, and changes no global state.
    figure = Figure(figsize=(10, 7), layout="constrained")
    figure.suptitle(title)
    epochs = [row["epoch"] for row in rows]
    for axes, (panel, columns) in zip(figure.subplots(2, 2).flat, _PANELS.items(), strict=True):
        for column, label in columns.items():
            values = [row.get(column, float("nan")) for row in rows]
            steps = "steps-post" if panel in _COUNTS else "default"
            axes.plot(epochs, values, label=label, drawstyle=steps)
        axes.set_title(panel)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        if panel in _COUNTS:
            axes.set_ylim(bottom=0)
            axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        if len(columns) > 1:
            axes.legend()
    FigureCanvasAgg(figure).print_png(os.fspath(path))


def plot_subnets(methods: Sequence[Mapping], path: str | os.PathLike, title: str) -> None:
    """Draws the accuracy of sub-nets against their density as a PNG file.

    A mark is the mean over the seeds, its bar reaches from the lowest to the highest.

    Args:
        methods: a line each, as in "methods" of `compare_subnets.compare`.
        path: where to write.
        title: text on top.

    Example:

    >>> subnets = [{"sparsity": 0.9, "test_accuracy": 0.8, "test_accuracies": [0.7, 0.9]}]
    >>> plot_subnets([{"method": "AST", "subnets": subnets}], "subnets.png", "digits")
    """
    figure = Figure(figsize=(7, 5), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots()
    ticks = set()
    for marker, method in zip(itertools.cycle("os^D"), methods, strict=False):
        subnets = method["subnets"]
        density = [1 - subnet["sparsity"] for subnet in subnets]
        mean = [subnet["test_accuracy"] for subnet in subnets]
        below = [m - min(s["test_accuracies"]) for m, s in zip(mean, subnets, strict=True)]
        above = [max(s["test_accuracies"]) - m for m, s in zip(mean, subnets, strict=True)]
        label = method["method"]
        axes.errorbar(density, mean, (below, above), label=label, marker=marker, capsize=4)
        ticks |= {float(f"{share:.3g}") for share in density}
    axes.set_xscale("log")
    axes.set_xticks(sorted(ticks), [f"{share:g}" for share in sorted(ticks)])
    axes.minorticks_off()
    axes.set_xlabel("density")
    axes.set_ylabel("test accuracy")
    axes.grid(alpha=0.3)
    axes.legend()
    FigureCanvasAgg(figure).print_png(os.fspath(path))
