"""When masks of which sub-net change, how dense they are, and what it is booked at."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from spfde_keras import AlternatingSparseTraining, DataSieve, SpFDE, mask_updates, sparsify, wrap
from spfde_keras.cost import profile
from spfde_keras.masking import find_masks
from spfde_keras.updaters import SET, Moment, carry_out
from spfde_keras.updaters.prune_and_regrow import PruneAndRegrow
from tests.alternating.runs import (
    SPARSITIES,
    EachStep,
    fit,
    make_data,
    make_model,
    masks_of,
    network,
)


def small(sparsity=(0.5, 0.75), **kwargs):
    """Two kernels, of 80 and 40 weights."""
    plain = keras.Sequential(
        [keras.Input((8,)), keras.layers.Dense(10, name="a"), keras.layers.Dense(4, name="b")]
    )
    model = sparsify(plain, sparsity=list(sparsity), dense=())
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.05), loss, **kwargs)
    return model


def spied(callback):
    """A list to which each change adds (moment, sub-net, t, mask kept before, kept after)."""
    seen, update = [], callback._update

    def spy(masks, subnet, t, event, moment, step=0):
        kernels = [mask.subnets[subnet] for mask in masks]
        before = [kernel.read()[1] for kernel in kernels]
        update(masks, subnet, t, event, moment, step)
        if moment is not Moment.START:
            after = [kernel.read()[1] for kernel in kernels]
            seen.extend((moment, subnet, t, *kept) for kept in zip(before, after, strict=True))

    callback._update = spy
    return seen


def updates(
    samples=48, epochs=3, interval=1, sparsity=SPARSITIES, per_execution=1, sieve=None, most=None
):
    """Each update as (sub-net, steps done, t)."""
    model = small(sparsity, steps_per_execution=per_execution)
    data = make_data(samples)
    if sieve is not None:
        sieve = DataSieve(data, **sieve)
    callback = AlternatingSparseTraining(epochs, SET(stop=1.0), interval=interval, sieve=sieve)
    seen, update = [], callback._update

    def spy(masks, subnet, t, event, moment, step=0):
        if moment is Moment.UPDATE and "a/kernel" in [mask.kernel_path for mask in masks]:
            seen.append((subnet, int(model.optimizer.iterations.numpy()), t))
        update(masks, subnet, t, event, moment, step)

    callback._update = spy
    batches = data if sieve is None else sieve.batches(8)
    if most == "taken":
        fit(model, batches.take(6), callback)
    else:
        fit(model, batches, callback, steps_per_epoch=most)
    return seen


def test_instants_by_hand():
    """Six steps an epoch: each epoch is shared evenly, and the last one ends without an update."""
    expected = [(1, 2), (2, 4), (0, 6), (1, 8), (2, 10), (0, 12), (1, 14), (2, 16)]
    got = updates()
    assert [update[:2] for update in got] == expected
    assert [update[2] for update in got] == pytest.approx([step / 18 for _, step in expected])


def test_instants_across_epochs_by_hand():
    """Four steps an epoch and updates every second one: two thirds into epoch 0 and one into 1."""
    expected = [(1, 3), (2, 5), (0, 8), (1, 11), (2, 13)]
    assert [update[:2] for update in updates(32, epochs=4, interval=2)] == expected


def test_an_instant_at_the_end_of_an_epoch():
    expected = [(1, 4), (0, 8), (1, 12)]
    got = updates(32, epochs=4, interval=2, sparsity=[0.5, 0.75])
    assert [update[:2] for update in got] == expected
    assert [update[2] for update in got] == [0.25, 0.5, 0.75]


@pytest.mark.parametrize(
    ("samples", "epochs", "interval", "subnets"),
    [(41, 3, 1, 3), (33, 4, 2, 2), (60, 5, 3, 3), (24, 3, 1, 3), (24, 6, 2, 4), (44, 2, 3, 3)],
)
def test_sub_nets_change_once_an_interval_each_and_never_together(
    samples, epochs, interval, subnets
):
    """Batches that do not divide the samples, and intervals that do not divide the epochs."""
    sparsity = [0.5, 0.625, 0.75, 0.875][:subnets]
    steps = -(-samples // 8)
    got = updates(samples, epochs, interval, sparsity)
    instants = [step for _, step, _ in got]
    assert instants == sorted(set(instants))
    for subnet in range(subnets):
        own = np.array([step for index, step, _ in got if index == subnet])
        offset = subnet * interval * steps / subnets
        expected = np.arange(offset, epochs * steps - 0.5, interval * steps)[not subnet :]
        assert len(own) == len(expected)
        assert np.abs(own - expected).max(initial=0) <= 0.5


@pytest.mark.parametrize("per_execution", [2, 3, 4])
def test_several_steps_in_one_execution_delay_an_update_to_its_end(per_execution):
    """An update that would come at the very end is not made: there, all is settled."""
    late = []
    for subnet, step, _ in updates():
        epoch, before = divmod(step - 1, 6)
        end = min(6, -(-(before + 1) // per_execution) * per_execution)
        late += [(subnet, 6 * epoch + end)] if 6 * epoch + end < 18 else []
    got = [update[:2] for update in updates(per_execution=per_execution)]
    assert sorted(got) == sorted(late)


def test_every_sub_net_changes_even_where_an_interval_has_fewer_steps():
    for samples in (8, 16):  # in one step, and in two
        got = updates(samples, epochs=6)
        assert {subnet for subnet, *_ in got} == {0, 1, 2}
        assert all(1 <= step < 6 * samples // 8 for _, step, _ in got)


def test_instants_count_the_steps_of_sieved_data():
    got = updates(64, sieve={"fraction": 0.25})
    assert [update[:2] for update in got] == [update[:2] for update in updates()]


@pytest.mark.parametrize("policy", ["circular", "one_time"])
@pytest.mark.parametrize("most", [6, "taken"])
def test_instants_count_the_steps_that_an_epoch_has(most, policy):
    got = updates(160, sieve={"fraction": 0.25, "policy": policy}, most=most)
    assert got == updates()


def test_masks_rest_between_updates_and_from_stop_on():
    model = make_model()
    record = EachStep(masks_of)
    callback = AlternatingSparseTraining(4, SET(stop=0.5), interval=1)
    fit(model, make_data(), callback, more=[record])
    changes = []
    for step, (before, after) in enumerate(zip(record.seen, record.seen[1:], strict=False), 1):
        for subnet in range(3):
            changed = [(a[subnet] != b[subnet]).any() for a, b in zip(before, after, strict=True)]
            assert all(changed) or not any(changed)
            changes += [(subnet, step)] if any(changed) else []
    # Each sub-net once more at its first instant from step 12 on.
    instants = [(1, 2), (2, 4), (0, 6), (1, 8), (2, 10), (0, 12), (1, 14), (2, 16)]
    # At `stop` nothing is exchanged any more.
    assert changes == instants[:5]


@pytest.mark.parametrize("interval", [1, 2])
def test_densities_follow_the_cubic_curve_and_end_at_their_targets(interval):
    updater = PruneAndRegrow(initial_density=0.75, end=0.6)
    model = make_model()
    starts = EachStep(lambda model: masks_of(model))
    callback = AlternatingSparseTraining(5, updater, interval=interval)
    seen = spied(callback)
    fit(model, make_data(), callback, more=[starts])

    def count(sparsity, t, size):
        kept = (1 - sparsity) + (0.75 - (1 - sparsity)) * max(0.0, 1 - t / 0.6) ** 3
        return round(kept * size)

    for masks in starts.seen[0]:
        assert [mask.sum() for mask in masks] == [round(0.75 * masks[0].size)] * 3
    assert len({index for _, index, *_ in seen}) == 3
    for _, index, t, _, after in seen:
        assert after.sum() == count(SPARSITIES[index], t, after.size)
    for mask, start in zip(find_masks(model), starts.seen[0], strict=True):
        kernel, masks = mask.read()
        sizes = [round((1 - share) * start[0].size) for share in SPARSITIES]
        assert [one.sum() for one in masks] == sizes
        assert not kernel[~masks.any(axis=0)].any()


@pytest.mark.parametrize("name", ["rigl", "mest_em"])
def test_a_sub_net_grows_by_its_own_gradient_of_the_last_batch(name, monkeypatch):
    callback = AlternatingSparseTraining(3, name, interval=1)
    model, (x, y), turns = small(), make_data(), []

    def check(mutation, updater, subnet, rng, gradient):
        exchanges = mutation.gradient and mutation.grow_to is not None
        if subnet.kernel_path == "a/kernel" and exchanges:
            turns.append(subnet.index)
            step = int(model.optimizer.iterations.numpy()) - 1
            batch = slice(8 * (step % 6), 8 * (step % 6) + 8)
            kept = [mask.subnets[subnet.index].read()[0] for mask in find_masks(model)]
            first, second = map(tf.constant, kept)
            biases = [model.get_layer(layer).bias.numpy() for layer in "ab"]
            with tf.GradientTape() as tape:
                tape.watch(first)
                outputs = (x[batch] @ first + biases[0]) @ second + biases[1]
                loss = tf.nn.sparse_softmax_cross_entropy_with_logits(y[batch], outputs)
                loss = tf.reduce_mean(loss)
            expected = tape.gradient(loss, first).numpy()
            if name == "mest_em":
                expected *= subnet.read()[1]
            np.testing.assert_allclose(gradient, expected, atol=1e-6)
        return carry_out(mutation, updater, subnet, rng, gradient)

    monkeypatch.setattr(mask_updates, "carry_out", check)
    fit(model, (x, y), callback)
    assert turns == [1, 0, 1, 0, 1]


def test_static_training_is_booked_at_the_mean_of_the_sub_nets():
    """MACs: 80 + 40 forward, as many for the weights, 40 for the inputs of the second kernel."""
    callback = AlternatingSparseTraining(2, "static", interval=1)
    history = fit(small(), make_data(), callback)
    mean = (0.5 + 0.25) / 2
    assert callback.training_flops == pytest.approx(2 * 48 * 2 * mean * (2 * 80 + 3 * 40))
    assert callback.dense_training_flops == 2 * 48 * 2 * (2 * 80 + 3 * 40)
    assert history["flops_share"] == pytest.approx([mean, mean])


@pytest.mark.parametrize(("interval", "per_execution"), [(1, 1), (1, 2), (2, 1)])
@pytest.mark.parametrize("name", ["prune_and_regrow", "mest_ems", "set"])
def test_falling_densities_are_booked_step_by_step(name, interval, per_execution):
    """44 samples in batches of 8: the last one of an epoch has 4."""
    callback = AlternatingSparseTraining(4, name, interval=interval, gradient_correction=False)
    seen = spied(callback)
    model = small(steps_per_execution=per_execution)
    record = EachStep(masks_of)
    fit(model, make_data(44), callback, more=[record])

    def macs(a, b, weights_a=None, weights_b=None):
        weights = (a if weights_a is None else weights_a) + (b if weights_b is None else weights_b)
        return a + b + weights + b

    spent, batches = 0.0, ([8] * 5 + [4]) * 4
    executions = [sum(batches[i : i + per_execution]) for i in range(0, 24, per_execution)]
    for samples, masks in zip(executions, record.seen, strict=True):
        a, b = (mask.sum() / 2 for mask in masks)  # averaged over two sub-nets
        spent += samples * 2 * macs(a, b)
    # A dense gradient is needed to grow, a masked one to drop.
    kinds = {"prune_and_regrow": (80, 40), "mest_ems": (None, None)}
    if name == "prune_and_regrow":
        seen = [change for change in seen if change[0] is Moment.UPDATE]
    passes = list(zip(seen[::2], seen[1::2], strict=True)) if name in kinds else []
    for (_, _, t, a, _), (_, _, t_b, b, _) in passes:
        assert t == t_b
        # Of the last full batch before the update.
        spent += 8 * 2 * macs(a.sum(), b.sum(), *kinds[name])
    assert callback.training_flops == pytest.approx(spent, rel=1e-12)


def test_the_logs_tell_what_happened():
    model = make_model()
    callback = AlternatingSparseTraining(3, "static", interval=1)
    history = fit(model, make_data(), callback)
    assert history["sparsity"] == pytest.approx([np.mean(SPARSITIES)] * 3)
    assert history["frozen_blocks"] == [0] * 3 and history["active_samples"] == [48] * 3
    assert len(history["gradient_corrections"]) == len(history["flops_share"]) == 3
    assert model.alternation is None and model.monitor is None


def test_without_correction_none_is_logged():
    callback = AlternatingSparseTraining(2, "static", gradient_correction=False)
    assert fit(make_model(), make_data(), callback)["gradient_corrections"] == [0, 0]


def test_validation_sees_the_active_sub_net():
    model, data = make_model(compiled={"metrics": ["accuracy"]}), make_data()
    model.activate(2)
    callback = AlternatingSparseTraining(2, "static", interval=1)
    history = fit(model, data, callback, validation_data=data)
    losses = []
    for subnet in range(3):
        model.activate(subnet)
        losses.append(model.evaluate(*data, verbose=0)[0])
    assert history["val_loss"][-1] == pytest.approx(losses[2], rel=1e-5)
    assert history["val_loss"][-1] != pytest.approx(losses[0], rel=1e-3)


def test_a_second_fit_begins_anew():
    model, data = make_model(), make_data()
    for _ in range(2):
        callback = AlternatingSparseTraining(2, "set", interval=1)
        fit(model, data, callback)
        assert callback.dense_training_flops == pytest.approx(2 * 48 * profile(model).training({}))


def test_one_sub_net_is_ordinary_sparse_training():
    def run(callback):
        keras.utils.set_random_seed(1)
        model = make_model(0.75)
        history = fit(model, make_data(), callback(4, "rigl", interval=1, freeze=0.1, seed=3))
        return history, [variable.numpy() for variable in model.variables]

    one, other = run(AlternatingSparseTraining), run(SpFDE)
    assert one[0].pop("gradient_corrections") == [0] * 4
    assert one[0] == other[0]
    for value, expected in zip(one[1], other[1], strict=True):
        np.testing.assert_array_equal(value, expected)


def test_overlaps_in_tensorboard_name_the_sub_nets(tmp_path):
    callback = AlternatingSparseTraining(3, "set", interval=1, log_dir=str(tmp_path))
    fit(make_model(), make_data(), callback)
    tags = {}
    for path in tmp_path.iterdir():
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                tags.setdefault(value.tag, []).append(value)
    for subnet in ("", "/1", "/2"):
        assert len(tags[f"mask_overlap/dense1/kernel{subnet}"]) >= 2


def test_an_unknown_number_of_steps_is_refused_before_anything_changes():
    model, data = make_model(), make_data()
    before = [variable.numpy() for variable in model.variables]
    unknown = tf.data.Dataset.from_tensor_slices(data).batch(8).filter(lambda x, y: True)
    with pytest.raises(ValueError, match="`steps_per_epoch`"):
        fit(model, unknown, AlternatingSparseTraining(2))
    for value, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(value, variable.numpy())


@pytest.mark.filterwarnings("ignore:.*ran out of data")
def test_an_unknown_number_of_steps_can_be_told_and_does_not_matter_to_one_sub_net():
    def unknown():
        return tf.data.Dataset.from_tensor_slices(make_data()).batch(8).filter(lambda x, y: True)

    repeated = unknown().repeat()
    history = fit(make_model(), repeated, AlternatingSparseTraining(2), steps_per_epoch=6)
    assert len(history["loss"]) == 2
    assert len(fit(make_model(0.5), unknown(), AlternatingSparseTraining(2))["loss"]) == 2


def test_models_that_cannot_alternate_are_refused():
    data = make_data()
    plain, wrapped = network(), wrap(network())
    for model in (plain, wrapped):
        model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="AlternatingSparseTraining.*sparsify"):
        fit(plain, data, AlternatingSparseTraining(2))
    with pytest.raises(ValueError, match="AlternatingSparseTraining.*needs a model with masks"):
        fit(wrapped, data, AlternatingSparseTraining(2))
    with pytest.raises(ValueError, match="SpFDE.*one sub-net.*3.*AlternatingSparseTraining"):
        fit(make_model(), data, SpFDE(2))
    with pytest.raises(ValueError, match="initial='dense'"):
        fit(make_model(initial="random"), data, AlternatingSparseTraining(2, "magnitude"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, "`epochs` must be"),
        ({"epochs": 4, "interval": 0}, "`interval` must be"),
        ({"epochs": 4, "updater": "adam"}, "`updater` must be an Updater"),
        ({"epochs": 4, "freeze": 1.5}, "`freeze` must be a number in"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        AlternatingSparseTraining(**arguments)
