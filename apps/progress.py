"""What a run says as it goes on: a line for each epoch, and what it does before and after."""

from collections.abc import Mapping, Sequence

import keras

from .results import Recorder

_HEADINGS = ("epoch", "loss", "accuracy", "test", "sparsity", "frozen", "samples", "FLOPs", "time")
_WIDTHS = (9, 11, 10, 15, 14, 8, 9, 8, 9)


class EpochLines(keras.callbacks.Callback):
    """Prints a line after each epoch, in columns; it must come behind the recorder.

    Args:
        recorder: whose rows are printed.
        epochs: the length of the run.
    """

    def __init__(self, recorder: Recorder, epochs: int):
        super().__init__()
        self._recorder, self._epochs = recorder, epochs

    def on_train_begin(self, logs: dict | None = None) -> None:
        say(_line(_HEADINGS))

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        say(epoch_line(self._recorder.rows[epoch], self._epochs))


def epoch_line(row: Mapping[str, float], epochs: int) -> str:
    """Returns the line of an epoch, shorter than 100 columns.

    Where several sub-nets are tested, from the worst to the best of them.

    Args:
        row: as of `Recorder.rows`.
        epochs: the length of the run.

    Example:

    >>> row = {"epoch": 2, "loss": 0.5, "accuracy": 0.75, "val_accuracy": 0.5, "sparsity": 0.85,
    ...        "target_sparsity": 0.9, "frozen_blocks": 1, "active_samples": 80,
    ...        "flops_share": 0.125, "seconds": 1.25}
    >>> epoch_line(row, 60).split()[:6]
    ['2/60', '0.5', '0.7500', '0.5000', '0.85', 'of']
    """
    test = sorted(value for name, value in row.items() if name.startswith("val_accuracy"))
    worst, best = test[0], test[-1]
    return _line(
        (
            f"{row['epoch']:.0f}/{epochs}",
            f"{row['loss']:.4g}",
            f"{row['accuracy']:.4f}",
            f"{worst:.4f}" + (f"-{best:.4f}" if best > worst else ""),
            f"{row['sparsity']:.2f} of {row['target_sparsity']:.2f}",
            f"{row['frozen_blocks']:.0f}",
            f"{row['active_samples']:.0f}",
            f"{row['flops_share']:.3f}",
            f"{row['seconds']:.1f} s",
        )
    )


def say(text: str) -> None:
    """Prints a line at once, also into a pipe."""
    print(text, flush=True)


def _line(cells: Sequence[str]) -> str:
    return "".join(f"{cell:>{width}}" for cell, width in zip(cells, _WIDTHS, strict=True))
