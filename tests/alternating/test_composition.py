"""Several sub-nets with every scheme, updater, freezing, sieving, and kind of layer."""

import keras
import numpy as np
import pytest

from spfde_keras import AlternatingSparseTraining, DataSieve, Freezing, sparsify, updaters
from spfde_keras.freezing.blocks import find_blocks
from spfde_keras.masking import find_masks
from spfde_keras.updaters import MESTEMS, SET
from spfde_keras.updaters.prune_and_regrow import PruneAndRegrow
from tests.alternating.runs import fit, make_data, make_model

SCHEMES = {
    "unstructured": ("unstructured", [0.5, 0.75, 0.9]),
    "block": ("block", [0.5, 0.8]),
    "pattern": ("pattern", [0.75, 0.85]),
    "channel": ("channel", [0.5, 0.75]),
    "filter": ("filter", [0.4, 0.6]),
    "2:4": ("2:4", None),
    "2:4, 1:4, 1:8": (["2:4", "1:4", "1:8"], None),
    "2:4, unstructured": (["2:4", "unstructured"], [0.5, 0.9]),
}
UPDATERS = updaters.names()


def convolutional():
    return keras.Sequential(
        [
            keras.Input((4, 4, 8)),
            keras.layers.Conv2D(8, 3, padding="same", name="conv"),
            keras.layers.BatchNormalization(),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(16, activation="relu", name="dense"),
            keras.layers.Dense(2, name="head"),
        ]
    )


def separable():
    return keras.Sequential(
        [
            keras.Input((4, 4, 8)),
            keras.layers.DepthwiseConv2D(3, padding="same"),
            keras.layers.BatchNormalization(),
            keras.layers.Conv2D(8, 1),
            keras.layers.SeparableConv2D(8, 3, padding="same"),
            keras.layers.BatchNormalization(),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2),
        ]
    )


def attentive():
    inputs = keras.Input((4, 8))
    x = keras.layers.LayerNormalization()(inputs)
    x = inputs + keras.layers.MultiHeadAttention(2, 4)(x, x)
    x = keras.layers.Dropout(0.2)(keras.layers.Dense(8, activation="gelu")(x))
    x = keras.layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, keras.layers.Dense(2)(x))


def compiled(plain, **kwargs):
    eagerly = kwargs.pop("run_eagerly", False)
    model = sparsify(plain, dense="last", **kwargs)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss, run_eagerly=eagerly)
    return model


def images(*shape):
    x = np.random.default_rng(0).normal(size=(24, *shape)).astype("float32")
    return x, (x[:, ..., 0].reshape(24, -1).mean(axis=1) > 0).astype("int32")


def check_counts(model):
    """Each sub-net has as many whole units as it should, and no kernel more than all of them."""
    for mask in find_masks(model):
        kernel, masks = mask.read()
        assert np.isfinite(kernel).all()
        assert not kernel[~masks.any(axis=0)].any()
        for subnet, kept in zip(mask.subnets, masks, strict=True):
            canonical = subnet.layout.to_canonical(kept)
            units = subnet.scheme.reduce(canonical)
            assert units.sum() == subnet.count(1 - subnet.sparsity)
            whole = subnet.scheme.expand(units, subnet.layout.canonical_shape)
            np.testing.assert_array_equal(whole, canonical)


@pytest.mark.parametrize("updater", UPDATERS)
@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_with_every_updater_ends_at_its_counts(name, updater):
    scheme, sparsity = SCHEMES[name]
    dense = ("magnitude", "global_magnitude", "ac_dc")
    initial = "dense" if updater in dense else "random"
    model = compiled(
        convolutional(), scheme=scheme, sparsity=sparsity, initial=initial, run_eagerly=True
    )
    before = [mask.read() for mask in find_masks(model)]
    callback = AlternatingSparseTraining(2, updater, interval=1)
    if updater in ("dsr", "granet", "global_magnitude") and "2:4" in name:
        with pytest.raises(ValueError, match="keeps in each group"):
            fit(model, images(4, 4, 8), callback, batch_size=12)
        return
    history = fit(model, images(4, 4, 8), callback, batch_size=12)
    assert np.isfinite(history["loss"]).all()
    check_counts(model)
    for mask, (kernel, masks) in zip(find_masks(model), before, strict=True):
        assert (mask.read()[0] != kernel).any()
        changed = (mask.read()[1] != masks).any(axis=tuple(range(1, masks.ndim)))
        assert changed.all() if updater == "magnitude" else updater != "static" or not any(changed)


