"""Which samples of a batch a model got right, as its loss and its labels define it."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from spfde_keras import compat
from spfde_keras.sieve.labels import Labels

Judge = Callable[[Any, Any], tf.Tensor]

_losses = keras.losses
# One output says yes or no; several are as many tags, each of which must be right.
_BINARY = (_losses.binary_crossentropy, _losses.binary_focal_crossentropy)
_HINGE = (_losses.hinge, _losses.squared_hinge)
# The largest of several outputs is the class.
_CLASSES = (
    _losses.categorical_crossentropy,
    _losses.categorical_focal_crossentropy,
    _losses.categorical_generalized_cross_entropy,
    _losses.categorical_hinge,
    _losses.kl_divergence,
    _losses.sparse_categorical_crossentropy,
)
_OF_KERAS = [value for value in vars(_losses).values() if inspect.isfunction(value)]


def judge(loss: Any, outputs: Sequence[Any], labels: Labels | None = None) -> Judge:
    """Returns the function that says which samples of a batch a model gets right.

    Binary crossentropies and hinges: each output must be on its label's side of a threshold,
    0 for logits and hinges, 0.5 otherwise. Categorical losses: the largest output is the class.
    Functions and losses of the user's own: as categorical losses, if there are several outputs
    per sample; if there is one, they must have an attribute or argument `from_logits`.

    Args:
        loss: what the model was compiled with: a loss, its name, a function, a
            `functools.partial`, or one of them in a list or dictionary.
        outputs: the model's outputs, tensors or whatever has a `shape` with the batch first.
        labels: None, or what is known of the labels.

    Returns:
        A function (y, y_pred) -> bool tensor (batch,).

    Raises:
        ValueError: where loss, outputs and labels do not tell what is right.

    Example:

    >>> inputs = keras.Input((1,))
    >>> loss = [keras.losses.BinaryCrossentropy(from_logits=True)]
    >>> judge(loss, [inputs])([1, 1], [[0.25], [-0.25]]).numpy().tolist()
    [True, False]
    """
    if len(outputs) != 1:
        raise _undefined("for several outputs", f"a model with {len(outputs)}")
    function, settings = _unwrapped(loss)
    shape = tuple(outputs[0].shape)
    if len(shape) > 2:
        raise _undefined("for outputs that are no list of numbers", f"outputs of shape {shape}")
    single = len(shape) == 1 or shape[1] == 1
    name = getattr(function, "__name__", type(function).__name__)
    if function in _BINARY or function in _HINGE:
        _check_binary(labels, name, lowest=-1 if function in _HINGE else 0)
        from_logits = function in _HINGE or settings.get("from_logits", False)
        return functools.partial(on_the_right_side, from_logits=bool(from_logits))
    if function in _OF_KERAS and (single or function not in _CLASSES):
        raise _undefined("for this loss", f"{name}, and outputs of shape {shape}")
    if single:
        if settings.get("from_logits") is None:
            raise _undefined(
                "for one output and a loss that does not say whether it takes logits", repr(loss)
            )
        _check_binary(labels, name, lowest=0)
        return functools.partial(on_the_right_side, from_logits=bool(settings["from_logits"]))
    if labels is not None and (labels.lowest < 0 or not labels.one_class):
        raise _undefined(
            f"for {name}, {shape[1]} outputs and labels that do not name one class each",
            labels.example,
        )
    return of_the_right_class


def correctly_classified(y: Any, y_pred: Any, from_logits: bool = False) -> tf.Tensor:
    """Returns which samples were classified correctly, as the shapes of the labels tell.

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
    y, y_pred = _tensors(y, y_pred)
    if _flat(y_pred):
        return on_the_right_side(y, y_pred, from_logits)
    return of_the_right_class(y, y_pred)


