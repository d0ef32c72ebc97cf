"""Inputs of unknown size cost what a net with those sizes costs: the oracle is that net."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from spfde_keras import AlternatingSparseTraining, SpFDE, sparsify
from spfde_keras.cost.model import profile
from spfde_keras.freezing import Freezing
from spfde_keras.open_sizes import OpenSizes, input_shapes

RNG = np.random.default_rng(0)
TOKENS = RNG.integers(0, 20, (48, 10))
Y = RNG.integers(0, 2, 48)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def text(length=None, ragged=False):
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    inputs = keras.Input((length,), dtype="int64", ragged=ragged)
    x = layers.Embedding(20, 8)(inputs)
    if not ragged:  # what Keras' other layers cannot read
        x = layers.Conv1D(8, 3, padding="same")(x)
        x = layers.Add()([x, layers.MultiHeadAttention(2, 4)(x, x)])
        x = layers.Conv1D(8, 3)(x)
    x = layers.Dense(8, "relu")(layers.GlobalAveragePooling1D()(x))
    return keras.Model(inputs, layers.Dense(2)(layers.Dense(8)(x)))


def trained(model, data, epochs=3, callback=None, sparsity=0.75, callbacks=()):
    model = sparsify(model, sparsity)
    model.compile("sgd", LOSS)
    callback = callback or SpFDE(epochs, "rigl", 1)
    callbacks = [callback, *callbacks]
    history = model.fit(data, epochs=epochs, verbose=0, callbacks=callbacks).history
    return callback, history


def batches(x, y=Y, size=16):
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(size)


@pytest.mark.parametrize(
    "make",
    [
        lambda: (SpFDE(3, "rigl", 1), 0.75),
        lambda: (AlternatingSparseTraining(3, interval=1), [0.5, 0.75]),
    ],
    ids=["rigl", "AST"],
)
def test_a_length_that_is_seen_costs_what_a_fixed_one_costs(make):
    found = []
    for length in (10, None):
        callback, sparsity = make()
        callback, history = trained(
            text(length), batches(TOKENS), callback=callback, sparsity=sparsity
        )
        found.append((history["flops_share"], callback.training_flops))
    assert found[1] == found[0]
    assert np.isfinite(found[0][0]).all()


def test_batches_of_several_lengths_cost_their_mean():
    """Of what is done at each position: 32 samples of 6 and 16 of 12 are 48 of 8."""

    def padded():
        for start, length in ((0, 6), (16, 12), (32, 6)):
            yield TOKENS[start : start + 16, np.arange(length) % 10], Y[start : start + 16]

    spec = (tf.TensorSpec((None, None), tf.int64), tf.TensorSpec((None,), tf.int64))
    data = tf.data.Dataset.from_generator(padded, output_signature=spec)
    data = data.apply(tf.data.experimental.assert_cardinality(3))
    callback, history = trained(text(), data, callback=SpFDE(3, "static", 1))
    fixed, expected = trained(text(8), batches(TOKENS[:, :8]), callback=SpFDE(3, "static", 1))
    assert history["flops_share"] == expected["flops_share"]
    assert callback.training_flops == fixed.training_flops


def test_freezing_is_planned_with_a_given_size():
    found = []
    for length in (10, None):
        shape = None if length else (10,)
        callback = SpFDE(6, "set", 1, freeze=Freezing(0.1, input_shape=shape))
        callback, history = trained(text(length), batches(TOKENS), 6, callback)
        found.append((history["frozen_blocks"], history["flops_share"]))
        found[-1] += (callback.planned_cost(48, 16).total,)
    assert found[1] == found[0]
    assert found[0][0][-1] > 0


def test_without_a_size_freezing_is_planned_by_weights_and_says_how_to_give_one():
    with pytest.warns(UserWarning, match=r"by the weights.*Freezing\(reduction, input_shape=shape"):
        _, history = trained(text(), batches(TOKENS), 6, SpFDE(6, "set", 1, freeze=0.1))
    assert history["frozen_blocks"][-1] > 0
    assert 0 < history["flops_share"][-1] < 1


def halving(size=None):
    """Images of an odd size cannot be added to what was halved and doubled."""
    inputs = keras.Input((size, size, 3))
    x = layers.Conv2D(3, 3, padding="same")(inputs)
    y = layers.Conv2D(3, 3, strides=2, padding="same")(x)
    y = layers.Conv2DTranspose(3, 2, strides=2)(y)
    return keras.Model(inputs, layers.Conv2D(1, 1)(layers.Add()([x, y])))


def test_a_mean_that_the_model_cannot_take_is_rounded_to_one_it_can():
    """Of images of 8, 8 and 16 pixels the mean is 10.7: not 11, but 10."""

    def images():
        for size in (8, 8, 16):
            yield np.ones((2, size, size, 3), "float32"), np.ones((2, size, size, 1), "float32")

    spec = tuple(tf.TensorSpec((None, None, None, channels)) for channels in (3, 1))
    data = tf.data.Dataset.from_generator(images, output_signature=spec)
    data = data.apply(tf.data.experimental.assert_cardinality(3))
    model = sparsify(halving(), 0.5)
    model.compile("sgd", "mse")
    callback = SpFDE(1, "static", 1)
    model.fit(data, verbose=0, callbacks=[callback])
    assert callback.training_flops == 6 * profile(sparsify(halving(10), 0.5)).training()


def test_a_resumed_run_spends_what_one_that_was_not_killed_spends(tmp_path):
    class Kill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    found = []
    for killed in (False, True):
        backup = keras.callbacks.BackupAndRestore(tmp_path / str(killed))
        if killed:
            with pytest.raises(KeyboardInterrupt):
                trained(text(), batches(TOKENS), callbacks=[backup, Kill()])
        callback, history = trained(text(), batches(TOKENS), callbacks=[backup])
        found.append((history["flops_share"][-1], callback.training_flops))
    assert found[1] == found[0]


@pytest.mark.parametrize("updater", ["rigl", "mest_em"])
def test_ragged_inputs_train_and_cost_their_mean_length(updater):
    lengths = RNG.integers(1, 10, 48)
    tokens = tf.RaggedTensor.from_row_lengths(RNG.integers(0, 20, lengths.sum()), lengths)
    callback, history = trained(text(ragged=True), batches(tokens), callback=SpFDE(3, updater, 1))
    # Nothing is multiplied at each token.
    fixed, expected = trained(text(7, ragged=True), batches(TOKENS[:, :7]), 3, SpFDE(3, updater, 1))
    assert history["flops_share"] == expected["flops_share"]


class ToDense(layers.Layer):
    def call(self, x):
        return x.to_tensor() if isinstance(x, tf.RaggedTensor) else x

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)


def test_sizes_are_measured_in_batches_of_any_form():
    inputs = {
        "words": keras.Input((None,), name="words", ragged=True),
        "image": keras.Input((None, None, 3), name="image"),
        "extra": keras.Input((None, 2), name="extra", optional=True),
    }
    x = [layers.Flatten()(ToDense()(inputs["words"])), inputs["image"], inputs["extra"]]
    model = keras.Model(inputs, [*x])
    sizes = OpenSizes(model)
    names = [(model.inputs[index].name, axis) for index, axis in sizes.axes]
    batch = {
        "words": tf.ragged.constant([[1.0, 2.0, 3.0], [4.0], [], [5.0, 6.0]]),
        "image": tf.zeros((4, 8, 6, 3)),
        "extra": None,
    }
    expected = {("words", 1): 1.5, ("image", 1): 8, ("image", 2): 6, ("extra", 1): 0}
    assert dict(zip(names, sizes.measure(batch).numpy(), strict=True)) == expected


@pytest.mark.parametrize(
    "given",
    [
        [(12, 3), (7, 2)],
        {"left": (12, 3), "right": (7, 2)},
        {"right": (7, 2), "left": (12, 3)},
    ],
)
def test_shapes_are_given_in_order_or_by_name(given):
    left, right = keras.Input((None, 3), name="left"), keras.Input((None, 2), name="right")
    outputs = layers.MultiHeadAttention(2, 4)(left, right)
    model = keras.Model([left, right], outputs)
    assert input_shapes(model, given) == [(None, 12, 3), (None, 7, 2)]
    left, right = keras.Input((12, 3)), keras.Input((7, 2))
    fixed = keras.Model([left, right], layers.MultiHeadAttention(2, 4)(left, right))
    assert profile(model, input_shape=given).training() == profile(fixed).training()
    # Queries and outputs at 12 positions, keys and values at 7; no gradient of the inputs.
    counted = [kernel.positions for kernel in profile(fixed).kernels]
    assert counted == [12, 7, 7, 12]
    assert profile(fixed).training() == 2 * (2 * (12 * 24 + 2 * 7 * 16) + 3 * 12 * 24)


@pytest.mark.parametrize(
    "given", [(32, 32), (32, 32, 1), (None, 32, 3), (0, 32, 3), [(8, 8, 3)] * 2]
)
def test_shapes_that_do_not_fit_are_refused(given):
    model = keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(3, 3)])
    with pytest.raises(ValueError, match="`input_shape` must be the shape of one.*Received: "):
        profile(model, input_shape=given)


def test_nested_models_have_the_sizes_that_are_given():
    flexible = keras.Input((None, None, 3))
    inner = keras.Model(flexible, layers.Conv2D(3, 3, strides=2, padding="same")(flexible))
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(inner(inputs)))
    assert profile(model).unknown
    cost = profile(model, input_shape=(16, 10, 3))
    assert not cost.unknown
    assert [kernel.positions for kernel in cost.kernels] == [8 * 5]


def test_frozen_blocks_of_a_length_not_seen_before_still_count_in_dense_training():
    """What dense training takes does not depend on what is frozen."""
    dense = []
    for freeze in (None, Freezing(0.1, input_shape=(10,))):
        epochs = [0]

        def longer(epochs=epochs):
            length = 10 if epochs[-1] < 5 else 12
            for start in range(0, 48, 16):
                tokens = np.resize(TOKENS[start : start + 16], (16, length))
                yield tokens, Y[start : start + 16]

        spec = tf.TensorSpec((16, None), tf.int64), tf.TensorSpec((16,), tf.int64)
        data = tf.data.Dataset.from_generator(longer, output_signature=spec)
        data = data.apply(tf.data.experimental.assert_cardinality(3))
        note = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda e, _, seen=epochs: seen.append(e)
        )
        callback = SpFDE(6, "set", 1, freeze=freeze)
        callback, history = trained(text(), data, 6, callback, callbacks=[note])
        dense.append(callback.dense_training_flops)
    assert history["frozen_blocks"][-1] > 0
    assert dense[0] == pytest.approx(dense[1])
