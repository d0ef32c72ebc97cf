"""A hook between the computation of gradients and their use."""

import contextlib
from collections.abc import Callable, Iterator

import keras

from spfde_keras import compat


@contextlib.contextmanager
def intercepted(
    optimizer: keras.optimizers.Optimizer, receive: Callable[[list, Callable], None]
) -> Iterator[None]:
    """Hands the gradients of a train step, run or traced in this context, to `receive`.

    Args:
        optimizer: the model's optimizer.
        receive: function of a list of (gradient, variable) and the optimizer's own
            `apply_gradients`, which it calls with such a list.

    Example:

    >>> w = keras.Variable([1.0])
    >>> sgd = keras.optimizers.SGD(1.0)
    >>> with intercepted(sgd, lambda pairs, apply: apply([(2 * g, v) for g, v in pairs])):
    ...     _ = sgd.apply_gradients([(tf.constant([0.25]), w)])
    >>> w.numpy().tolist()
    [0.5]
    """
    apply = optimizer.apply_gradients
    compat.replace_methods(optimizer, apply_gradients=lambda pairs: receive(list(pairs), apply))
    try:
        yield
    finally:
        compat.restore_methods(optimizer, "apply_gradients")
