import keras
import numpy as np
import pytest

from spfde_keras.sieve import policies
from spfde_keras.sieve.policies import Circular, OneTime


def rng():
    return np.random.default_rng(0)


def test_circular_exchanges_the_whole_queue_for_the_easiest():
    queue = Circular().exchange(np.array([6, 1]), np.array([0, 7, 2, 3, 4, 5]), 0, 0.5, rng())
    assert sorted(queue) == [0, 7]


def test_circular_removes_at_the_tail_and_returns_from_the_head():
    # Four removed, of which half are exchanged at an update: 5 and 2 return, then 6 and 1.
    policy = Circular(exchange=0.5)
    queue = policy.exchange(np.array([5, 2, 6, 1]), np.array([0, 3, 7, 4]), 0, 0.1, rng())
    assert queue.tolist() == [6, 1, 0, 3]
    queue = policy.exchange(queue, np.array([2, 7, 4, 5]), 2, 0.2, rng())
    assert sorted(queue) == [0, 2, 3, 7]


def test_circular_shuffles_only_once_all_removed_at_the_start_have_returned():
    policy, removed = Circular(exchange=0.5), np.arange(40)
    queue = policy.exchange(removed, np.arange(40, 80), 0, 0.1, rng())
    assert queue.tolist() == list(range(20, 60))
    queue = policy.exchange(queue, np.arange(80, 120), 20, 0.2, rng())
    assert sorted(queue) == [*range(40, 60), *range(80, 100)]
    assert queue.tolist() != sorted(queue)


def test_circular_exchanges_at_most_the_samples_in_training():
    queue = Circular().exchange(np.arange(6), np.array([7, 6]), 0, 0.5, rng())
    assert queue.tolist() == [2, 3, 4, 5, 7, 6]


def test_random_exchanges_as_many_as_circular_whoever_is_easiest():
    left = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        queue = policies.get("random").exchange(np.array([8, 9]), np.arange(8), 0, 0.5, rng)
        assert queue.shape == (2,) and len(set(queue)) == 2 and set(queue) <= set(range(8))
        left += queue.tolist()
    # Each of the eight equally often: 50 times, with a deviation of 6.
    assert np.bincount(left, minlength=8) == pytest.approx(np.full(8, 50), abs=24)
    half = policies.Random(exchange=0.5).exchange(np.array([8, 9]), np.arange(8), 0, 0.5, rng)
    assert half[0] == 9 and half[1] < 8


def test_one_time_removes_once_at_its_time():
    policy, queue = OneTime(at=0.5), np.array([-1, -1])
    assert policy.start(np.array([3, 4])).tolist() == [-1, -1]
    assert policy.exchange(queue, np.arange(6), 0, 0.49, rng()) is queue
    removed = policy.exchange(queue, np.array([5, 3, 0, 1, 2, 4]), 0, 0.5, rng())
    assert removed.tolist() == [5, 3]
    assert policy.exchange(removed, np.array([0, 1, 2, 4]), 0, 0.6, rng()) is removed


@pytest.mark.parametrize("policy", [Circular(exchange=0.25), OneTime(at=0.3)])
def test_policies_are_restored_from_their_configuration(policy):
    config = keras.saving.serialize_keras_object(policy)
    assert repr(policies.get(config)) == repr(policy)


def test_get_knows_names_and_instances():
    assert isinstance(policies.get("circular"), Circular)
    assert policies.get("one_time").at == 70 / 160
    policy = OneTime()
    assert policies.get(policy) is policy
    for wrong in ("square", None, 3):
        with pytest.raises(ValueError, match="`policy` must be"):
            policies.get(wrong)


@pytest.mark.parametrize("exchange", [0, 1.5, -1])
def test_circular_refuses_shares_out_of_range(exchange):
    with pytest.raises(ValueError, match=r"`exchange` must be a number in \(0, 1\]"):
        Circular(exchange)


@pytest.mark.parametrize("at", [-0.1, 1.1])
def test_one_time_refuses_times_out_of_range(at):
    with pytest.raises(ValueError, match=r"`at` must be a number in \[0, 1\]"):
        OneTime(at)
