"""What a `DataSieve` requires of its data: one fixed order, one sample at a time."""

from typing import Any

import numpy as np
import tensorflow as tf

from spfde_keras import compat

_PROBED = 64


def as_dataset(samples: tf.data.Dataset | tuple) -> tf.data.Dataset:
    """Returns `samples` as a dataset whose order can serve as sample ids.

    Args:
        samples: an unbatched, unshuffled dataset of (x, y) or (x, y, sample_weight), or such a
            tuple of arrays (samples first); `x` may be nested.

    Returns:
        A `tf.data.Dataset` of known, finite, positive cardinality.

    Raises:
        ValueError: if the data is anything else. The first 64 samples of a dataset are read
            twice and compared.

    Example:

    >>> int(as_dataset((np.zeros((4, 2)), np.array([0, 1, 1, 0]))).cardinality())
    4
    """
    if isinstance(samples, tf.data.Dataset):
        _check_structure(samples.element_spec)
        _check_order(samples)
        _check_repeatable(_read(samples), _read(samples))
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
