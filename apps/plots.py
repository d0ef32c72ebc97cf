"""The picture of a run: accuracy, sparsity, frozen blocks and active samples over epochs."""

import os
from collections.abc import Mapping, Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

_PANELS = {
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
    # A figure of its own, not pyplot's: no window system, no global state.
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
