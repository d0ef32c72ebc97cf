"""The callback: masks, freezing, data and logs at each boundary."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from spfde_keras import DataSieve, Freezing, SpFDE, sparsify, wrap
from spfde_keras.cost.model import profile
from spfde_keras.masking import find_masks
from spfde_keras.updaters import MESTEMS, SET


def network(units=16):
    inputs = keras.Input((8,))
    x = inputs
    for index in range(4):
        x = keras.layers.Dense(units, activation="relu", name=f"dense{index}")(x)
    return keras.Model(inputs, keras.layers.Dense(3, name="head")(x))


@pytest.fixture
def data(rng):
    x = rng.normal(size=(96, 8)).astype("float32")
    return x, (np.argmax(x[:, :3], axis=1)).astype("int32")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def compiled(model, **kwargs):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9)
    model.compile(optimizer, loss, **kwargs)
    return model


def fit(model, data, callback, **kwargs):
    arguments = {"epochs": callback.epochs, "batch_size": 16, "verbose": 0, "shuffle": False}
    x, y = data if isinstance(data, tuple) else (data, None)
    if y is None:
        arguments.pop("batch_size")
    arguments |= kwargs
    callbacks = [callback, *arguments.pop("more", [])]
    return model.fit(x, y, callbacks=callbacks, **arguments).history


class Recorder(keras.callbacks.Callback):
    """Masks and kernels at the end of each epoch."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append([mask.read() for mask in find_masks(self.model)])


def executed(graph):
    """The operations of a function that its outputs or side effects need."""
    queue, found = [tensor.op for tensor in graph.outputs] + list(graph.control_outputs), set()
    while queue:
        op = queue.pop()
        if op not in found:
            found.add(op)
            queue += [tensor.op for tensor in op.inputs] + list(op.control_inputs)
    return found


@pytest.mark.parametrize("updater", ["set", "rigl", "mest_em", "mest_ems", "magnitude"])
def test_masks_change_at_boundaries_only_and_end_at_their_density(updater, data):
    initial = "dense" if updater == "magnitude" else "random"
    model = compiled(sparsify(network(), sparsity=0.75, initial=initial))
    recorder = Recorder()
    history = fit(model, data, SpFDE(8, updater, interval=2), more=[recorder])
    changed = [
        any((a[1] != b[1]).any() for a, b in zip(before, after, strict=True))
        for before, after in zip(recorder.seen, recorder.seen[1:], strict=False)
    ]
    # Seen after the boundary that ends epochs 1, 3 and 5; it rests from 3/4 of training on.
    assert not changed[1] and not changed[3] and not any(changed[5:])
    assert changed[0] and changed[2]
    assert history["sparsity"][-1] == pytest.approx(0.75, abs=0.005)
    for mask in find_masks(model):
        kernel, masks = mask.read()
        assert np.count_nonzero(masks) == mask.subnets[0].count(0.25)
        assert not kernel[~masks[0]].any()


def test_soft_bound_trains_denser_between_updates(data):
    model = compiled(sparsify(network(), sparsity=0.75))
    history = fit(model, data, SpFDE(8, MESTEMS(bound=0.125), interval=2))
    assert history["sparsity"] == pytest.approx([0.625] * 5 + [0.75] * 3)
    assert history["target_sparsity"] == [0.75] * 8


