"""Losses, inputs and weights that are NaN or infinite."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from spfde_keras import AlternatingSparseTraining, DataSieve, Resume, SpFDE, sparsify
from spfde_keras.finite import NotFinite, check_epoch


@keras.saving.register_keras_serializable("tests")
class Log(keras.layers.Layer):
    """Infinite, and with NaN for a gradient, where an input is 0."""

    def call(self, inputs):
        return keras.ops.log(keras.ops.abs(inputs))


def make(sparsity=0.5, *more, eager=False):
    net = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(8, name="one"), *more]
        + [keras.layers.BatchNormalization(), keras.layers.Dense(8, name="two")]
        + [keras.layers.Dense(3, name="last")]
    )
    model = sparsify(net, sparsity, dense="last")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss, run_eagerly=eager)
    return model


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.random((16, 4), "float32"), rng.integers(0, 3, 16)


def values(model):
    return [v.numpy() for v in [*model.variables, *model.optimizer.variables]]


def trained(model):
    return [v.numpy() for v in [*model.trainable_variables, *model.optimizer.variables]]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("eager", [False, True])
def test_a_bad_input_is_named_before_it_changes_a_weight(data, bad, eager):
    x, y = data
    x[9, 2] = bad
    model, seen = make(eager=eager), []

    class Note(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            seen.append(trained(self.model))

    with pytest.raises(NotFinite) as raised:
        model.fit(
            x, y, 4, epochs=3, shuffle=False, verbose=0,
            callbacks=[SpFDE(updater="set", interval=1), Note()],
        )  # fmt: skip
    assert str(raised.value) == (
        "Training stops at step 3, whose loss is NaN or infinite: the inputs of sample 1 of the "
        "batch. What is trained is as the step before left it"
    )
    assert len(seen) == 3
    for before, after in zip(seen[-1], trained(model), strict=True):
        np.testing.assert_array_equal(after, before)
    assert model.monitor is None and all(layer.trainable for layer in model.layers)


def test_a_sieve_knows_the_sample(data):
    data[0][[3, 11]] = np.nan
    sieve = DataSieve(data, fraction=0)
    with pytest.raises(NotFinite, match="the inputs of sample id (3|11|3, 11|11, 3)[.]"):
        make().fit(
            sieve.batches(4), epochs=2, verbose=0, callbacks=[SpFDE(sieve=sieve, interval=1)]
        )


def test_several_sub_nets_and_optimizers_that_scale_the_loss(data):
    data[0][5] = np.nan
    model = make([0.5, 0.75])
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)), model.loss)
    callback = AlternatingSparseTraining(interval=1)
    with pytest.raises(NotFinite, match="step 2, .*: the inputs of sample 1 of"):
        model.fit(*data, 4, epochs=3, shuffle=False, verbose=0, callbacks=[callback])


def test_bad_labels_weights_and_layers_are_named(data):
    x, y = data
    weights = np.ones(16)
    weights[0] = np.nan
    with pytest.raises(NotFinite, match="the sample weights of sample 0 of the batch"):
        make().fit(
            x, y, 16, sample_weight=weights, epochs=2, verbose=0, shuffle=False,
            callbacks=[SpFDE(interval=1)],
        )  # fmt: skip
    model = make(0.5, Log(name="log"))
    model.get_layer("one").set_weights([w * 0 for w in model.get_layer("one").get_weights()[:2]] +
                                       model.get_layer("one").get_weights()[2:])  # fmt: skip
    with pytest.raises(NotFinite, match="step 1, .*: outputs of layer 'log', the first of such"):
        model.fit(x, y, epochs=2, verbose=0, callbacks=[SpFDE(interval=1)])


def test_weights_that_a_gradient_has_spoilt_are_named(data):
    model = make()
    callback = SpFDE(interval=1)

    class Spoil(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 1:
                kernel = self.model.get_layer("two").bias
                kernel.assign(kernel.numpy() * np.nan)

    with pytest.raises(NotFinite, match="step 3, .*: weights of layer 'two', 'two/bias'[.]"):
        model.fit(*data, 4, epochs=2, shuffle=False, verbose=0, callbacks=[callback, Spoil()])


def test_a_state_that_is_not_finite_is_not_kept(data, tmp_path):
    """Also in models without masks, and where the last step alone spoils the weights."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="last")])
    model.compile("sgd", "mse")

    class Spoil(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 2:
                bias = self.model.get_layer("last").bias
                bias.assign(bias.numpy() / 0.0)

    with pytest.raises(NotFinite, match="after epoch 3, .* weights of layer 'last', .*/bias'"):
        with np.errstate(all="ignore"):
            model.fit(
                data[0], np.eye(3)[data[1]], epochs=5, verbose=0,
                callbacks=[Spoil(), Resume(tmp_path)],
            )  # fmt: skip
    assert {path.name for path in tmp_path.glob("epoch-*")} == {"epoch-0001", "epoch-0002"}


def test_a_loss_that_is_not_finite_ends_an_epoch(data):
    model = make()
    with pytest.raises(NotFinite, match="after epoch 4, .*: its loss"):
        check_epoch(model, 3, {"loss": float("nan")})
    check_epoch(model, 3, {"loss": 1.0, "val_loss": float("nan")})
    check_epoch(model, 3, {})


def test_finite_losses_train_as_without_a_guard(data, monkeypatch):
    def train():
        keras.utils.set_random_seed(1)
        model = make()
        model.fit(*data, 4, epochs=3, verbose=0, shuffle=False, callbacks=[SpFDE(interval=1)])
        return values(model)

    guarded = train()
    monkeypatch.setattr("spfde_keras.finite.Guard.__call__", lambda self, loss, *_: loss)
    for one, other in zip(train(), guarded, strict=True):
        np.testing.assert_array_equal(one, other)


def test_batches_of_any_structure(data):
    inputs = {"a": keras.Input((2,), name="a"), "b": keras.Input((2,), name="b")}
    hidden = keras.layers.Concatenate()([inputs["a"], inputs["b"]])
    hidden = keras.layers.Dense(8)(keras.layers.Dense(8)(hidden))
    model = sparsify(keras.Model(inputs, keras.layers.Dense(1)(hidden)), 0.5)
    model.compile("sgd", "mse")
    x = {"a": np.ones((8, 2)), "b": np.ones((8, 2))}
    x["b"][7] = np.nan
    batches = tf.data.Dataset.from_tensor_slices((x, np.ones(8))).batch(4)
    with pytest.raises(NotFinite, match="step 2, .*: the inputs of sample 3 of the batch"):
        model.fit(batches, epochs=2, verbose=0, callbacks=[SpFDE(updater="set", interval=1)])
