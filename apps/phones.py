"""The accuracy that a run's file has on phones, with XNNPACK's sparse kernels on."""

import math
import os
from collections.abc import Sequence

import keras
import numpy as np

from spfde_keras.export.inputs import named_inputs
from spfde_keras.export.sparse_mode import available_runtimes, run_sparse_mode

from .progress import say

# At most 256 MiB of test samples: all small images, or some hundreds of large ones.
_MOST_BYTES = 2**28


def most(shape: tuple[int, int, int]) -> int:
    """Returns how many test samples of a shape are to be used at most.

    Example:

    >>> most((224, 224, 3))
    445
    """
    return max(1, _MOST_BYTES // (4 * math.prod(shape)))


def sparse_mode_accuracies(
    model: keras.Model,
    path: str | os.PathLike,
    x: np.ndarray,
    y: np.ndarray,
    signatures: Sequence[str | None] = (None,),
) -> list[dict[str, float | int | None]]:
    """Measures a classifier's file in sparse mode, or prints a line that says why it cannot.

    Args:
        model: the model the file was made from.
        path: the .tflite file.
        x: (samples, height, width, channels) float32, as the model takes them.
        y: labels, integers (samples,).
        signatures: the names of the sub-nets to run; None is the only one of its file.

    Returns:
        For each signature `sparse_mode_test_accuracy`, from 0 to 1 or None, and
        `sparse_mode_test_samples`: how many it was measured on.

    Example:

    >>> _ = export_tflite(model, "model.tflite")
    >>> x, y = np.zeros((5, 8, 8, 1), "float32"), np.zeros(5, "int32")
    >>> (measured,) = sparse_mode_accuracies(model, "model.tflite", x, y)
    >>> sorted(measured)
    ['sparse_mode_test_accuracy', 'sparse_mode_test_samples']
    """
    inputs, labels = named_inputs(model, x), y
    accuracies: list[float | None] = []
    if not available_runtimes():
        say("the sparse mode of phones is left out: it needs the mobile kit (make mobile-kit)")
        return _measured([None] * len(signatures), 0)
    say(f"testing in the sparse mode of phones, on {len(labels)} samples")
    try:
        for signature in signatures:
            (logits,) = run_sparse_mode(path, inputs, signature).values()
            if np.isnan(logits).any():
                raise RuntimeError("NaN among the outputs")
            accuracies.append(float(np.mean(logits.argmax(axis=-1) == labels)))
    except RuntimeError as error:
        # A failing runtime must not end the run.
        say(f"accuracy in sparse mode not measured: {error}")
        return _measured([None] * len(signatures), 0)
    return _measured(accuracies, len(labels))


def _measured(accuracies: Sequence[float | None], samples: int) -> list[dict]:
    return [
        {"sparse_mode_test_accuracy": accuracy, "sparse_mode_test_samples": samples}
        for accuracy in accuracies
    ]