def test_dropped_and_grown_weights_start_with_fresh_slots(data):
    model = compiled(sparsify(network(), sparsity=0.75))
    seen = []

    class Slots(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            optimizer = self.model.optimizer
            for mask in find_masks(self.model):
                slot = optimizer.momentums[optimizer._get_variable_index(mask.kernel)].numpy()
                kernel, masks = mask.read()
                fresh = masks[0] & (kernel == 0)
                seen.append((fresh.sum(), slot[~masks[0]].any(), slot[fresh].any(), slot.any()))

    fit(model, data, SpFDE(4, "set", interval=1), more=[Slots()])
    grown, after, at_grown, elsewhere = zip(*seen[:3], strict=True)
    assert all(grown) and all(elsewhere) and not any(after) and not any(at_grown)


@pytest.mark.parametrize("scaled", [False, True])
def test_gradients_accumulated_over_batches_are_those_of_larger_ones(data, scaled):
    def trained(batch_size, accumulated):
        keras.utils.clear_session(free_memory=False)
        keras.utils.set_random_seed(1)
        model = compiled(sparsify(network(), sparsity=0.75))
        optimizer = keras.optimizers.SGD(0.05, 0.9, gradient_accumulation_steps=accumulated)
        model.optimizer = keras.optimizers.LossScaleOptimizer(optimizer) if scaled else optimizer
        history = fit(model, data, SpFDE(4, "rigl", interval=1, freeze=0.1), batch_size=batch_size)
        return [weight.numpy() for weight in model.weights], history["frozen_blocks"]

    # The gradient at a boundary is of the last batch.
    data = tuple(np.tile(values[:8], (12,) + (1,) * (values.ndim - 1)) for values in data)
    (found, frozen), (expected, _) = trained(8, 2), trained(16, None)
    assert max(frozen) > 0
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_frozen_blocks_are_bit_equal_and_their_slots_too(data):
    model = compiled(sparsify(network(), sparsity=0.75, dense="last"))
    recorder = Recorder()
    callback = SpFDE(8, SET(stop=1.0), interval=1, freeze=0.15)
    history = fit(model, data, callback, more=[recorder])
    assert history["frozen_blocks"] == sorted(history["frozen_blocks"])
    assert history["frozen_blocks"][-1] >= 1
    first = history["frozen_blocks"].index(1)
    for later in recorder.seen[first:]:
        np.testing.assert_array_equal(later[0][0], recorder.seen[first - 1][0][0])
        np.testing.assert_array_equal(later[0][1], recorder.seen[first - 1][0][1])
    assert (recorder.seen[-1][3][0] != recorder.seen[-2][3][0]).any()
    assert all(layer.trainable for layer in model.layers)


@pytest.mark.parametrize("verbose", [0, 2])
def test_a_line_says_when_blocks_freeze(data, capsys, verbose):
    model = compiled(sparsify(network(), sparsity=0.75, dense="last"))
    callback = SpFDE(8, "set", interval=1, freeze=0.15)
    frozen = fit(model, data, callback, verbose=verbose)["frozen_blocks"]
    changes = [e for e, pair in enumerate(itertools.pairwise(frozen), 1) if pair[0] != pair[1]]
    lines = [line for line in capsys.readouterr().out.splitlines() if "frozen;" in line]
    assert lines == (verbose > 0) * [
        f"Epoch {e + 1}: {frozen[e]} of 5 blocks are frozen; the first step takes longer, since "
        "it is traced anew"
        for e in changes
    ]


def test_a_block_settles_when_it_is_frozen(data):
    model = compiled(sparsify(network(), sparsity=0.75, dense="last"))
    recorder = Recorder()
    history = fit(
        model, data, SpFDE(8, MESTEMS(bound=0.25), interval=2, freeze=0.1), more=[recorder]
    )
    first = history["frozen_blocks"].index(1)
    densities = [epoch[0][1].mean() for epoch in recorder.seen]
    assert densities[first - 2] == pytest.approx(0.5)
    assert densities[first - 1 :] == pytest.approx([0.25] * (9 - first))


def test_backward_pass_of_frozen_blocks_is_gone(data):
    model = compiled(sparsify(network(), sparsity=0.75))
    counts = {}

    class CountProducts(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            batch = (tf.constant(data[0][:16]), tf.constant(data[1][:16]))
            step = tf.function(self.model.train_step).get_concrete_function(batch)
            counts[epoch] = sum(op.type == "MatMul" for op in executed(step.graph))

    history = fit(model, data, SpFDE(8, "static", interval=1, freeze=0.15), more=[CountProducts()])
    kernels = 5
    for epoch, frozen in enumerate(history["frozen_blocks"]):
        # Forward of all, weights' gradient of the thawed, inputs' gradient of all but the first.
        thawed = kernels - frozen
        assert counts[epoch] == kernels + thawed + (thawed - 1)


def test_flops_share_adds_up_by_hand(data):
    model = compiled(sparsify(network(), sparsity=0.75))
    costs = profile(model)
    callback = SpFDE(4, "static", interval=1)
    history = fit(model, data, callback)
    assert callback.training_flops == pytest.approx(4 * 96 * costs.training())
    assert callback.dense_training_flops == pytest.approx(4 * 96 * costs.training({}))
    share = costs.training() / costs.training({})
    assert history["flops_share"] == pytest.approx([share] * 4)


def test_rigl_pays_for_its_dense_gradients(data):
    spent = {}
    for updater in ("static", "rigl"):
        callback = SpFDE(4, updater, interval=1)
        fit(compiled(sparsify(network(), sparsity=0.75)), data, callback)
        spent[updater] = callback.training_flops
    assert spent["rigl"] > spent["static"]


@pytest.mark.parametrize(
    ("updater", "data_stop", "changing"),
    [
        (SET(stop=0.5), None, [1, 2]),  # with the masks, as in the paper
        (SET(stop=0.5), 0.75, [1, 2, 3]),
        (SET(stop=0.5), 0.25, [1]),
        ("static", None, [1, 2, 3]),  # no mask ever changes: until the end
    ],
)
def test_data_rests_with_the_masks_or_when_it_is_told_to(data, updater, data_stop, changing):
    sieve = DataSieve(data, fraction=0.25)
    model = compiled(sparsify(network(), 0.75), run_eagerly=True)
    members = []
    callback = SpFDE(4, updater, interval=1, sieve=sieve, data_stop=data_stop)
    record = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda *_: members.append(sieve.member.numpy()),
        on_train_end=lambda *_: members.append(sieve.member.numpy()),
    )
    fit(model, sieve.batches(32), callback, more=[record])
    pairs = enumerate(zip(members, members[1:], strict=False), 1)
    assert [done for done, (before, after) in pairs if (before != after).any()] == changing


def test_sieve_in_fit(data):
    model = compiled(sparsify(network(), sparsity=0.75), steps_per_execution=2)
    sieve = DataSieve(data, fraction=0.25, seed=1)
    members = []

    class Members(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            members.append(self.model.sieve.member.numpy().astype(bool))

    callback = SpFDE(8, "set", interval=2, sieve=sieve)
    history = fit(model, sieve.batches(16), callback, more=[Members()])
    assert history["active_samples"] == [72] * 8
    assert (members[0] == members[1]).all() and (members[1] != members[2]).any()
    # Masks rest from 3/4 on, and so does the data.
    assert (members[6] == members[7]).all()
    assert all(member.sum() == 72 for member in members)
    assert model.sieve is None and model.monitor is None


def test_one_time_removal_in_fit(data, recwarn):
    model = compiled(sparsify(network(), sparsity=0.75), steps_per_execution=2)
    sieve = DataSieve(data, fraction=0.25, policy="one_time")
    callback = SpFDE(8, "set", interval=1, sieve=sieve)
    history = fit(model, sieve.batches(16), callback)
    # At 70/160 of training, so after epoch 4 of 8.
    assert history["active_samples"] == [96] * 4 + [72] * 4
    assert not any("ran out of data" in str(warning.message) for warning in recwarn)


def test_evaluation_is_no_visit(data):
    model = compiled(sparsify(network(), sparsity=0.75))
    sieve = DataSieve(data, fraction=0.25)
    learned = []

    class Learned(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            before = sieve.learned.numpy().copy()
            everything = DataSieve(data, fraction=0.0)
            self.model.evaluate(everything.batches(16), verbose=0)
            learned.append((before == sieve.learned.numpy()).all())

    fit(model, sieve.batches(16), SpFDE(1, "set", sieve=sieve), more=[Learned()])
    assert learned == [True]


def test_freezing_a_dense_model_and_sieving_it(data):
    model = compiled(wrap(network()))
    sieve = DataSieve(data, fraction=0.25)
    callback = SpFDE(6, interval=1, freeze=0.2, sieve=sieve)
    history = fit(model, sieve.batches(16), callback)
    assert history["sparsity"] == history["target_sparsity"] == [0.0] * 6
    assert history["frozen_blocks"][-1] >= 1
    assert history["flops_share"][-1] == pytest.approx(0.75 * 0.8, abs=0.05)


@pytest.mark.parametrize("updater", ["mest_ems", "rigl"])
def test_resumed_run_equals_uninterrupted(updater, data, tmp_path):
    def run(folder, stop_after=None):
        keras.utils.set_random_seed(3)
        model = compiled(sparsify(network(), sparsity=0.75))
        sieve = DataSieve(data, fraction=0.25, seed=5)
        callback = SpFDE(9, updater, interval=1, freeze=0.15, sieve=sieve, seed=2)
        backup = keras.callbacks.BackupAndRestore(folder, delete_checkpoint=False)

        class Kill(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                if epoch == stop_after:
                    raise KeyboardInterrupt

        try:
            fit(model, sieve.batches(16), callback, more=[backup, Kill()])
        except KeyboardInterrupt:
            return None
        return [v.numpy() for v in model.variables] + [
            v.numpy() for v in model.optimizer.variables
        ], callback.training_flops

    expected, flops = run(tmp_path / "whole")
    for stop_after in (2, 6):
        assert run(tmp_path / "parts", stop_after) is None
    got, resumed_flops = run(tmp_path / "parts")
    assert resumed_flops == flops
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_interrupted_fit_ends_thawed_and_another_may_follow(data):
    model = compiled(sparsify(network(), sparsity=0.75))

    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if any(not layer.trainable for layer in self.model.layers):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(model, data, SpFDE(8, "set", interval=1, freeze=0.15), more=[Interrupt()])
    assert all(layer.trainable for layer in model.layers)
    history = fit(model, data, SpFDE(8, "set", interval=1, freeze=0.15))
    assert history["frozen_blocks"][0] == 0 and history["frozen_blocks"][-1] > 0
    assert all(layer.trainable for layer in model.layers)
    assert "update_step" not in vars(model.optimizer)


def test_batches_of_a_sieve_and_the_sieve_belong_together(data):
    model = compiled(sparsify(network(), sparsity=0.75))
    sieve = DataSieve(data, fraction=0.25)
    with pytest.raises(ValueError, match="if, and only if"):
        fit(model, sieve.batches(16), SpFDE(2, "set"))
    with pytest.raises(ValueError, match="if, and only if"):
        fit(model, data, SpFDE(2, "set", sieve=sieve))


def test_a_backup_first_in_a_list_made_by_hand_is_refused_on_resume(data, tmp_path):
    def run(stop_after=None):
        model = compiled(sparsify(network(), sparsity=0.75))
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        callback = SpFDE(4, "set", interval=1)

        class Kill(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                if epoch == stop_after:
                    raise KeyboardInterrupt

        made = keras.callbacks.CallbackList([backup, callback, Kill()], model=model)
        model.fit(*data, epochs=4, verbose=0, callbacks=made)

    with pytest.raises(KeyboardInterrupt):
        run(stop_after=2)
    with pytest.raises(ValueError, match="Epoch 2 cannot follow 0 completed"):
        run()


def test_kernels_are_zero_behind_masks_with_an_optimizer_that_mixes_positions(data):
    model = sparsify(network(), sparsity=0.75)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Muon(0.01), loss)
    fit(model, data, SpFDE(2, "rigl", interval=1))
    for kernel, masks in (mask.read() for mask in find_masks(model)):
        assert not kernel[~masks[0]].any()


def test_several_optimizers_are_refused_before_training(data):
    model = sparsify(network(), sparsity=0.75)
    model.compile(keras.optimizers.MultiOptimizer({".*": keras.optimizers.SGD(0.1)}), "mse")
    with pytest.raises(ValueError, match="MultiOptimizer"):
        fit(model, data, SpFDE(2, "set", interval=1))


def test_tensorboard_scalars_and_overlaps(data, tmp_path):
    model = compiled(sparsify(network(), sparsity=0.75))
    fit(model, data, SpFDE(4, "set", interval=1, log_dir=str(tmp_path / "logs")))
    tags = {}
    for path in sorted((tmp_path / "logs").iterdir()):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                tags.setdefault(value.tag, []).append(float(tf.make_ndarray(value.tensor)))
    assert len(tags["sparsity"]) == len(tags["flops_share"]) == 4
    overlaps = tags["mask_overlap/dense1/kernel"]
    assert overlaps[0] == 1.0 and all(0.5 < overlap < 1 for overlap in overlaps[1:3])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, "`epochs` must be"),
        ({"epochs": 4, "interval": 0}, "`interval` must be"),
        ({"epochs": 4, "updater": "adam"}, "`updater` must be an Updater"),
        ({"epochs": 4, "freeze": 1.5}, "`freeze` must be a number in"),
        ({"epochs": 4, "freeze": "much"}, "`freeze` must be"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        SpFDE(**arguments)


def test_several_sub_nets_are_left_to_another_callback(data):
    model = compiled(sparsify(network(), sparsity=[0.5, 0.75, 0.875]))
    message = "trains one sub-net. Received: a model of 3; use spfde_keras.AlternatingSparseTrain"
    with pytest.raises(ValueError, match=message):
        fit(model, data, SpFDE(4))


def test_wrong_models_and_plans_are_refused_before_training(data):
    plain = compiled(network())
    with pytest.raises(ValueError, match="spfde_keras.wrap"):
        fit(plain, data, SpFDE(4))
    model = compiled(sparsify(network(), sparsity=0.75))
    before = [v.numpy() for v in model.variables]
    with pytest.raises(ValueError, match="must be at most"):
        fit(model, data, SpFDE(4, freeze=Freezing(0.6), interval=1))
    with pytest.raises(ValueError, match="initial='dense'"):
        fit(model, data, SpFDE(4, "magnitude"))
    with pytest.raises(ValueError, match="same in `fit` and in the callback"):
        fit(model, data, SpFDE(4), epochs=5)
    for value, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(value, variable.numpy())


def test_short_runs_freeze_what_they_can(data):
    model = compiled(sparsify(network(), sparsity=0.75, dense="last"))
    callback = SpFDE(3, "set", freeze=True)
    assert callback.interval == 1
    with pytest.warns(UserWarning, match="Freezing saves 0.* that 3 epochs with interval 1 allow"):
        history = fit(model, data, callback)
    assert history["frozen_blocks"][-1] > 0
    with pytest.raises(ValueError, match="`freeze` must be at most"):
        fit(model, data, SpFDE(3, "set", freeze=0.9))


def test_the_interval_follows_what_fit_is_given(data):
    model = compiled(sparsify(network(), sparsity=0.75, dense="last"))
    callback = SpFDE(updater="set")
    model.fit(*data, epochs=2, verbose=0, callbacks=[callback])
    assert (callback.epochs, callback.interval) == (2, 1)
