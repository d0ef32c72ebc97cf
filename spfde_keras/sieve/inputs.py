"""What a `DataSieve` requires of its data: one fixed order, one sample at a time, real classes."""

from typing import Any

import numpy as np
import tensorflow as tf

from spfde_keras import compat

_PROBED = 64


def as_dataset(samples: tf.data.Dataset | tuple, classes: bool) -> tf.data.Dataset:
    """Returns `samples` as a dataset whose order can serve as sample ids.

    Args:
        samples: an unbatched, unshuffled dataset of (x, y) or (x, y, sample_weight), or such a
            tuple of arrays (samples first); `x` may be nested.
        classes: bool, whether the labels must be classes, so that a prediction can be judged.

    Returns:
        A `tf.data.Dataset` of known, finite, positive cardinality.

    Raises:
        ValueError: if the data is anything else. The first 64 samples of a dataset are read
            twice and compared.

    Example:

    >>> int(as_dataset((np.zeros((4, 2)), np.array([0, 1, 1, 0])), classes=True).cardinality())
    4
    """
    if isinstance(samples, tf.data.Dataset):
        _check_structure(samples.element_spec)
        _check_order(samples)
        first = _read(samples)
        _check_repeatable(first, _read(samples))
        if classes:
            _check_classes([tf.nest.map_structure(_as_batch, sample[1]) for sample in first])
        return samples
    if not isinstance(samples, tuple):
        raise ValueError(
            "`samples` must be a tf.data.Dataset or a tuple of arrays, (x, y) or "
            f"(x, y, sample_weight). Received: {type(samples).__name__}"
        )
    _check_structure(tuple(map(type, samples)))
    try:
        dataset = tf.data.Dataset.from_tensor_slices(samples)
    except (ValueError, IndexError, tf.errors.InvalidArgumentError) as error:
        raise ValueError(
            f"`samples` must be arrays that all have one entry per sample. Received: {error}"
        ) from error
    if dataset.cardinality() == 0:
        raise ValueError("`samples` must not be empty. Received: arrays of length 0")
    if classes:
        _check_classes([samples[1]])
    return dataset


def _check_structure(structure: Any) -> None:
    if not isinstance(structure, tuple) or len(structure) not in (2, 3):
        raise ValueError(
            "`samples` must be made of (x, y) or (x, y, sample_weight). Pass as_supervised=True "
            f"to tensorflow_datasets, or map the dataset. Received: {structure}"
        )


def _check_order(dataset: tf.data.Dataset) -> None:
    remedy = (
        "Pass the samples before .shuffle() and .batch(); DataSieve.batches shuffles and batches."
    )
    if _made_by(dataset, "Shuffle"):
        raise ValueError(f"`samples` must not be shuffled. Received: {dataset}. {remedy}")
    x, y = (tf.nest.flatten(part) for part in dataset.element_spec[:2])
    if _made_by(dataset, "Batch", unless=("Unbatch", "FlatMap", "Interleave")) or (
        all(map(_batched, x)) and all(map(_batched, y))
    ):
        raise ValueError(f"`samples` must not be batched. Received: {dataset}. {remedy}")
    cardinality = int(dataset.cardinality())
    if cardinality == 0:
        raise ValueError(f"`samples` must not be empty. Received: {dataset}")
    if cardinality < 0:
        number = "infinite" if cardinality == tf.data.INFINITE_CARDINALITY else "unknown"
        raise ValueError(
            "`samples` must have a known, finite number of samples: leave out .repeat(), and "
            "state the number with .apply(tf.data.experimental.assert_cardinality(n)). "
            f"Received: {dataset} of {number} cardinality"
        )


def _made_by(dataset: tf.data.Dataset, step: str, unless: tuple[str, ...] = ()) -> bool:
    """Whether a transformation named `step` shaped `dataset` after any of `unless`."""
    name = type(dataset).__name__
    if any(other in name for other in unless):
        return False
    sources = compat.dataset_sources(dataset)
    return step in name or any(_made_by(source, step, unless) for source in sources)


def _batched(spec: tf.TypeSpec) -> bool:
    return bool(spec.shape.rank) and spec.shape[0] is None


def _read(dataset: tf.data.Dataset) -> list:
    return list(dataset.take(_PROBED))


def _check_repeatable(first: list, second: list) -> None:
    if _contents(first) != _contents(second):
        raise ValueError(
            "`samples` must be the same, in the same order, at each reading: a sample's position "
            "is its id. Received: a dataset whose first samples differ between two readings. "
            "Turn off shuffling and non-deterministic reading, and pass random augmentation as "
            "DataSieve.batches(..., preprocess=...)."
        )


def _contents(samples: list) -> list:
    arrays = [np.asarray(leaf) for leaf in tf.nest.flatten(samples, expand_composites=True)]
    return [array.tolist() if array.dtype == object else array.tobytes() for array in arrays]


def _as_batch(tensor: tf.Tensor) -> np.ndarray:
    return np.asarray(tensor)[np.newaxis]


def _check_classes(labels: list) -> None:
    """Checks batches of labels: each label a class number, or one number >= 0 per class."""
    remedy = "For other labels pass `correct=`, a function (y, y_pred) -> bool (batch,)."
    for batch in labels:
        if isinstance(batch, (dict, tuple)):
            raise ValueError(f"Labels must be one array. Received: {type(batch)}. {remedy}")
        values = np.asarray(batch)
        if values.dtype.kind not in "biuf":
            raise ValueError(f"Labels must be numbers. Received: {values.dtype}. {remedy}")
        if (values < 0).any():
            raise ValueError(f"Labels must be >= 0. Received: {values.min()}. {remedy}")
        fractions = values[values != np.floor(values)] if values.dtype.kind == "f" else values[:0]
        if fractions.size and values[0].size == 1:
            raise ValueError(f"Classes must be whole numbers. Received: {fractions[0]}. {remedy}")
