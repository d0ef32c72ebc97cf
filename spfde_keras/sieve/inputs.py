"""What a `DataSieve` requires of its data: one sample at a time, and an id for each."""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from spfde_keras import checks, compat
from spfde_keras.sieve.identified import Identified

_PROBED = 64
_SIZED = "state the number of samples: DataSieve(samples, size=n)"

Samples: TypeAlias = tf.data.Dataset | tuple | Callable[[], Iterator]


def as_dataset(samples: Samples, size: int | None = None) -> tf.data.Dataset:
    """Returns `samples` as a dataset whose order, or whose own ids, can serve as sample ids.

    Args:
        samples: an unbatched, unshuffled dataset of (x, y) or (x, y, sample_weight), or such a
            tuple of arrays (samples first), or a function that returns a new iterator of such
            samples; `x` may be nested. If it is `Identified`, the order is free.
        size: None, or int, the number of samples, where the data does not tell it.

    Returns:
        A `tf.data.Dataset` of known, finite, positive cardinality.

    Raises:
        ValueError: if the data is anything else. The first 64 samples of a dataset are read
            twice and compared.

    Example:

    >>> int(as_dataset((np.zeros((4, 2)), np.array([0, 1, 1, 0]))).cardinality())
    4
    """
    size = checks.optional(checks.whole, "size", size)
    if isinstance(samples, tuple):
        return _of_size(_of_arrays(samples), size)
    if isinstance(samples, keras.utils.PyDataset):
        raise ValueError(
            "`samples` must be single samples, not batches. Read the batches once: "
            "DataSieve(tuple(np.concatenate(parts) for parts in zip(*(samples[i] for i in "
            f"range(len(samples)))))). Received: {type(samples).__name__}, a PyDataset"
        )
    if isinstance(samples, Iterator):
        name = getattr(samples, "__name__", "make_samples")
        raise ValueError(
            "`samples` must be readable in each epoch, and an iterator can be read only once. "
            "Pass the function that makes it, of single samples (x, y), and their number: "
            f"DataSieve({name}, size=n). Received: {type(samples).__name__}"
        )
    if callable(samples):
        if size is None:
            raise ValueError(f"For `samples` made by a function, {_SIZED}. Received: {samples}")
        samples = _of_function(samples)
    if not isinstance(samples, tf.data.Dataset):
        raise ValueError(
            "`samples` must be a tf.data.Dataset or a tuple of arrays, (x, y) or "
            "(x, y, sample_weight), or a function that returns an iterator of samples. "
            f"Received: {type(samples).__name__}"
        )
    _check_structure(samples.element_spec)
    identified = carries_ids(samples)
    _check_order(samples, identified)
    samples = _of_size(samples, size)
    _check_size(samples)
    if not identified:
        _check_repeatable(_read(samples), _read(samples))
    return samples