@pytest.mark.parametrize("freeze", [None, 0.05])
def test_groups_of_n_m_sub_nets_keep_exactly_n_of_m(freeze):
    """Also where they are settled while they still fall to that, at the end or when frozen."""
    model = compiled(convolutional(), scheme=["2:4", "1:4", "1:8"])
    assert model.subnets == ["subnet_50", "subnet_75", "subnet_87_5"]
    updater = PruneAndRegrow(0.75, end=1.0)
    callback = AlternatingSparseTraining(6, updater, interval=1, freeze=freeze)
    fit(model, images(4, 4, 8), callback)
    conv, dense = (mask.read()[1] for mask in find_masks(model))
    for masks in (conv.reshape(3, 9, 8, 8), dense.reshape(3, 1, 8, 16)):
        for (n, m), kept in zip(((2, 4), (1, 4), (1, 8)), masks, strict=True):
            groups = kept.reshape(kept.shape[0], 8 // m, m, kept.shape[-1])
            assert (groups.sum(axis=2) == n).all()


@pytest.mark.parametrize("plain", [separable, attentive])
@pytest.mark.parametrize("correction", [True, False])
def test_depthwise_and_attention_models_train(plain, correction):
    model = compiled(plain(), sparsity=[0.5, 0.75])
    data = images(*model.input_shape[1:])
    callback = AlternatingSparseTraining(6, interval=1, gradient_correction=correction)
    history = fit(model, data, callback)
    assert history["loss"][-1] < history["loss"][0]
    assert (sum(history["gradient_corrections"]) > 0) == correction
    check_counts(model)
    # One kernel of a kind cannot have been left out.
    assert len(find_masks(model)) == {separable: 4, attentive: 5}[plain]


class Recorder(keras.callbacks.Callback):
    """The variables of each block at the end of each epoch."""

    def __init__(self, blocks):
        super().__init__()
        self.blocks, self.seen = blocks, []

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(
            [[v.numpy() for layer in block for v in layer.variables] for block in self.blocks]
        )


@pytest.mark.parametrize(
    "updater",
    [PruneAndRegrow(0.75, end=0.9), MESTEMS(bound=0.1, stop=1.0), SET(stop=1.0)],
    ids=["prune_and_regrow", "mest_ems", "set"],
)
def test_frozen_blocks_rest_with_all_their_sub_nets(updater):
    model = make_model()
    blocks = find_blocks(model)
    recorder = Recorder(blocks)
    callback = AlternatingSparseTraining(8, updater, interval=2, freeze=0.12)
    history = fit(model, make_data(), callback, more=[recorder])
    frozen = history["frozen_blocks"]
    assert frozen == sorted(frozen) and 1 <= frozen[-1] < len(blocks)
    for epoch in range(1, 8):
        for index in range(len(blocks)):
            pairs = zip(recorder.seen[epoch - 1][index], recorder.seen[epoch][index], strict=True)
            same = [np.array_equal(before, after) for before, after in pairs]
            assert all(same) if index < frozen[epoch] else not all(same)
    check_counts(model)


def test_blocks_that_thaw_again_go_on_with_all_their_sub_nets():
    model = make_model()
    callback = AlternatingSparseTraining(
        10, PruneAndRegrow(end=0.5), interval=1, freeze=Freezing(0.1, scheme="delayed_periodic")
    )
    history = fit(model, make_data(), callback)
    frozen = history["frozen_blocks"]
    assert any(later < earlier for earlier, later in zip(frozen, frozen[1:], strict=False))
    check_counts(model)


def test_sieved_samples_take_turns_until_all_have_been_used():
    data, members = make_data(), []
    sieve = DataSieve(data, fraction=0.25)

    class Members(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            members.append(sieve.member.numpy().astype(bool))

    model = make_model()
    callback = AlternatingSparseTraining(8, SET(stop=1.0), interval=1, sieve=sieve)
    history = fit(model, sieve.batches(8), callback, more=[Members()])
    assert history["active_samples"] == [36] * 8
    assert all(member.sum() == 36 for member in members)
    assert np.any(members, axis=0).all()
    check_counts(model)


def test_sieving_freezing_and_alternating_cost_less_together():
    sieve = DataSieve(make_data(), fraction=0.25)
    model = make_model()
    callback = AlternatingSparseTraining(8, "static", interval=1, freeze=0.1, sieve=sieve)
    share = fit(model, sieve.batches(8), callback)["flops_share"][-1]
    alone = AlternatingSparseTraining(1, "static")
    everything = fit(make_model(), make_data(), alone)["flops_share"][-1]
    assert share == pytest.approx(0.75 * 0.9 * everything, rel=0.05)
