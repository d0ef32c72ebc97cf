import numpy as np
import pytest
import tensorflow as tf

from spfde_keras.sieve.data_sieve import DataSieve
from spfde_keras.sieve.labels import look_at

X, Y = np.arange(200.0)[:, np.newaxis], np.arange(200) % 3
DATA = tf.data.Dataset.from_tensor_slices((X, Y))


@pytest.mark.parametrize(
    "y, words",
    [
        (np.where(np.arange(200) == 199, -1, Y), "must be >= 0, or -1 and 1. Received: -1"),
        (Y + 0.5, "must be whole numbers. Received: 0.5"),
        (np.array(["cat"] * 200), "must be numbers"),
        ({"a": Y, "b": Y}, "must be one array"),
    ],
)
def test_labels_that_are_no_classes_need_a_function(y, words):
    with pytest.raises(ValueError, match=f"{words}.*correct="):
        look_at((X, y))
    assert DataSieve((X, y), correct=lambda y, y_pred: y_pred).total == 200


@pytest.mark.parametrize(
    "change", [lambda y: y - 1, lambda y: tf.cast(y, tf.float32) + 0.5, lambda y: {"a": y}]
)
def test_labels_of_a_dataset_are_probed(change):
    data = DATA.map(lambda x, y: (x, change(y)))
    with pytest.raises(ValueError, match="correct="):
        look_at(data)
    assert DataSieve(data, correct=lambda y, y_pred: y_pred).total == 200


@pytest.mark.parametrize(
    "y, lowest, highest, one_class",
    [
        (Y, 0, 2, True),
        (Y % 2 * 2.0 - 1, -1, 1, True),
        (np.eye(3)[Y], 0, 1, True),
        ((0.9 * np.eye(3)[Y] + 0.1 / 3).astype("float16"), 0.0333, 0.9333, True),
        (np.eye(3)[Y] + np.eye(3)[0], 0, 2, False),
        (np.eye(3)[Y] * (Y > 0)[:, np.newaxis], 0, 1, False),
        (np.full((200, 2), 0.5), 0.5, 0.5, False),
    ],
)
def test_labels_tell_their_range_and_whether_each_names_a_class(y, lowest, highest, one_class):
    for samples in ((X, y), tf.data.Dataset.from_tensor_slices((X, y))):
        labels = look_at(samples)
        assert labels.one_class == one_class
        np.testing.assert_allclose([labels.lowest, labels.highest], [lowest, highest], atol=1e-3)


def test_a_label_that_names_no_class_is_shown():
    y = np.eye(3)[Y]
    y[7] = [1, 0, 1]
    assert look_at((X, y)).example == "label [1.0, 0.0, 1.0] of sample 7"


def test_labels_of_different_shapes_need_a_function():
    data = tf.data.Dataset.range(4).map(lambda i: (tf.ones([2]), tf.ones([i])))
    with pytest.raises(ValueError, match="must have one shape.*correct="):
        look_at(data)
