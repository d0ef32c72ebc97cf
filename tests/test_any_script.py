"""Training scripts as others write them: what went before, what ends `fit`, what is frozen."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from spfde_keras import (
    AlternatingSparseTraining,
    DataSieve,
    SpFDE,
    load_model,
    sparsify,
    wrap,
)
from spfde_keras.alternating import JointSparseTraining
from spfde_keras.freezing import Freezing
from spfde_keras.masking import find_masks
from spfde_keras.sieve import without_ids
from tests.own_layers import Two

RNG = np.random.default_rng(0)
X = RNG.normal(size=(48, 8)).astype("float32")
Y = (X[:, 0] > 0).astype("int32")


def net():
    return keras.Sequential(
        [keras.Input((8,)), *(layers.Dense(16, "relu") for _ in range(3)), layers.Dense(2)]
    )


def compiled(model, optimizer=None):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer or keras.optimizers.SGD(0.05, momentum=0.9), loss)
    return model


CALLBACKS = {
    "SpFDE": (0.75, lambda **options: SpFDE(3, "mest_ems", 1, **options)),
    "rigl": (0.75, lambda **options: SpFDE(3, "rigl", 1, **options)),
    "AST": ([0.5, 0.75], lambda **options: AlternatingSparseTraining(3, "set", 1, **options)),
    "joint": ([0.5, 0.75], lambda **options: JointSparseTraining(3, updater="set", **options)),
}


@pytest.mark.parametrize(
    ("name", "before"),
    [*((name, "fit") for name in CALLBACKS), ("SpFDE", "evaluate"), ("SpFDE", "predict")],
)
def test_what_ran_before_changes_nothing(name, before):
    """Keras keeps the step that an earlier `fit` compiled: it counts, keeps and turns nothing."""
    sparsity, make = CALLBACKS[name]
    results = []
    for warm in (False, True):
        keras.utils.set_random_seed(0)
        model = compiled(sparsify(net(), sparsity), keras.optimizers.SGD(0.0))
        sieve = DataSieve((X, Y), 0.25)
        batches = sieve.batches(16)
        if warm and before == "fit":
            model.fit(without_ids(batches), verbose=0)
        elif warm:
            getattr(model, before)(X, verbose=0, **({"y": Y} if before == "evaluate" else {}))
        history = model.fit(batches, epochs=3, verbose=0, callbacks=[make(sieve=sieve)]).history
        assert history["active_samples"] == [36] * 3
        results.append((history["flops_share"], sieve.learned.numpy().sum()))
        assert sieve.learned.numpy().any()
    assert results[0][0] == results[1][0]


class Stop(keras.callbacks.Callback):
    """The stop button of a notebook."""

    def on_train_batch_begin(self, batch, logs=None):
        if self.epoch == 3:
            raise KeyboardInterrupt

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch


def test_an_interrupted_fit_leaves_nothing_frozen(tmp_path):
    model = compiled(sparsify(net(), 0.75))
    model.layers[1].bias.trainable = False
    with pytest.raises(KeyboardInterrupt):
        callback = SpFDE(4, interval=1, freeze=0.2)
        model.fit(X, Y, epochs=4, verbose=0, callbacks=[callback, Stop()])
    assert all(layer.trainable for layer in model.layers)
    assert [w.name for w in model.non_trainable_weights if "bias" in w.name] == ["bias"]
    assert model.monitor is model.freezer is model.alternation is None
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert all(layer.trainable for layer in loaded.layers)
    history = compiled(loaded).fit(X, Y, epochs=4, verbose=0, callbacks=[SpFDE(4, interval=1)])
    assert history.history["sparsity"][-1] == pytest.approx(0.75)


def with_frozen_base(**options):
    base = keras.Sequential(
        [keras.Input((8,)), layers.Dense(16, "relu"), layers.Dense(16, "relu")], name="base"
    )
    base.trainable = False
    inputs = keras.Input((8,))
    x = layers.Dense(16, "relu", name="a")(base(inputs))
    x = layers.Dense(16, "relu", name="b")(layers.Dense(16, "relu", name="c")(x))
    return sparsify(keras.Model(inputs, layers.Dense(2)(x)), 0.75, **options)


@pytest.mark.parametrize("updater", ["mest_ems", "rigl", "set", "magnitude"])
def test_transfer_learning(updater):
    initial = "dense" if updater == "magnitude" else "random"
    model = compiled(with_frozen_base(initial=initial))
    masks = find_masks(model)
    before = [mask.read() for mask in masks]
    freezing = Freezing(0.1)
    history = model.fit(
        X, Y, epochs=6, verbose=0, callbacks=[SpFDE(6, updater, 1, freeze=freezing)]
    ).history
    # The base, two blocks, counts as frozen from the start; freezing goes on behind it.
    assert history["frozen_blocks"][0] == 2 and history["frozen_blocks"][-1] > 2
    for mask, (kernel, kept) in list(zip(masks, before, strict=True))[:2]:
        after, now = mask.read()
        np.testing.assert_array_equal(after[now[0]], kernel[now[0]])
        assert not (now & ~kept).any()
    assert all(mask.density == 0.25 for mask in masks)
    # Then all of it is trained.
    model.get_layer("base").trainable = True
    compiled(model, keras.optimizers.Adam(1e-3))
    model.fit(X, Y, epochs=3, verbose=0, callbacks=[SpFDE(3, "set", 1)])
    assert (masks[0].read()[0] != before[0][0]).any()


@pytest.mark.filterwarnings("ignore:Layers .* belong to both models")
@pytest.mark.parametrize("freeze", [0.05, Freezing(None, "periodic")])
@pytest.mark.parametrize("what", ["layer inside", "weight"])
def test_freezing_gives_back_what_the_user_set(freeze, what):
    inputs = keras.Input((8,))
    x = layers.Dense(8)(layers.Dense(8, name="first")(Two(name="two")(inputs)))
    model = compiled(wrap(keras.Model(inputs, layers.Dense(2)(x))))
    part = {"layer inside": model.get_layer("two").a, "weight": model.get_layer("first").kernel}
    part[what].trainable = False
    value = np.array(model.get_layer("two").a.kernel if what == "layer inside" else part[what])
    model.fit(X, Y, epochs=8, verbose=0, callbacks=[SpFDE(8, "static", 1, freeze=freeze)])
    assert not part[what].trainable
    after = np.array(model.get_layer("two").a.kernel if what == "layer inside" else part[what])
    np.testing.assert_array_equal(after, value)
    assert model.get_layer("two").b.trainable and model.get_layer("first").bias.trainable


def sparse_inputs():
    dense = np.eye(48, 8, dtype="float32")
    data = tf.data.Dataset.from_tensor_slices((tf.sparse.from_dense(dense), Y)).batch(16)
    return keras.Input((8,), sparse=True), data, lambda x: x


def dictionaries():
    targets = {"class": Y, "value": X[:, :1]}
    data = tf.data.Dataset.from_tensor_slices(({"a": X, "b": X}, targets)).batch(16)
    inputs = {"a": keras.Input((8,), name="a"), "b": keras.Input((8,), name="b")}
    return inputs, data, lambda x: x["a"] + x["b"]


@pytest.mark.parametrize("updater", ["rigl", "mest_em", "mest_ems"])
@pytest.mark.parametrize("kind", [sparse_inputs, dictionaries])
def test_batches_of_any_structure_are_remembered(kind, updater):
    inputs, data, first = kind()
    x = layers.Dense(16, "relu")(layers.Dense(16, "relu", name="hidden")(first(inputs)))
    outputs = layers.Dense(2, name="class", activation="softmax")(x)
    loss = "sparse_categorical_crossentropy"
    if kind is dictionaries:
        outputs = {"class": outputs, "value": layers.Dense(1, name="value")(x)}
        loss = {"class": loss, "value": "mse"}
    model = sparsify(keras.Model(inputs, outputs), 0.75)
    model.compile(keras.optimizers.SGD(0.05), loss)
    before = [mask.read()[1] for mask in find_masks(model)]
    model.fit(data, epochs=4, verbose=0, callbacks=[SpFDE(4, updater, 1)])
    assert all(mask.density == 0.25 for mask in find_masks(model))
    if updater != "mest_ems":  # which may drop just what it grew
        after = [mask.read()[1] for mask in find_masks(model)]
        assert any((a != b).any() for a, b in zip(after, before, strict=True))


def test_training_that_ends_early_is_settled_with_a_warning(tmp_path):
    for updater, initial in (("mest_ems", "random"), ("magnitude", "dense")):
        model = compiled(sparsify(net(), 0.75, initial=initial))
        stop = keras.callbacks.EarlyStopping("loss", min_delta=9, patience=2)
        with pytest.warns(UserWarning, match="smallest weights were dropped now.*Evaluate"):
            model.fit(X, Y, epochs=20, verbose=0, callbacks=[SpFDE(20, updater, 1), stop])
        assert [mask.density for mask in find_masks(model)] == [0.25] * 3


def test_best_weights_of_before_the_end_are_settled():
    model = compiled(sparsify(net(), [0.5, 0.75]))
    best = keras.callbacks.EarlyStopping("loss", mode="max", restore_best_weights=True)
    best.patience = 99
    with pytest.warns(UserWarning, match="went back to weights from there"):
        callback = AlternatingSparseTraining(4, interval=1)
        model.fit(X, Y, epochs=4, verbose=0, callbacks=[best, callback])
    assert [subnet.density for subnet in find_masks(model)[0].subnets] == [0.5, 0.25]


def test_training_that_ends_as_planned_warns_of_nothing(recwarn):
    model = compiled(sparsify(net(), 0.75))
    stop = keras.callbacks.EarlyStopping("loss", patience=99)
    model.fit(X, Y, epochs=4, verbose=0, callbacks=[stop, SpFDE(4, interval=1)])
    assert not [w for w in recwarn if "smallest weights" in str(w.message)]


def test_backups_work_in_any_order(tmp_path):
    """A run killed in its fourth epoch and resumed equals one that was not."""
    ends = []
    for killed in (False, True):
        weights = []
        for attempt in range(1 + killed):
            keras.backend.clear_session()  # the names of layers, as in a new process
            keras.utils.set_random_seed(0)
            model = compiled(sparsify(net(), 0.75, seed=1))
            backup = keras.callbacks.BackupAndRestore(tmp_path / str(killed))
            callbacks = [backup, SpFDE(5, "set", 1)]
            try:
                kill = [Stop()] if killed and not attempt else []
                model.fit(X, Y, epochs=5, verbose=0, shuffle=False, callbacks=callbacks + kill)
            except KeyboardInterrupt:
                pass
            weights = model.get_weights()
        ends.append(weights)
    for one, other in zip(*ends, strict=True):
        np.testing.assert_array_equal(one, other)


def test_tensorboard_draws_masks_and_checkpoints_are_checked_first(tmp_path):
    model = compiled(sparsify(net(), 0.75))
    board = keras.callbacks.TensorBoard(tmp_path / "log", histogram_freq=1, write_images=True)
    weights = keras.callbacks.ModelCheckpoint(tmp_path / "w.weights.h5", save_weights_only=True)
    model.fit(X, Y, epochs=1, verbose=0, callbacks=[board, weights, SpFDE(1, "set", 1)])
    assert list((tmp_path / "log" / "train").iterdir())
    again = sparsify(net(), 0.75, seed=3)
    again.load_weights(tmp_path / "w.weights.h5")
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    steps = int(model.optimizer.iterations)
    with pytest.raises(ValueError, match="saved to .keras files.*Received: .*m.h5"):
        checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "m.h5")
        model.fit(X, Y, epochs=1, verbose=0, callbacks=[SpFDE(1, "set", 1), checkpoint])
    assert int(model.optimizer.iterations) == steps
    with pytest.raises(ValueError, match="saved to .keras files"):
        model.save(tmp_path / "m.h5")


def test_epochs_may_be_left_to_fit():
    ends = []
    for epochs in (4, None):
        keras.backend.clear_session()
        keras.utils.set_random_seed(0)
        model = compiled(sparsify(net(), 0.75))
        callback = SpFDE(epochs, "mest_ems", 1, freeze=0.1)
        history = model.fit(X, Y, epochs=4, verbose=0, shuffle=False, callbacks=[callback]).history
        ends.append([history["frozen_blocks"], history["flops_share"], *model.get_weights()])
    for one, other in zip(*ends, strict=True):
        np.testing.assert_array_equal(one, other)
    model = compiled(sparsify(net(), 0.75))
    with pytest.raises(ValueError, match="or None in the callback. Received: 3 and 4"):
        model.fit(X, Y, epochs=3, verbose=0, callbacks=[SpFDE(4)])


def test_a_fit_stopped_by_hand_goes_on_from_its_epoch_or_starts_over():
    """The end is that of a `fit` that was not stopped."""
    ends = []
    for stopped in (False, True):
        keras.backend.clear_session()
        keras.utils.set_random_seed(0)
        model = compiled(sparsify(net(), 0.75))
        callback = SpFDE(5, "mest_ems", 1, freeze=0.1)
        data = {"x": X, "y": Y, "epochs": 5, "verbose": 0, "shuffle": False}
        if stopped:
            with pytest.raises(KeyboardInterrupt):
                model.fit(**data, callbacks=[callback, Stop()])
            with pytest.raises(ValueError, match="Epoch 2 cannot follow 3 completed.*initial_ep"):
                model.fit(**data, initial_epoch=2, callbacks=[callback])
        history = model.fit(**data, initial_epoch=3 * stopped, callbacks=[callback]).history
        ends.append([history["flops_share"][-1], *model.get_weights()])
    for one, other in zip(*ends, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    with pytest.warns(UserWarning, match="starts over, after 5 epochs.*initial_epoch=5"):
        again = model.fit(**data, callbacks=[callback]).history
    assert again["flops_share"][-1] == pytest.approx(history["flops_share"][-1], rel=0.01)


def test_the_sparsity_of_the_whole_model_stands_beside_that_of_masked_kernels():
    inputs = keras.Input((6, 8))
    x = layers.Dense(4, name="masked")(layers.LSTM(32)(inputs))
    others = [lambda layer: layer.name != "masked"]
    model = compiled(sparsify(keras.Model(inputs, layers.Dense(2)(x)), 0.5, dense=others))
    x = RNG.normal(size=(48, 6, 8)).astype("float32")
    history = model.fit(x, Y, verbose=0, callbacks=[SpFDE(1, "set", 1)]).history
    assert history["sparsity"] == [0.5]
    assert history["model_sparsity"] == pytest.approx([64 / model.count_params()], rel=0.05)


def test_a_score_of_before_an_update_is_warned_of():
    """Weights are kept as the update has left them."""
    model = compiled(sparsify(net(), 0.75))
    best = keras.callbacks.EarlyStopping("loss", restore_best_weights=True, patience=9)
    with pytest.warns(UserWarning, match="until epoch 3; start_from_epoch=3 waits until"):
        model.fit(X, Y, epochs=4, verbose=0, callbacks=[SpFDE(updater="mest_ems"), best])
    best.start_from_epoch = 3
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*keeps the weights of the best epoch")
        model.fit(X, Y, epochs=4, verbose=0, callbacks=[SpFDE(updater="mest_ems"), best])
        best.start_from_epoch = 0
        model.fit(X, Y, epochs=1, verbose=0, callbacks=[SpFDE(updater="static"), best])


def test_two_callbacks_that_train_sparse_are_refused():
    model = compiled(sparsify(net(), 0.75))
    with pytest.raises(ValueError, match="one callback that trains sparse.* Received: SpFDE, SpF"):
        model.fit(X, Y, verbose=0, callbacks=[SpFDE(), SpFDE()])


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"data_stop": 0.5}, "`data_stop` must be left out without `sieve`"),
        ({"updater": "static", "update_steps": 2}, "`update_steps` must be left out with Static"),
    ],
)
def test_settings_without_effect_are_refused(settings, name):
    with pytest.raises(ValueError, match=name):
        SpFDE(**settings)


def test_a_model_without_masks_has_no_updates_to_count():
    model = compiled(wrap(net()))
    with pytest.raises(ValueError, match="`update_steps` must be left out with a model that has"):
        model.fit(X, Y, verbose=0, callbacks=[SpFDE(update_steps=2)])


def test_a_model_saved_while_blocks_are_frozen_has_none(tmp_path):
    model, frozen = compiled(sparsify(net(), 0.75)), []

    class Saves(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            frozen.append(sum(not layer.trainable for layer in self.model.layers))
            self.model.save(tmp_path / "model.keras")

    callback = SpFDE(6, "set", 1, freeze=0.1)
    model.fit(X, Y, epochs=6, verbose=0, callbacks=[callback, Saves()])
    assert max(frozen[-1:]) > 0
    assert all(layer.trainable for layer in load_model(tmp_path / "model.keras").layers)
