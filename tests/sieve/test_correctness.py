import numpy as np
import pytest
import tensorflow as tf

from spfde_keras.sieve.correctness import correctly_classified

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
