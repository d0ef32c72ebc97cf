"""The sieve while Keras trains with it."""

import warnings

import keras
import numpy as np
import pytest

from spfde_keras import SpFDE, sparsify
from spfde_keras.sieve.data_sieve import DataSieve
from spfde_keras.sieve.epochs import SieveEpochs
from spfde_keras.sieve.policies import OneTime
from tests.sieves import Updates, fit, make_model, make_sieve, set_weight


@pytest.mark.parametrize("steps_per_execution", [1, 2])
def test_updates_take_effect_in_fit_without_a_new_dataset(steps_per_execution):
    sieve = make_sieve(20, fraction=0.25)
    model = make_model(sieve, steps_per_execution=steps_per_execution)
    updates = Updates(sieve, 5)
    # 15 samples: two steps of six, and an incomplete one.
    fit(model, sieve.batches(6), [SieveEpochs(sieve), updates], epochs=5)
    assert updates.visits == updates.members
    assert all(sum(visits) == 15 for visits in updates.visits)
    assert len(set(map(tuple, updates.members))) == 5


@pytest.mark.parametrize("steps_per_execution", [1, 2])
def test_the_number_of_steps_changes_in_fit_without_a_warning(steps_per_execution):
    sieve = make_sieve(20, fraction=0.5, policy=OneTime(at=0.5))
    model = make_model(sieve, steps_per_execution=steps_per_execution)
    updates = Updates(sieve, 4)
    fit(model, sieve.batches(3), [SieveEpochs(sieve), updates], epochs=4)
    assert updates.visits == updates.members
    assert [sum(visits) for visits in updates.visits] == [20, 20, 10, 10]
    assert int(model.optimizer.iterations) == 7 + 7 + 4 + 4
    assert not model.stop_training


@pytest.mark.parametrize("early_first", [False, True])
def test_other_callbacks_can_still_stop_the_training(early_first):
    sieve = make_sieve(20, fraction=0.5, policy="one_time")
    model = make_model(sieve)
    callbacks = [
        SieveEpochs(sieve),
        keras.callbacks.EarlyStopping("loss", min_delta=0.1, patience=1),
    ]
    history = fit(model, sieve.batches(4), callbacks[:: -1 if early_first else 1], epochs=9)
    assert len(history.history["loss"]) == 2


def test_validation_follows_an_epoch_ended_early():
    sieve = make_sieve(20, fraction=0.5, policy="one_time")
    model, evaluated = make_model(sieve), make_sieve(8, fraction=0)
    history = fit(
        model,
        sieve.batches(4),
        [SieveEpochs(sieve)],
        epochs=2,
        validation_data=evaluated.batches(4),
    )
    assert len(history.history["val_loss"]) == 2


def test_without_the_callback_changing_steps_still_train():
    sieve = make_sieve(20, fraction=0.5, policy=OneTime(at=0.5))
    model, updates = make_model(sieve), Updates(sieve, 4)
    with pytest.warns(UserWarning, match="ran out of data"):
        model.fit(sieve.batches(3), epochs=4, verbose=0, callbacks=[updates])
    assert updates.visits == updates.members


@pytest.mark.parametrize("jit_compile", [False, True])
def test_fit_counts_a_known_flip_of_predictions(jit_compile):
    # Samples -4..-1 and 1..5, the last of each sign labelled wrongly.
    x = np.array([-4, -3, -2, -1, 1, 2, 3, 4, 5], "float32")[:, np.newaxis]
    y = np.array([0, 0, 0, 1, 1, 1, 1, 1, 0])
    sieve = DataSieve((x, y), fraction=0)
    model = make_model(sieve, jit_compile=jit_compile)
    right = np.array([1, 1, 1, 0, 1, 1, 1, 1, 0], bool)

    class Flip(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            set_weight(self.model, [1.0, -1.0, 1.0, -1.0][epoch])

    fit(model, sieve.batches(4), [Flip()], epochs=2)
    np.testing.assert_array_equal(sieve.forgets.numpy(), right)
    np.testing.assert_array_equal(sieve.was_correct.numpy(), ~right)
    assert sieve.learned.numpy().all()
    fit(model, sieve.batches(4), [Flip()], epochs=4, initial_epoch=2)
    np.testing.assert_array_equal(sieve.forgets.numpy(), np.where(right, 2, 1))


def test_a_sieve_in_place_of_its_batches_is_refused():
    model, sieve = compiled_with_sieve()
    with pytest.raises(ValueError, match="`x` must be the batches of a sieve.*DataSieve itself"):
        model.fit(sieve, verbose=0)


def test_batches_without_what_exchanges_samples_are_told():
    model, sieve = compiled_with_sieve()
    with pytest.warns(UserWarning, match="Nothing exchanges the samples of the sieve"):
        model.fit(sieve.batches(4), verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(sieve.batches(4), verbose=0, shuffle=False, callbacks=[SieveEpochs(sieve)])


def compiled_with_sieve():
    mlp = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4), keras.layers.Dense(2)])
    model = sparsify(mlp, 0.5, dense=())
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model, DataSieve((np.zeros((8, 2)), np.arange(8) % 2))


def test_other_batches_made_meanwhile_change_nothing():
    """An epoch is as long as the dataset has it that `fit` is given."""
    x, y = np.zeros((32, 8), "float32"), np.zeros(32, "int32")
    model = sparsify(
        keras.Sequential([keras.Input((8,)), *(keras.layers.Dense(8) for _ in range(3))]), 0.5
    )
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    sieve = DataSieve((x, y), 0.25, policy="one_time")
    train = sieve.batches(4).map(lambda x, y: (x, y))
    sieve.batches(32)
    callback = SpFDE(2, "static", 1, sieve=sieve)
    history = model.fit(train, epochs=2, verbose=0, callbacks=[callback]).history
    assert history["active_samples"] == [32, 24]
    other = DataSieve((x, y), 0.25)
    with pytest.raises(ValueError, match="batches of the sieve that the callback has"):
        model.fit(other.batches(4), verbose=0, callbacks=[SpFDE(sieve=sieve)])
