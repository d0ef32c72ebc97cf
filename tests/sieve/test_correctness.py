import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from spfde_keras import DataSieve, SpFDE, wrap
from spfde_keras.sieve.correctness import correctly_classified, judge
from spfde_keras.sieve.labels import look_at

SCORES = np.array([[0.7, 0.2, 0.1], [0.2, 0.3, 0.5], [0.1, 0.8, 0.1]], "float32")


@pytest.mark.parametrize(
    "y",
    [
        [0, 1, 1],
        [[0], [1], [1]],
        [0.0, 1.0, 1.0],
        np.eye(3)[[0, 1, 1]],
        np.eye(3, dtype=int)[[0, 1, 1]],
    ],
)
def test_classes_are_compared_with_the_largest_score(y):
    correct = correctly_classified(np.asarray(y), SCORES)
    assert correct.numpy().tolist() == [True, False, True]


def test_smoothed_one_hot_labels_are_compared_by_their_largest_entry():
    y = 0.9 * np.eye(3)[[0, 1, 1]] + 0.1 / 3
    assert correctly_classified(y, SCORES).numpy().tolist() == [True, False, True]


@pytest.mark.parametrize("y", [[0, 1, 1], [[0], [1], [1]], [False, True, True]])
@pytest.mark.parametrize("column", [False, True])
def test_binary_scores_have_a_threshold_that_depends_on_logits(y, column):
    scores = np.array([0.2, 0.4, 0.9], "float32")
    scores = scores[:, np.newaxis] if column else scores
    assert correctly_classified(np.asarray(y), scores).numpy().tolist() == [True, False, True]
    logits = correctly_classified(np.asarray(y), scores, from_logits=True)
    assert logits.numpy().tolist() == [False, True, True]


@pytest.mark.parametrize(
    "y, y_pred",
    [
        (np.zeros(2), {"a": np.zeros((2, 3))}),
        ({"a": np.zeros(2)}, np.zeros((2, 3))),
        (np.zeros((2, 4)), np.zeros((2, 4, 3))),
        (np.zeros((2, 4)), np.zeros((2, 3))),
        (np.zeros((2, 3)), np.zeros((2, 1))),
    ],
)
def test_other_forms_are_refused(y, y_pred):
    with pytest.raises(ValueError, match="pass `correct=`"):
        correctly_classified(y, y_pred)


def test_several_outputs_are_refused():
    outputs = [tf.zeros((2, 3)), tf.zeros((2, 3))]
    with pytest.raises(ValueError, match="several outputs"):
        correctly_classified([tf.zeros(2), tf.zeros(2)], outputs)


# What `judge` says, in `fit`, against NumPy on the predictions of a model that does not train.

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 8)).astype("float32")
BINARY = RNG.integers(0, 2, (60, 1))
TAGS = RNG.integers(0, 2, (60, 3))
CLASSES = RNG.integers(0, 3, 60)
ONE_HOT = np.eye(3, dtype="float32")[CLASSES]
OUTPUT = "scores"
losses = keras.losses


def net(units, activation="linear"):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8,))
    return keras.Model(inputs, keras.layers.Dense(units, activation, name=OUTPUT)(inputs))


def fitted(y, loss, units, activation="linear", **arguments):
    """Trains for an epoch without moving: who was right, by the sieve, and the predictions."""
    model, sieve = wrap(net(units, activation)), DataSieve((X, y), 0.0, **arguments)
    model.compile(keras.optimizers.SGD(0.0), loss, run_eagerly=True)
    callbacks = [SpFDE(1, "static", 1, sieve=sieve)]
    model.fit(sieve.batches(30), epochs=1, shuffle=False, verbose=0, callbacks=callbacks)
    return sieve.was_correct.numpy(), model.predict(X, verbose=0)


class OwnLoss(losses.Loss):
    """A loss that only says whether it takes logits."""

    from_logits = True

    def call(self, y_true, y_pred):
        return losses.binary_crossentropy(y_true, y_pred, from_logits=True)


class OwnBinary(losses.BinaryCrossentropy):
    """A loss that scales Keras' own."""

    def call(self, y_true, y_pred):
        return 2 * super().call(y_true, y_pred)


def own_function(y_true, y_pred, from_logits=False):
    return losses.binary_crossentropy(y_true, y_pred, from_logits=from_logits)


LOGITS = losses.BinaryCrossentropy(from_logits=True)
PARTIAL = functools.partial(losses.binary_crossentropy, from_logits=True)


@pytest.mark.parametrize(
    "loss",
    [
        LOGITS,
        [LOGITS],
        {OUTPUT: LOGITS},
        PARTIAL,
        [PARTIAL],
        functools.partial(functools.partial(own_function, from_logits=False), from_logits=True),
        losses.BinaryFocalCrossentropy(from_logits=True),
        OwnLoss(),
        OwnBinary(from_logits=True),
    ],
)
@pytest.mark.parametrize("y, units", [(BINARY, 1), (TAGS, 3)])
def test_logits_are_compared_with_zero_however_the_loss_is_given(loss, y, units):
    if units == 3 and (isinstance(loss, OwnLoss) or getattr(loss, "func", None) is own_function):
        pytest.raises(ValueError, fitted, y, loss, units).match("not name one class.*correct=")
        return
    right, scores = fitted(y, loss, units)
    expected = ((scores > 0) == y).all(axis=1)
    assert (expected != ((scores > 0.5) == y).all(axis=1)).any()
    np.testing.assert_array_equal(right, expected)


