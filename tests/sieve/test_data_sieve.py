"""The sieve by itself: who leaves, who returns, in what order."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from spfde_keras.sieve.data_sieve import DataSieve
from spfde_keras.sieve.epochs import SieveEpochs
from spfde_keras.sieve.identified import Identified
from spfde_keras.sieve.policies import Circular, OneTime
from tests.sieves import Updates, fit, ids_of, make_model, make_sieve, state, visit


def test_a_random_share_is_removed_at_first():
    sieve = make_sieve(fraction=0.25)
    assert (sieve.total, sieve.active) == (8, 6)
    assert sorted(sieve.queue.numpy()) == np.flatnonzero(~sieve.member.numpy()).tolist()
    assert state(make_sieve(fraction=0.25)) == state(sieve)
    removals = {tuple(make_sieve(fraction=0.25, seed=s).queue.numpy()) for s in range(8)}
    assert len(removals) > 4


def test_the_easiest_leave_and_the_removed_return():
    sieve = make_sieve(fraction=0.25)
    sieve.queue.assign([6, 7])
    sieve.member.assign(np.arange(8) < 6)
    # Events:   0: one     1: two    2: none    3: never correct, 4: one, 5: none
    visit(sieve, range(6), [1, 1, 1, 0, 1, 0])
    visit(sieve, range(6), [0, 0, 1, 0, 0, 0])
    visit(sieve, range(6), [1, 1, 1, 0, 1, 1])
    visit(sieve, range(6), [1, 0, 1, 0, 1, 1])
    assert sieve.forgets.numpy().tolist() == [1, 2, 0, 0, 1, 0, 0, 0]
    assert sieve.learned.numpy().tolist() == [1, 1, 1, 0, 1, 1, 0, 0]
    assert sieve.update(1, 0.1)
    assert sorted(sieve.queue.numpy()) == [2, 5]
    assert sieve.member.numpy().tolist() == [1, 1, 0, 1, 1, 0, 1, 1]
    assert int(sieve.retrieved.numpy()) == 2


def test_counts_restart_and_those_who_left_or_came_start_unclassified():
    sieve = make_sieve(fraction=0.25)
    sieve.queue.assign([6, 7])
    sieve.member.assign(np.arange(8) < 6)
    visit(sieve, range(8), [1, 1, 1, 1, 1, 1, 1, 1])
    visit(sieve, [1, 2, 3, 4], [0, 0, 0, 0])
    visit(sieve, [1, 2], [1, 1])
    sieve.update(1, 0.1)
    assert sorted(sieve.queue.numpy()) == [0, 5]
    assert not sieve.forgets.numpy().any() and not sieve.learned.numpy().any()
    assert np.flatnonzero(sieve.was_correct.numpy()).tolist() == [1, 2]
    # A miss at the first visit of the interval is an event for those who stayed only.
    visit(sieve, [1, 6], [0, 0])
    assert sieve.forgets.numpy().tolist() == [0, 1, 0, 0, 0, 0, 0, 0]


def test_never_learned_samples_stay_whatever_the_others_counts():
    sieve = make_sieve(fraction=0.25)
    sieve.queue.assign([6, 7])
    sieve.member.assign(np.arange(8) < 6)
    for correct in (1, 0, 1, 0, 1):
        visit(sieve, [0, 1], [correct] * 2)
        visit(sieve, [2, 3, 4, 5], [0] * 4)
    sieve.update(1, 0.1)
    assert sorted(sieve.queue.numpy()) == [0, 1]


def test_ties_break_at_random_by_seed_and_event():
    def removed(seed, event):
        sieve = make_sieve(100, fraction=0.2, seed=seed)
        sieve.queue.assign(np.arange(80, 100))
        sieve.member.assign(np.arange(100) < 80)
        visit(sieve, range(80), [1] * 80)
        sieve.update(event, 0.1)
        return sorted(sieve.queue.numpy())

    assert removed(0, 1) == removed(0, 1)
    assert removed(0, 1) != removed(0, 2) != removed(1, 2)
    assert removed(0, 1) != list(range(20))


def test_removed_samples_queue_and_shuffle_once_all_of_the_first_have_returned():
    sieve = make_sieve(fraction=0.5, policy=Circular(exchange=0.5))
    sieve.queue.assign([4, 5, 6, 7])
    sieve.member.assign(np.arange(8) < 4)
    visit(sieve, range(4), [0, 1, 0, 1])
    sieve.update(1, 0.1)
    assert sieve.queue.numpy()[:2].tolist() == [6, 7]
    assert sorted(sieve.queue.numpy()[2:]) == [1, 3]
    visit(sieve, [0, 2, 4, 5], [1, 1, 0, 0])
    sieve.update(2, 0.2)
    assert sorted(sieve.queue.numpy()) == [0, 1, 2, 3]
    assert int(sieve.retrieved.numpy()) == 4


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5, 0.8])
@pytest.mark.parametrize("exchange", [0.3, 1.0])
def test_every_sample_is_used_and_the_number_in_training_is_fixed(fraction, exchange):
    sieve = make_sieve(40, fraction=fraction, policy=Circular(exchange=exchange))
    used, rng = sieve.member.numpy(), np.random.default_rng(0)
    for event in range(1, 33):
        ids = np.flatnonzero(sieve.member.numpy())
        for _ in range(3):
            visit(sieve, ids, rng.random(ids.size) < 0.7)
        assert sieve.update(event, event / 40)
        assert sieve.active == 40 - round(fraction * 40)
        assert len(set(sieve.queue.numpy())) == round(fraction * 40)
        used |= sieve.member.numpy()
    assert used.all()


def test_without_a_fraction_nothing_is_removed():
    sieve = make_sieve(fraction=0)
    assert sieve.active == 8
    assert not sieve.update(1, 0.1)
    assert sieve.active == 8 and sieve.fixed_size


def test_one_time_counts_from_the_start_and_removes_for_good():
    sieve = make_sieve(fraction=0.25, policy=OneTime(at=0.5))
    assert sieve.active == 8
    visit(sieve, range(8), [1] * 7 + [0])
    assert not sieve.update(1, 0.2)
    visit(sieve, range(8), [1, 0, 0, 1, 0, 0, 0, 0])
    assert not sieve.update(2, 0.4)
    assert sieve.forgets.numpy().tolist() == [0, 1, 1, 0, 1, 1, 1, 0]
    assert sieve.update(3, 0.6)
    assert np.flatnonzero(~sieve.member.numpy()).tolist() == [0, 3]
    assert not sieve.update(4, 0.8)
    assert sieve.active == 6


def test_batches_hold_the_samples_with_their_ids():
    x = {"a": np.arange(8.0), "b": (np.arange(8) * 10,)}
    sieve = DataSieve((x, np.arange(8) % 3, np.arange(8) * 0.5), fraction=0.25)
    batches = list(sieve.batches(4))
    for inputs, y, weight in batches:
        ids = inputs.sample_id.numpy()
        assert isinstance(inputs, Identified) and ids.dtype == np.int64
        np.testing.assert_array_equal(inputs.inputs["a"], ids)
        np.testing.assert_array_equal(inputs.inputs["b"][0], ids * 10)
        np.testing.assert_array_equal(y, ids % 3)
        np.testing.assert_array_equal(weight, ids * 0.5)
    ids = np.concatenate([inputs.sample_id for inputs, *_ in batches])
    assert sorted(ids) == np.flatnonzero(sieve.member.numpy()).tolist()


def test_a_dataset_gives_the_same_batches_as_its_arrays():
    x, y = np.arange(20.0), np.arange(20) % 2
    arrays = DataSieve((x, y), seed=3)
    dataset = DataSieve(tf.data.Dataset.from_tensor_slices((x, y)), seed=3)
    assert ids_of(arrays.batches(4, shuffle=7)) == ids_of(dataset.batches(4, shuffle=7))
    assert ids_of(arrays.batches(4, shuffle=False)) == ids_of(dataset.batches(4, shuffle=False))


@pytest.mark.parametrize("batch_size, drop, sizes", [(4, False, [4, 2]), (4, True, [4])])
def test_the_last_batch_may_be_incomplete(batch_size, drop, sizes):
    sieve = make_sieve(fraction=0.25)
    batches = sieve.batches(batch_size, drop_remainder=drop)
    assert [len(ids) for ids in ids_of(batches)] == sizes
    assert int(batches.cardinality()) == sieve.steps(batch_size, drop) == len(sizes)


def test_preprocess_sees_the_samples_in_training_only():
    sieve, seen = make_sieve(fraction=0.25), []

    def preprocess(x, y):
        tf.py_function(lambda x: seen.append(int(x[0])), [x], [])
        return x * 2, y, 0.5

    for inputs, _, weight in sieve.batches(4, preprocess):
        np.testing.assert_array_equal(inputs.inputs[:, 0], inputs.sample_id.numpy() * 2)
        assert set(weight.numpy()) == {0.5}
    assert sorted(seen) == np.flatnonzero(sieve.member.numpy()).tolist()


def test_the_order_depends_on_seed_and_epoch_alone():
    sieve = make_sieve(100)
    batches = sieve.batches(10)
    orders = [ids_of(batches) for _ in range(3)]
    assert orders[0] != orders[1] != orders[2]
    assert sorted(itertools.chain(*orders[0])) == sorted(itertools.chain(*orders[2]))
    sieve.start_epoch(1)
    assert ids_of(batches) == orders[1]
    iter(batches)  # never read: takes no turn
    assert ids_of(batches) == orders[2]
    keras.utils.set_random_seed(5)
    fresh = make_sieve(100)
    fresh.start_epoch(2)
    assert ids_of(fresh.batches(10)) == orders[2]
    other = make_sieve(100, seed=1)
    other.member.assign(sieve.member)
    other.start_epoch(2)
    assert ids_of(other.batches(10)) != orders[2]


def test_without_shuffling_ids_ascend():
    sieve = make_sieve(fraction=0.25)
    ids = list(itertools.chain(*ids_of(sieve.batches(4, shuffle=False))))
    assert ids == np.flatnonzero(sieve.member.numpy()).tolist()


def test_a_small_buffer_shuffles_locally():
    ids = list(itertools.chain(*ids_of(make_sieve(100, fraction=0).batches(10, shuffle=5))))
    assert ids != list(range(100)) and sorted(ids) == list(range(100))
    assert all(i <= place + 5 for place, i in enumerate(ids))


def test_record_takes_a_function_for_other_labels():
    def all_tags_right(y, y_pred):
        return tf.reduce_all((y_pred["tags"] > 0.5) == (y["tags"] > 0.5), axis=-1)

    labels = {"tags": np.eye(4, 3)}
    sieve = DataSieve((np.zeros((4, 1)), labels), fraction=0, correct=all_tags_right)
    predictions = {"tags": tf.constant([[0.9, 0.1, 0.1], [0.9, 0.1, 0.1]])}
    sieve.record([0, 1], {"tags": labels["tags"][:2]}, predictions)
    assert sieve.was_correct.numpy().tolist() == [True, False, False, False]


def test_the_function_must_judge_each_sample():
    sieve = make_sieve(correct=lambda y, y_pred: tf.reduce_all(y == y))
    with pytest.raises(ValueError, match=r"must return a tensor of shape \(batch,\)"):
        sieve.record([0, 1], tf.zeros(2), tf.zeros((2, 2)))


@pytest.mark.parametrize("policy", ["circular", "one_time"])
@pytest.mark.parametrize("fraction", [0.0, 0.25])
def test_state_is_saved_and_restored_with_the_model(tmp_path, policy, fraction):
    def make():
        sieve = make_sieve(20, fraction=fraction, policy=policy)
        return sieve, make_model(sieve)

    sieve, model = make()
    fit(model, sieve.batches(4), [SieveEpochs(sieve), Updates(sieve, 2)], epochs=2)
    visit(sieve, range(20), np.arange(20) % 3 > 0)
    visit(sieve, range(20), np.arange(20) % 2 > 0)
    model.save_weights(tmp_path / "a.weights.h5")
    restored, fresh = make()
    fresh.load_weights(tmp_path / "a.weights.h5")
    assert state(restored) == state(sieve)
    assert ids_of(restored.batches(4)) == ids_of(sieve.batches(4))
    restored.update(3, 1.0)
    sieve.update(3, 1.0)
    assert state(restored) == state(sieve)


def test_a_resumed_training_repeats_an_uninterrupted_one(tmp_path):
    def train(sieve, epochs, initial_epoch=0, load=None, save=None):
        model = make_model(sieve, weight=0.5)
        if load:
            model.load_weights(load)
        model.visits = tf.Variable(tf.zeros(20, tf.int64))
        callbacks = [SieveEpochs(sieve), Updates(sieve, 6)]
        fit(model, sieve.batches(4), callbacks, epochs=epochs, initial_epoch=initial_epoch)
        if save:
            model.save_weights(save)
        return state(sieve)

    def sieve():
        return make_sieve(20, fraction=0.5, policy=Circular(exchange=0.3))

    path = tmp_path / "a.weights.h5"
    whole = train(sieve(), 6)
    train(sieve(), 3, save=path)
    assert train(sieve(), 6, initial_epoch=3, load=path) == whole


def test_a_model_with_a_sieve_can_be_saved_and_exported(tmp_path):
    sieve = make_sieve()
    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    model.sieve = sieve
    assert model.count_params() == 4
    model.save(tmp_path / "a.keras")
    x = np.ones((3, 1), "float32")
    loaded = keras.models.load_model(tmp_path / "a.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    model.export(tmp_path / "saved_model", verbose=False)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"fraction": 1.0}, r"`fraction` must be a number in \[0, 1\). Received: 1.0"),
        ({"fraction": -0.1}, "`fraction` must be a number in"),
        ({"fraction": 0.99}, "must leave at least one sample"),
        ({"seed": -1}, "`seed` must be an integer"),
        ({"seed": 0.5}, "`seed` must be an integer"),
        ({"policy": "square"}, "`policy` must be"),
        ({"correct": "accuracy"}, "`correct` must be a function"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        make_sieve(**arguments)


def test_unfit_data_is_refused():
    data = tf.data.Dataset.from_tensor_slices((np.zeros((8, 1)), np.zeros(8))).shuffle(8)
    with pytest.raises(ValueError, match="must not be shuffled"):
        DataSieve(data)


def test_made_in_a_scope_it_is_shared_by_the_replicas_of_a_process():
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        sieve = DataSieve((np.zeros((4, 2)), np.arange(4) % 2))
    assert not isinstance(sieve.member.value, tf.distribute.DistributedValues)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"batch_size": 0}, "`batch_size` must be an integer"),
        ({"batch_size": 2.5}, "`batch_size` must be an integer"),
        ({"batch_size": True}, "`batch_size` must be an integer"),
        ({"batch_size": 4, "shuffle": 0}, "`shuffle` must be an integer"),
        ({"batch_size": 7, "drop_remainder": True}, "`batch_size` must be at most 6"),
    ],
)
def test_batch_arguments_out_of_range_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        make_sieve(fraction=0.25).batches(**arguments)


def test_preprocess_must_return_a_sample():
    with pytest.raises(ValueError, match="`preprocess` must return"):
        make_sieve().batches(2, preprocess=lambda x, y: x)


def test_epoch_steps_are_those_of_the_batches_made_last():
    sieve = make_sieve(fraction=0.25)
    with pytest.raises(ValueError, match="must be called before"):
        _ = sieve.epoch_steps
    sieve.batches(4)
    assert sieve.epoch_steps == 2
    sieve.batches(4, drop_remainder=True)
    assert sieve.epoch_steps == 1


@pytest.mark.parametrize("drop", [False, True])
def test_workers_read_a_part_of_each_batch(drop):
    sieve = DataSieve((np.arange(90.0), np.arange(90) % 2), fraction=16 / 90)
    read = []

    def preprocess(x, y):
        tf.numpy_function(lambda x: read.append(float(x)), [x], [])
        return 2 * x, y

    batches = sieve.batches(16, preprocess, drop_remainder=drop).map(lambda x, y: (x + 1, y))

    def samples(dataset):
        sieve.start_epoch(1)
        return [dict(zip(x.sample_id.numpy(), x.inputs.numpy(), strict=True)) for x, _ in dataset]

    whole, parts = samples(batches), [samples(batches.share(worker, 4)) for worker in range(4)]
    assert [len(part) for part in parts] == [len(whole)] * 4 == [4 if drop else 5] * 4
    for batch, *shares in zip(whole, *parts, strict=True):
        assert {key: value for share in shares for key, value in share.items()} == batch
        assert sum(map(len, shares)) == len(batch)
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
    read.clear()
    samples(batches.share(3, 4))
    assert len(read) <= 20
    assert batches.share(0, 3) is None and sieve.batches(16).share(0, 4) is None
