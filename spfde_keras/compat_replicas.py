"""Everything the package uses of Keras, under a `tf.distribute` strategy, that is not public.

As seen in Keras 3.15.1. tests/test_compat_replicas.py names what each function relies on.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from spfde_keras.replicas import ALONE, Replicas
from spfde_keras.sieve.identified import strip_ids


class KerasStrategy:
    """A strategy as Keras' `fit`, `evaluate` and `predict` are to see it.

    Batches are spread evenly. On several workers Keras takes the mean of a step's scalar logs over
    an axis that they do not have (keras issue 20585); it does so for strategies of one class alone.

    Args:
        replicas: the `Replicas` of the strategy.
        whole: bool, whether each worker gets whole batches.
        full: function called for each dataset, in the order that Keras spreads them: whether a
            batch without a sample for each replica is an error. `fit` trains on the first.
    """

    def __init__(self, replicas: Replicas, whole: bool, full: Callable[[], bool]):
        self._replicas = replicas
        self._whole = whole
        self._full = full

    def experimental_distribute_dataset(self, dataset: tf.data.Dataset) -> Any:
        own = getattr(dataset, "of_one_worker", False)
        return self._replicas.distributed(dataset, self._whole, own, self._full())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._replicas.strategy, name)


def build(model: keras.Model, iterator: Any = None, data_batch: Any = None) -> None:
    """Builds metrics, loss and optimizer of a model in the scope of its strategy.

    Keras makes them from the mean of the first batch over all replicas, which is none where they
    are ids, nor on several workers (keras issue 20585).

    Args:
        model: a compiled model.
        iterator: None, or Keras' iterator over the batches of an epoch.
        data_batch: None, or a batch.
    """
    if iterator is not None:
        spec = iterator.data_adapter.get_tf_dataset().element_spec
        x, *rest = spec if isinstance(spec, tuple) else (spec,)
        data_batch = tf.nest.map_structure(_present, (strip_ids(x), *rest))
    with model.replicas.strategy.scope():
        model._symbolic_build(data_batch=data_batch)


def _present(spec: tf.TypeSpec) -> tf.TypeSpec | None:
    return None if isinstance(spec, tf.NoneTensorSpec) else spec


def own_strategy(model: keras.Model) -> tf.distribute.Strategy:
    """Returns the strategy in whose scope a model was made; Keras gives that of the moment."""
    return model._distribute_strategy or ALONE.strategy


def optimizer_strategy(optimizer: keras.optimizers.Optimizer) -> tf.distribute.Strategy:
    """Returns the strategy in whose scope an optimizer was made."""
    return optimizer._distribution_strategy