@pytest.mark.parametrize("loss", ["binary_crossentropy", "bce", ["BinaryCrossentropy"], LOGITS])
@pytest.mark.parametrize("y, units", [(BINARY, 1), (TAGS, 3)])
def test_what_a_sigmoid_gives_is_compared_with_one_half(loss, y, units):
    right, scores = fitted(y, loss, units, activation="sigmoid")
    np.testing.assert_array_equal(right, ((scores > 0.5) == y).all(axis=1))


@pytest.mark.parametrize("loss", ["hinge", losses.SquaredHinge(), [losses.hinge]])
@pytest.mark.parametrize("y", [BINARY, 2 * BINARY - 1, 2 * TAGS - 1])
def test_hinges_look_at_the_sign(loss, y):
    right, scores = fitted(y, loss, y.shape[1])
    np.testing.assert_array_equal(right, ((scores > 0) == (y > 0)).all(axis=1))


@pytest.mark.parametrize(
    "y, loss",
    [
        (CLASSES, "sparse_categorical_crossentropy"),
        (CLASSES, {OUTPUT: losses.SparseCategoricalCrossentropy(from_logits=True)}),
        (ONE_HOT, [losses.CategoricalCrossentropy(from_logits=True)]),
        (ONE_HOT, "categorical_hinge"),
        (0.9 * ONE_HOT + 0.1 / 3, losses.KLDivergence()),
        (CLASSES, lambda y, p: losses.sparse_categorical_crossentropy(y, p, from_logits=True)),
        (ONE_HOT, lambda y, p: losses.categorical_crossentropy(y, p, from_logits=True)),
        (ONE_HOT, losses.CategoricalFocalCrossentropy),
    ],
)
def test_of_several_classes_the_largest_score_counts(y, loss):
    right, scores = fitted(y, loss, 3)
    np.testing.assert_array_equal(right, scores.argmax(axis=1) == CLASSES)


def test_a_row_that_names_no_class_is_never_right():
    y = np.array([[1, 1, 0], [0, 0, 0], [1, 0, 0]], "float32")
    scores = np.tile([[0.7, 0.2, 0.1]], (3, 1))
    assert correctly_classified(y, scores).numpy().tolist() == [False, False, True]


EMPTY = np.where(np.arange(60)[:, np.newaxis] == 40, 0, ONE_HOT)


@pytest.mark.parametrize(
    "y, loss, units, words",
    [
        (BINARY, own_function, 1, "one output and a loss that does not say.*own_function"),
        (BINARY, lambda y, p: own_function(y, p), 1, "does not say whether it takes logits"),
        (TAGS, lambda y, p: own_function(y, p), 3, "lambda.*not name one class.*of sample"),
        (TAGS, "categorical_crossentropy", 3, "do not name one class each.*of sample"),
        (EMPTY, "categorical_crossentropy", 3, r"label \[0.0, 0.0, 0.0\] of sample 40"),
        (CLASSES, "mse", 1, "for this loss.*mean_squared_error"),
        (ONE_HOT, losses.MeanAbsoluteError(), 3, "for this loss.*mean_absolute_error"),
        (BINARY, [losses.Huber()], 1, "for this loss.*huber"),
        (CLASSES, "poisson", 1, "for this loss.*poisson"),
        (TAGS, "dice", 3, "for this loss.*dice"),
        (BINARY, "categorical_crossentropy", 1, "for this loss.*categorical_crossentropy"),
        (2 * BINARY - 1, "bce", 1, "other than 0 and 1.*numbers from -1 to 1"),
        (CLASSES[:, np.newaxis], LOGITS, 1, "other than 0 and 1.*numbers from 0 to 2"),
        (CLASSES[:, np.newaxis], "hinge", 1, "0 and 1, or -1 and 1.*from 0 to 2"),
        (2 * BINARY - 1, "sparse_categorical_crossentropy", 3, "do not name one class"),
        (BINARY, [LOGITS, "mse"], 1, "for several losses"),
        (BINARY, None, 1, "does not say"),
    ],
)
def test_what_the_loss_leaves_open_is_asked_for_before_the_first_step(y, loss, units, words):
    model, sieve = wrap(net(units)), DataSieve((X, y), 0.0)
    model.compile("sgd", loss)
    with pytest.raises(ValueError, match=f"(?s){words}") as raised:
        model.fit(sieve.batches(16), verbose=0, callbacks=[SpFDE(1, "static", 1, sieve=sieve)])
    assert "pass `correct=`" in str(raised.value)
    assert int(model.optimizer.iterations) == 0


def test_what_is_asked_for_is_taken():
    right, scores = fitted(CLASSES, "mse", 1, correct=lambda y, y_pred: y_pred[:, 0] > 0.25)
    np.testing.assert_array_equal(right, scores[:, 0] > 0.25)


def test_labels_that_preprocessing_makes_are_judged_as_made():
    model, sieve = wrap(net(3)), DataSieve((X, TAGS), 0.0)
    model.compile(keras.optimizers.SGD(0.0), losses.CategoricalCrossentropy(from_logits=True))
    batches = sieve.batches(16, lambda x, y: (x, tf.one_hot(y[0], 3)))
    callbacks = [SpFDE(1, "static", 1, sieve=sieve)]
    model.fit(batches, epochs=1, shuffle=False, verbose=0, callbacks=callbacks)
    expected = model.predict(X, verbose=0).argmax(axis=1) == TAGS[:, 0]
    np.testing.assert_array_equal(sieve.was_correct.numpy(), expected)


@pytest.mark.parametrize("shapes", [[(None, 3), (None, 3)], [(None, 4, 3)]])
def test_outputs_without_one_score_list_are_asked_about(shapes):
    outputs = [keras.KerasTensor(shape) for shape in shapes]
    with pytest.raises(ValueError, match="correct="):
        judge("sparse_categorical_crossentropy", outputs, look_at((X, CLASSES)))
