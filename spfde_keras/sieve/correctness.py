"""Which samples of a batch a classifier got right."""

from typing import Any

import tensorflow as tf


def correctly_classified(y: Any, y_pred: Any, from_logits: bool = False) -> tf.Tensor:
    """Returns which samples were classified correctly.

    Args:
        y: labels: class numbers (batch,) or (batch, 1), or one-hot (batch, classes).
        y_pred: float tensor, scores of classes (batch, classes), or, for two classes, of the
            second one alone: (batch,) or (batch, 1).
        from_logits: bool. Scores of the second class alone are compared with 0 if they are
            logits, with 0.5 if not.

    Returns:
        Bool tensor (batch,).

    Raises:
        ValueError: for labels and predictions of other shapes, such as several outputs.

    Example:

    >>> correctly_classified([1, 0], [[0.25, 0.75], [0.25, 0.75]]).numpy().tolist()
    [True, False]
    """
    if any(isinstance(values, dict) for values in (y, y_pred)) or _several(y) or _several(y_pred):
        raise ValueError(
            "A sample's correctness is not defined for several outputs: pass `correct=`, a "
            "function (y, y_pred) -> bool (batch,), to DataSieve."
        )
    y, y_pred = tf.convert_to_tensor(y), tf.convert_to_tensor(y_pred)
    if _flat(y_pred) and _flat(y):
        positive = tf.reshape(y_pred, [-1]) > (0.0 if from_logits else 0.5)
        return positive == (tf.cast(tf.reshape(y, [-1]), tf.float32) > 0.5)
    if y_pred.shape.rank == 2 and _flat(y):
        return tf.argmax(y_pred, axis=-1) == tf.cast(tf.reshape(y, [-1]), tf.int64)
    if y_pred.shape.rank == 2 and y.shape.rank == 2 and y.shape[1] == y_pred.shape[1]:
        return tf.argmax(y_pred, axis=-1) == tf.argmax(y, axis=-1)
    raise ValueError(
        f"A sample's correctness is not defined for labels of shape {y.shape} and predictions of "
        f"shape {y_pred.shape}: pass `correct=`, a function (y, y_pred) -> bool (batch,), to "
        "DataSieve."
    )


def _several(values: Any) -> bool:
    return isinstance(values, (list, tuple)) and any(map(tf.is_tensor, values))


def _flat(values: tf.Tensor) -> bool:
    """One number per sample."""
    return values.shape.rank == 1 or (values.shape.rank == 2 and values.shape[1] == 1)