def with_ids(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Gives each sample of a dataset its position as id, so that it can be shuffled later.

    Args:
        dataset: a dataset of (x, y) or (x, y, sample_weight), not batched, in the same order
            at each reading.

    Returns:
        A dataset of (Identified(x, sample_id), y) or with sample_weight as third.

    Example:

    >>> samples = tf.data.Dataset.from_tensor_slices((np.arange(4.0), np.arange(4) % 2))
    >>> shuffled = with_ids(samples).shuffle(4, seed=0)
    >>> sorted(int(x.sample_id) for x, y in shuffled)
    [0, 1, 2, 3]
    """
    checks.instance("dataset", dataset, tf.data.Dataset, "a tf.data.Dataset")
    return dataset.enumerate().map(
        lambda sample_id, sample: (Identified(sample[0], sample_id), *sample[1:])
    )


def carries_ids(dataset: tf.data.Dataset) -> bool:
    """Returns whether the inputs of a dataset's samples are `Identified`."""
    spec = dataset.element_spec
    return isinstance(spec, tuple) and bool(spec) and isinstance(spec[0], Identified)


def as_tensors(samples: tuple) -> Any:
    """Returns a tuple of arrays as tensors; those that `as_dataset` takes.

    Args:
        samples: (x, y) or (x, y, sample_weight), nested, samples first.

    Example:

    >>> x, y = as_tensors(([np.ones((3, 2)), None], [0, 1, 0]))
    >>> tuple(x[0].shape), x[1], tuple(y.shape)
    ((3, 2), None, (3,))
    """
    samples = _with_lists_as_inputs(samples)
    return tf.data.Dataset.from_tensors(samples).get_single_element()


def _with_lists_as_inputs(samples: tuple) -> tuple:
    total = _length(samples)
    # tf.data would make one tensor of a list, which Keras takes as several inputs.
    return lists_as_tuples(samples, lambda x: x is None or _shape(x)[:1] == (total,))


def _of_arrays(samples: tuple) -> tf.data.Dataset:
    _check_structure(tuple(map(type, samples)))
    total = _length(samples)
    # tf.data would make one tensor of a list, which Keras takes as several inputs.
    samples = lists_as_tuples(samples, lambda x: x is None or _shape(x)[:1] == (total,))
    if any(isinstance(leaf, tf.RaggedTensor) for leaf in tf.nest.flatten(samples)):
        raise ValueError(
            "`samples` must not be ragged: pad them, (x.to_tensor(), y). Received: a RaggedTensor"
        )
    try:
        dataset = tf.data.Dataset.from_tensor_slices(samples)
    except (ValueError, IndexError, tf.errors.InvalidArgumentError) as error:
        raise ValueError(
            "`samples` must be arrays that all have one entry per sample. Received: shapes "
            f"{keras.tree.map_structure(_shape, samples)}"
        ) from error
    if dataset.cardinality() == 0:
        raise ValueError("`samples` must not be empty. Received: arrays of length 0")
    return dataset


def _of_function(make: Callable[[], Iterator]) -> tf.data.Dataset:
    first = next(iter(make()), None)
    if first is None:
        raise ValueError(f"`samples` must not be empty. Received: {make}, which gives nothing")
    first = _sample(first)
    signature = tuple(
        tf.TensorSpec.from_tensor(tf.convert_to_tensor(value))
        for value in tf.nest.flatten(first)
        if value is not None
    )

    def present() -> Iterator[tuple]:
        """The parts of each sample that are not None, which a generator cannot pass on."""
        for sample in make():
            sample = _sample(sample)
            tf.nest.map_structure(_check_optional, first, sample)
            yield tuple(part for part in tf.nest.flatten(sample) if part is not None)

    def whole(*parts: tf.Tensor) -> Any:
        rest = iter(parts)
        flat = [None if part is None else next(rest) for part in tf.nest.flatten(first)]
        return tf.nest.pack_sequence_as(first, flat)

    return tf.data.Dataset.from_generator(present, output_signature=signature).map(whole)


def _sample(sample: Any) -> Any:
    """A sample of several inputs in a form that tf.data leaves as it is."""
    return lists_as_tuples(sample, lambda part: part is None or len(_shape(part)) > 0)


def _check_optional(first: Any, value: Any) -> None:
    if (first is None) != (value is None):
        raise ValueError("An optional input must be given in all samples, or in none of them.")


def lists_as_tuples(structure: Any, is_input: Callable[[Any], bool]) -> Any:
    """Returns `structure` with a tuple for each list whose members are all inputs of a model.

    Args:
        structure: nested dictionaries, tuples and lists.
        is_input: function of a member of a list; lists of others are arrays.

    Example:

    >>> lists_as_tuples(([np.ones(3), np.ones(2)], [0, 1]), lambda x: hasattr(x, "shape"))
    ((array([1., 1., 1.]), array([1., 1.])), [0, 1])
    """
    if isinstance(structure, dict):
        return {key: lists_as_tuples(part, is_input) for key, part in structure.items()}
    if isinstance(structure, Identified):
        return structure._replace(inputs=lists_as_tuples(structure.inputs, is_input))
    nested = isinstance(structure, list) and bool(structure) and all(map(is_input, structure))
    if nested or isinstance(structure, tuple):
        return tuple(lists_as_tuples(part, is_input) for part in structure)
    return structure


def _length(structure: Any) -> int | None:
    """The number of samples in arrays, by the first that is certainly one."""
    if isinstance(structure, dict):
        structure = tuple(structure.values())
    if isinstance(structure, tuple):
        parts = sorted((x for x in structure if x is not None), key=_holds_arrays)
        return _length(parts[0]) if parts else None
    if isinstance(structure, list):
        return next((_shape(x)[0] for x in structure if _shape(x)), len(structure))
    return next(iter(_shape(structure)), None)


def _holds_arrays(x: Any) -> bool:
    return isinstance(x, list) and any(map(_shape, x))


def _shape(x: Any) -> tuple[int, ...]:
    return tuple(getattr(x, "shape", ()))


def _of_size(dataset: tf.data.Dataset, size: int | None) -> tf.data.Dataset:
    cardinality = int(dataset.cardinality())
    if size is None or cardinality in (size, tf.data.INFINITE_CARDINALITY):
        return dataset
    if cardinality >= 0:
        raise ValueError(
            f"`size` must be the number of samples, {cardinality}, or None. Received: {size}"
        )
    # Fails when more or fewer have been read.
    return dataset.apply(tf.data.experimental.assert_cardinality(size))


def _check_structure(structure: Any) -> None:
    if not isinstance(structure, tuple) or len(structure) not in (2, 3):
        raise ValueError(
            "`samples` must be made of (x, y) or (x, y, sample_weight). Pass as_supervised=True "
            f"to tensorflow_datasets, or map the dataset. Received: {structure}"
        )


def _check_order(dataset: tf.data.Dataset, identified: bool) -> None:
    if identified and _made_by(dataset, "Repeat"):
        raise ValueError(
            f"`samples` must have each id once: leave out .repeat(). Received: {dataset}"
        )
    if not identified and _made_by(dataset, "Shuffle"):
        raise ValueError(
            f"`samples` must not be shuffled. Received: {dataset}. Pass the samples before "
            ".shuffle() and .batch(); DataSieve.batches shuffles and batches. From a folder of "
            "images: DataSieve.from_directory(directory, image_size=image_size). Where they must "
            "be shuffled first, they need ids: "
            "DataSieve(spfde_keras.sieve.with_ids(samples).shuffle(1000))."
        )
    x, y = (tf.nest.flatten(part) for part in dataset.element_spec[:2])
    if _made_by(dataset, "Batch", unless=("Unbatch", "FlatMap", "Interleave")) or (
        all(map(_batched, x)) and all(map(_batched, y))
    ):
        raise ValueError(
            f"`samples` must not be batched. Received: {dataset}. Pass the samples before "
            ".shuffle() and .batch(); DataSieve.batches shuffles and batches. Or, with their "
            "number: DataSieve(samples.unbatch(), size=n)."
        )


def _check_size(dataset: tf.data.Dataset) -> None:
    cardinality = int(dataset.cardinality())
    if cardinality == 0:
        raise ValueError(f"`samples` must not be empty. Received: {dataset}")
    if cardinality < 0:
        number = "infinite" if cardinality == tf.data.INFINITE_CARDINALITY else "unknown"
        raise ValueError(
            "`samples` must have a known, finite number of samples: leave out .repeat(), and "
            f"{_SIZED}. Received: {dataset} of {number} cardinality"
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
