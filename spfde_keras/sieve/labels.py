"""What the labels of a `DataSieve`'s samples say about their kind, before any training."""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

_PROBED = 64


@dataclasses.dataclass(frozen=True)
class Labels:
    """What is known of the labels that are numbers.

    Args:
        lowest: float, the lowest number in them.
        highest: float, the highest one.
        one_class: bool, whether each names one class: by its number, or by a row that adds up
            to 1 and has one largest entry.
        example: str, a label that names no class, if there is one; otherwise the lowest and
            the highest number.

    Example:

    >>> Labels(0.0, 1.0, one_class=True, example="numbers from 0 to 1").one_class
    True
    """

    lowest: float
    highest: float
    one_class: bool
    example: str


def look_at(samples: tf.data.Dataset | tuple) -> Labels:
    """Returns what is known of the labels of samples.

    Args:
        samples: a dataset of (x, y) or (x, y, sample_weight), or such a tuple of arrays. Of a
            dataset the first 64 samples are read.

    Returns:
        Their `Labels`.

    Raises:
        ValueError: for labels that no loss makes classes or tags: not numbers, not in one array,
            one fraction per sample, or negative numbers but -1 for the hinge loss.

    Example:

    >>> look_at((np.zeros((3, 2)), np.array([0, 2, 1]))).highest
    2.0
    """
    remedy = "For other labels pass `correct=`, a function (y, y_pred) -> bool (batch,)."
    values = _first(samples, remedy) if isinstance(samples, tf.data.Dataset) else samples[1]
    if isinstance(values, (dict, tuple)):
        raise ValueError(f"Labels must be one array. Received: {type(values)}. {remedy}")
    values = np.asarray(values)
    if values.dtype.kind not in "biuf":
        raise ValueError(f"Labels must be numbers. Received: {values.dtype}. {remedy}")
    rows = values.reshape(len(values), -1)
    lowest, highest = rows.min(), rows.max()
    if lowest < 0 and not np.isin(values, (-1, 1)).all():
        raise ValueError(
            f"Labels must be >= 0, or -1 and 1. Received: {lowest}, up to {highest}. {remedy}"
        )
    fractions = values[values != np.floor(values)] if values.dtype.kind == "f" else values[:0]
    if fractions.size and rows.shape[1] == 1:
        raise ValueError(f"Classes must be whole numbers. Received: {fractions[0]}. {remedy}")
    unclear = np.flatnonzero(~_names_one_class(rows) & (rows.shape[1] > 1))
    example = f"numbers from {lowest} to {highest}"
    if unclear.size:
        example = f"label {rows[unclear[0]].tolist()} of sample {unclear[0]}"
    return Labels(float(lowest), float(highest), not unclear.size, example)


def _names_one_class(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype("float32")
    one = (rows == rows.max(axis=1, keepdims=True)).sum(axis=1) == 1
    return one & (np.abs(rows.sum(axis=1) - 1) < 0.01)  # 0.01: half precision


def _first(dataset: tf.data.Dataset, remedy: str) -> Any:
    labels = [sample[1] for sample in dataset.take(_PROBED)]
    if not tf.is_tensor(labels[0]):
        return labels[0] if isinstance(labels[0], (dict, tuple)) else tuple(labels)
    arrays = [np.asarray(label) for label in labels]
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) > 1:
        raise ValueError(f"Labels must have one shape. Received: {shapes[:2]}. {remedy}")
    return np.stack(arrays)
