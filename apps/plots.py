"""Pictures: one run over its epochs, and the sub-nets of several runs."""

import dataclasses
import itertools
import math
import os
from collections.abc import Mapping, Sequence

import numpy as np

from spfde_keras.extras import extra

with extra("apps"):
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

Rows = Sequence[Mapping[str, float]]


@dataclasses.dataclass(frozen=True)
class _Panel:
    """A panel of the history of a run: its title, and the columns it shows with their labels.

    Args:
        off: None, or the value that the first column has in all epochs where what it is about
            is off; there is no panel then.
        line: what a dashed line at a column's target is called.
        counts: whether values are whole numbers.
        log: whether the scale is logarithmic.
    """

    title: str
    columns: Mapping[str, str]
    off: float | None = None
    line: str = "target"
    counts: bool = False
    log: bool = False


def _panels(targets: Mapping[str, float]) -> list[_Panel]:
    everything = targets.get("active_samples")
    return [
        _Panel("accuracy", {"accuracy": "training", "val_accuracy": "test"}),
        _Panel("loss", {"loss": "training", "val_loss": "test"}, log=True),
        _Panel("training FLOPs so far, of dense", {"flops_share": "spent"}, line="planned"),
        _Panel("sparsity", {"sparsity": ""}, off=0.0),
        _Panel("frozen blocks", {"frozen_blocks": ""}, off=0.0, counts=True),
        _Panel("samples in use", {"active_samples": ""}, off=everything, line="all", counts=True),
    ]


def plot_history(
    rows: Rows, path: str | os.PathLike, title: str, targets: Mapping[str, float]
) -> None:
    """Draws the history of a run as a PNG file; what is off has no panel.

    Args:
        rows: one mapping per epoch, with the columns of `history.csv`.
        path: where to write.
        title: text on top.
        targets: by column, where to draw a line: what is to be reached, or is at most there.

    Example:

    >>> rows = [{"epoch": e, "accuracy": 0.9, "sparsity": 0.9} for e in (1, 2)]
    >>> plot_history(rows, "training.png", "digits", {"sparsity": 0.9})
    """
    FigureCanvasAgg(history_figure(rows, title, targets)).print_png(os.fspath(path))


def history_figure(rows: Rows, title: str, targets: Mapping[str, float]) -> Figure:
    """Returns what `plot_history` draws."""
    shown = [panel for panel in _panels(targets) if _is_on(panel, rows)]
    wide = min(3, math.ceil(len(shown) / 2))
    high = math.ceil(len(shown) / wide)
    # Not made by pyplot: needs no window system, and changes no global state.
    figure = Figure(figsize=(5 * wide, 3.5 * high), layout="constrained")
    figure.suptitle(title)
    for position, panel in enumerate(shown, start=1):
        _draw(figure.add_subplot(high, wide, position), panel, rows, targets)
    return figure


def plot_pictures(
    images: np.ndarray, labels: np.ndarray, path: str | os.PathLike, title: str
) -> None:
    """Draws images side by side, each with its label, as a PNG file.

    Args:
        images: uint8 (images, height, width, channels), grey, or red, green and blue.
        labels: (images,).
        path: where to write.
        title: text on top.

    Example:

    >>> plot_pictures(np.zeros((3, 8, 8, 1), "uint8"), np.arange(3), "sheet.png", "black")
    """
    wide = math.ceil(math.sqrt(len(images)))
    high = math.ceil(len(images) / wide)
    figure = Figure(figsize=(1.5 * wide, 1.7 * high + 0.4), layout="constrained")
    figure.suptitle(title)
    for position, (image, label) in enumerate(zip(images, labels, strict=True), start=1):
        axes = figure.add_subplot(high, wide, position)
        shown = image if image.shape[-1] in (3, 4) else image[..., 0]
        axes.imshow(shown, cmap="gray", interpolation="nearest")
        axes.set_title(f"class {label}", fontsize=9)
        axes.set_axis_off()
    FigureCanvasAgg(figure).print_png(os.fspath(path))


def _is_on(panel: _Panel, rows: Rows) -> bool:
    values = np.array([row.get(next(iter(panel.columns)), math.nan) for row in rows])
    return not np.all(np.isnan(values) | (values == panel.off))


def _draw(axes: Axes, panel: _Panel, rows: Rows, targets: Mapping[str, float]) -> None:
    for column, label in panel.columns.items():
        for index, name in enumerate(_of_each_subnet(column, rows)):
            subnet = name.partition("/")[2]
            values = [row.get(name, math.nan) for row in rows]
            color = "0.6" if label == "training" else f"C{index}"
            axes.plot(
                [row["epoch"] for row in rows],
                values,
                color=color,
                label=", ".join(filter(None, (label, subnet))),
                drawstyle="steps-post" if panel.counts else "default",
            )
            if name in targets:
                said = None if subnet else panel.line
                axes.axhline(targets[name], color=color, linestyle="--", linewidth=1, label=said)
    axes.set_title(panel.title)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    if panel.log:
        axes.set_yscale("log")
    if panel.counts:
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    if axes.get_legend_handles_labels()[1]:
        axes.legend()


def _of_each_subnet(column: str, rows: Rows) -> list[str]:
    """The columns of the sub-nets, where there are several; otherwise the column itself."""
    return [name for name in rows[0] if name.startswith(f"{column}/")] or [column]


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