def on_the_right_side(y: Any, y_pred: Any, from_logits: bool) -> tf.Tensor:
    """Returns for which samples each output is on its label's side of the threshold.

    Args:
        y: labels of 0 and 1, or of -1 and 1: (batch,), (batch, 1) or (batch, tags).
        y_pred: float tensor, as many numbers.
        from_logits: bool, whether the threshold is 0; otherwise it is 0.5.

    Returns:
        Bool tensor (batch,).

    Raises:
        ValueError: if labels and predictions are not as many.

    Example:

    >>> on_the_right_side([[1, 0], [1, 1]], [[0.75, 0.25], [0.75, 0.25]], False).numpy().tolist()
    [True, False]
    """
    y, y_pred = _tensors(y, y_pred)
    # Keras, too, takes what a sigmoid gave for no logits, whatever the loss was told.
    threshold = 0.0 if from_logits and not compat.is_activated(y_pred) else 0.5
    if _flat(y) and _flat(y_pred):
        y, y_pred = (tf.reshape(values, [-1, 1]) for values in (y, y_pred))
    if y.shape.rank != 2 or y_pred.shape.rank != 2 or y.shape[1] != y_pred.shape[1]:
        raise _shapes(y, y_pred)
    return tf.reduce_all((y_pred > threshold) == (tf.cast(y, tf.float32) > 0.5), axis=-1)


def of_the_right_class(y: Any, y_pred: Any) -> tf.Tensor:
    """Returns for which samples the largest output is that of the label's class.

    A row of labels whose largest entry is not the only one names no class: it is never right.

    Args:
        y: labels: class numbers (batch,) or (batch, 1), or one-hot (batch, classes).
        y_pred: float tensor (batch, classes).

    Returns:
        Bool tensor (batch,).

    Raises:
        ValueError: for labels and predictions of other shapes.

    Example:

    >>> of_the_right_class([1, 0], [[0.25, 0.75], [0.25, 0.75]]).numpy().tolist()
    [True, False]
    """
    y, y_pred = _tensors(y, y_pred)
    if y_pred.shape.rank == 2 and y_pred.shape[1] != 1:
        chosen = tf.argmax(y_pred, axis=-1)
        if _flat(y):
            return chosen == tf.cast(tf.reshape(y, [-1]), tf.int64)
        if y.shape.rank == 2 and y.shape[1] == y_pred.shape[1]:
            y = tf.cast(y, tf.float32)
            largest = tf.equal(y, tf.reduce_max(y, axis=-1, keepdims=True))
            one = tf.reduce_sum(tf.cast(largest, tf.int32), axis=-1) == 1
            return one & (chosen == tf.argmax(y, axis=-1))
    raise _shapes(y, y_pred)


def _unwrapped(loss: Any) -> tuple[Any, dict]:
    """The function or object behind a loss, and what it is called with."""
    settings: dict = {}
    while True:
        if isinstance(loss, (dict, list, tuple)):
            given = list(loss.values()) if isinstance(loss, dict) else list(loss)
            if len(given) != 1:
                raise _undefined("for several losses", repr(loss))
            loss = given[0]
        elif isinstance(loss, str) or inspect.isclass(loss):
            loss = keras.losses.get(loss)
        elif isinstance(loss, functools.partial):
            loss, settings = loss.func, loss.keywords | settings
        elif (wrapped := compat.wrapped_loss(loss)) is not None:
            loss, settings = wrapped[0], wrapped[1] | settings
        else:
            return loss, {"from_logits": getattr(loss, "from_logits", None)} | settings


def _check_binary(labels: Labels | None, loss: str, lowest: int) -> None:
    if labels is not None and not lowest <= labels.lowest <= labels.highest <= 1:
        allowed = "0 and 1" if lowest == 0 else "0 and 1, or -1 and 1"
        raise _undefined(f"for {loss} and labels other than {allowed}", labels.example)


def _undefined(where: str, received: str) -> ValueError:
    return ValueError(
        f"A sample's correctness is not defined {where}: pass `correct=`, a function "
        f"(y, y_pred) -> bool (batch,), to DataSieve. Received: {received}"
    )


def _shapes(y: tf.Tensor, y_pred: tf.Tensor) -> ValueError:
    return _undefined(
        "for such shapes", f"labels of shape {y.shape} and predictions of shape {y_pred.shape}"
    )


def _tensors(y: Any, y_pred: Any) -> tuple[tf.Tensor, tf.Tensor]:
    if any(isinstance(values, dict) or _several(values) for values in (y, y_pred)):
        raise _undefined("for several outputs", f"{type(y)} and {type(y_pred)}")
    return tf.convert_to_tensor(y), tf.convert_to_tensor(y_pred)


def _several(values: Any) -> bool:
    return isinstance(values, (list, tuple)) and any(map(tf.is_tensor, values))


def _flat(values: tf.Tensor) -> bool:
    """One number per sample."""
    return values.shape.rank == 1 or (values.shape.rank == 2 and values.shape[1] == 1)
