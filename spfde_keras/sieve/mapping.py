"""Functions of (x, y) mapped over samples and batches that carry ids."""

import functools
import inspect
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


Share = Callable[[int, int], tf.data.Dataset | None]


def past_ids(
    dataset: tf.data.Dataset,
    told: Callable[[], None],
    share: Share = lambda *_: None,
    chosen: Callable[[], Any] = lambda: None,
    most_steps: int | None = None,
) -> tf.data.Dataset:
    """Gives a dataset of `Identified` batches a `map` that takes functions of (x, y).

    Args:
        dataset: batches of (Identified(x, sample_id), y), or with sample_weight as third.
        told: called when a function is mapped, which may change labels.
        share: function of the number of a worker and of how many there are, which returns the
            dataset with the worker's part of each batch alone; None where it cannot be divided.
        chosen: called when `fit` is given the dataset; returns the sieve that it is of.
        most_steps: None, or int, how many batches are taken of each epoch at most.

    Returns:
        The dataset. What is made of it by `map`, `take` and the like has such a `map`, too; its
        `map_identified` takes functions of the batches as they are, which leave ids and labels.
    """

    def again(most: int | None, name: str, *args: Any, **kwargs: Any) -> tf.data.Dataset:
        def derived(parent: tf.data.Dataset | None) -> Any:
            if parent is None:
                return None
            return getattr(tf.data.Dataset, name)(parent, *args, **kwargs)

        return past_ids(derived(dataset), told, lambda *w: derived(share(*w)), chosen, most)

    def mapped(function: Callable, *args: Any, **kwargs: Any) -> tf.data.Dataset:
        told()
        return again(most_steps, "map", functools.partial(_carried, function), *args, **kwargs)

    def taken(count: Any, *args: Any, **kwargs: Any) -> tf.data.Dataset:
        number = int(count)
        few = [each for each in (most_steps, number) if each is not None and each >= 0]
        return again(min(few, default=None), "take", number, *args, **kwargs)

    names = ("prefetch", "shuffle", "with_options")
    same = {name: functools.partial(again, most_steps, name) for name in names}
    same["map_identified"] = functools.partial(again, most_steps, "map")
    compat.replace_methods(dataset, map=mapped, take=taken, share=share, chosen=chosen, **same)
    dataset.most_steps = most_steps
    return dataset


def _carried(function: Callable, x: Identified, *rest: Any) -> tuple:
    result = _checked(function(x.inputs, *rest), "A function mapped over batches of a sieve")
    return Identified(result[0], x.sample_id), *result[1:]


def takes_seed(function: Callable) -> bool:
    """Returns whether a function of samples is to be given a seed."""
    return "seed" in inspect.signature(function).parameters


def preprocessed(
    preprocess: Callable, sample_seed: Callable, sample_id: tf.Tensor, sample: tuple
) -> tuple:
    """Returns what `preprocess` makes of one sample, with its number.

    Args:
        preprocess: a function of a sample. If it has a parameter `seed`, it is given one.
        sample_seed: function of a number that returns the seed, an integer tensor (2,).
        sample_id: scalar int64 tensor, the number.
        sample: (x, y) or (x, y, sample_weight), or what such is read from.
    """
    seed = {"seed": sample_seed(sample_id)} if takes_seed(preprocess) else {}
    return sample_id, _checked(preprocess(*sample, **seed), "`preprocess`")


def identified(sample_id: tf.Tensor, sample: tuple) -> tuple:
    """Returns numbered samples as Keras takes them, with the ids in their inputs."""
    x, *rest = sample
    return Identified(x, sample_id), *rest


def _checked(result: Any, what: str) -> tuple:
    if not isinstance(result, tuple) or len(result) not in (2, 3):
        raise ValueError(f"{what} must return (x, y) or (x, y, sample_weight). Received: {result}")
    return result
