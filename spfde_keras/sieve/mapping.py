"""Functions of (x, y) mapped over samples and batches that carry ids."""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from spfde_keras import checks, compat
from spfde_keras.sieve.identified import Identified


def without_ids(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Returns the batches of a sieve as any model takes them, without the ids of samples.

    Args:
        dataset: what `DataSieve.batches` returned.

    Example:

    >>> sieve = spfde_keras.DataSieve((np.zeros((4, 2)), np.arange(4) % 2), fraction=0.5)
    >>> x, y = next(iter(without_ids(sieve.batches(2))))
    >>> tuple(x.shape), tuple(y.shape)
    ((2, 2), (2,))
    """
    checks.instance("dataset", dataset, tf.data.Dataset, "what `DataSieve.batches` returned")
    return type(dataset).map(dataset, lambda x, *rest: (x.inputs, *rest))


def past_ids(dataset: tf.data.Dataset, told: Callable[[], None]) -> tf.data.Dataset:
    """Gives a dataset of `Identified` batches a `map` that takes functions of (x, y).

    Args:
        dataset: batches of (Identified(x, sample_id), y), or with sample_weight as third.
        told: called when a function is mapped, which may change labels.

    Returns:
        The dataset. What is made of it by `map`, `prefetch` and the like has such a `map`, too.
    """

    def mapped(function: Callable, *args: Any, **kwargs: Any) -> tf.data.Dataset:
        told()
        with_ids = functools.partial(_carried, function)
        return past_ids(type(dataset).map(dataset, with_ids, *args, **kwargs), told)

    def kept(name: str) -> Callable:
        return lambda *args, **kwargs: past_ids(
            getattr(type(dataset), name)(dataset, *args, **kwargs), told
        )

    same = {name: kept(name) for name in ("prefetch", "shuffle", "take", "with_options")}
    compat.replace_methods(dataset, map=mapped, **same)
    return dataset


def _carried(function: Callable, x: Identified, *rest: Any) -> tuple:
    result = _checked(function(x.inputs, *rest), "A function mapped over batches of a sieve")
    return Identified(result[0], x.sample_id), *result[1:]


def preprocessed(preprocess: Callable, numbered: tuple, member: tf.Tensor) -> tuple:
    """Returns what `preprocess` makes of one sample, with its number and membership."""
    sample_id, sample = numbered
    return (sample_id, _checked(preprocess(*sample), "`preprocess`")), member


def identified(numbered: tuple, member: tf.Tensor) -> tuple:
    """Returns numbered samples as Keras takes them, with the ids in their inputs."""
    sample_id, (x, *rest) = numbered
    return Identified(x, sample_id), *rest


def _checked(result: Any, what: str) -> tuple:
    if not isinstance(result, tuple) or len(result) not in (2, 3):
        raise ValueError(f"{what} must return (x, y) or (x, y, sample_weight). Received: {result}")
    return result
