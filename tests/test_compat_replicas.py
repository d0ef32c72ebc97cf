"""Each hook into what Keras does not publish under strategies, as seen in Keras 3.15.1."""

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.tensorflow import trainer

from spfde_keras import compat_replicas
from spfde_keras.replicas import ALONE
from tests.mlps import data, mlp

SEEN = f"seen in Keras 3.15.1, this is {keras.__version__}"
ONE = tf.distribute.MirroredStrategy(["CPU:0"])


def test_the_strategy_of_a_model_is_that_of_its_scope():
    """Keras: `Model._distribute_strategy`, None outside of scopes."""
    with ONE.scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    other = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    assert compat_replicas.own_strategy(model) is ONE, SEEN
    with ONE.scope():
        assert compat_replicas.own_strategy(other) is ALONE.strategy, SEEN


def test_the_strategy_of_an_optimizer_is_that_of_its_scope():
    """Keras: `Optimizer._distribution_strategy`."""
    with ONE.scope():
        optimizer = keras.optimizers.SGD()
    assert compat_replicas.optimizer_strategy(optimizer) is ONE, SEEN


def test_keras_spreads_batches_by_what_its_strategy_says():
    """Keras: `TFEpochIterator` calls `experimental_distribute_dataset` of the strategy it gets."""
    strategy = compat_replicas.KerasStrategy(ALONE, whole=False, full=lambda: False)
    x, y = data(7)
    iterator = trainer.TFEpochIterator(x=x, y=y, batch_size=4, distribute_strategy=strategy)
    sizes = [len(next(batch)[0]) for _, _, batch in iterator]
    assert sizes == [4, 3], SEEN
    assert strategy.num_replicas_in_sync == 1
    # Keras takes means of scalars over an axis for strategies of this class alone.
    assert not trainer._collective_all_reduce_multi_worker(strategy), SEEN


def test_what_fit_trains_on_is_spread_first(monkeypatch):
    """Keras: `fit` makes the `TFEpochIterator` of `x` before that of `validation_data`."""
    spread = []

    class Noting:
        def __getattr__(self, name):
            return getattr(ALONE.strategy, name)

        def experimental_distribute_dataset(self, dataset):
            spread.append(next(iter(dataset))[0].shape[0])
            return dataset

    model = mlp()
    monkeypatch.setattr(type(model), "distribute_strategy", Noting())
    model.fit(*data(6), batch_size=6, validation_data=data(4), verbose=0)
    assert spread == [6, 4], SEEN


def test_metrics_loss_and_optimizer_are_built_from_a_spec():
    """Keras: `Model._symbolic_build(data_batch=)` takes anything with a shape and a dtype."""
    model = mlp()
    dataset = tf.data.Dataset.from_tensor_slices(data()).batch(5)
    iterator = trainer.TFEpochIterator(x=dataset, distribute_strategy=ALONE.strategy)
    before = [weight.numpy() for weight in model.weights]
    compat_replicas.build(model, iterator)
    assert model.optimizer.built and model._compile_metrics.built, SEEN
    assert model._compile_loss.built, SEEN
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)
