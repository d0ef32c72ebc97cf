"""How many samples each epoch takes, as planned, and as trained."""

import numpy as np
import pytest

from spfde_keras import DataSieve, SpFDE
from spfde_keras.sieve.planned import planned_samples, samples_in_training
from spfde_keras.sieve.policies import Circular, OneTime, SievePolicy
from spfde_keras.timeline import Timeline
from tests.mlps import data, mlp


class Leaving(SievePolicy):
    """One more sample leaves at each update."""

    fixed_size, restarts = False, False

    def start(self, removed):
        return np.full_like(removed, -1)

    def exchange(self, queue, easiest, retrieved, t, rng):
        return np.concatenate([queue[1:], easiest[:1]])


def test_by_hand():
    timeline = Timeline(10, 4, 0.75)
    assert samples_in_training(OneTime(), 10, 2, timeline) == [10] * 8 + [8] * 2
    assert samples_in_training(OneTime(at=0.9), 10, 2, timeline) == [10] * 10
    assert samples_in_training(Circular(), 10, 2, timeline) == [8] * 10
    assert samples_in_training(OneTime(), 10, 0, timeline) == [10] * 10
    assert samples_in_training(Leaving(), 10, 3, Timeline(6, 1, 0.5)) == [10, 9, 8, 7, 7, 7]


def test_an_epoch_takes_whole_batches_and_no_more_than_its_steps():
    sieve = DataSieve((np.zeros((10, 1)), np.zeros(10)), fraction=0.2, policy=OneTime(at=0.5))
    timeline = Timeline(2, 1)
    assert planned_samples(sieve, timeline, None) == [10, 8]
    sieve.batches(3, drop_remainder=True)
    assert planned_samples(sieve, timeline, None) == [9, 6]
    assert planned_samples(sieve, timeline, 2) == [6, 6]
    sieve.batches(3)
    assert planned_samples(sieve, timeline, 3) == [9, 8]


@pytest.mark.parametrize("policy", ["one_time", "circular", Leaving()])
@pytest.mark.parametrize(("epochs", "interval", "freeze"), [(10, 4, None), (8, 1, 0.1)])
def test_the_plan_is_what_is_booked(policy, epochs, interval, freeze):
    """With the defaults, too, where masks rest before the only update that removes samples."""
    x, y = data(40)
    sieve = DataSieve((x, y), policy=policy, correct=lambda y, y_pred: y[:, 0] > 0)
    model = mlp()
    callback = SpFDE(epochs, "set", interval, freeze, sieve)
    history = model.fit(sieve.batches(8), epochs=epochs, verbose=0, callbacks=[callback]).history
    planned = planned_samples(sieve, callback.timeline, None)
    assert history["active_samples"] == planned
    assert planned[-1] < 40
    cost = callback.planned_cost(batch_size=8)
    np.testing.assert_allclose(np.sum(cost.flops), callback.training_flops)
    if freeze:
        whole = callback._planning.plan(planned, 8).cost().total
        assert 1 - cost.total / whole >= freeze


def test_a_plan_needs_samples():
    callback = SpFDE(2)
    callback.set_model(mlp())
    with pytest.raises(ValueError, match="`samples` must be given where no sieve"):
        callback.planned_cost()
