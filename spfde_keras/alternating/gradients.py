"""A hook between the computation of gradients and their use."""

import contextlib
import contextvars
from collections.abc import Callable, Iterable, Iterator

import keras

from spfde_keras import compat
from spfde_keras.contexts import holding

Receive = Callable[[list, Callable], None]

# Each replica of a strategy is a thread, and one may end its step while another one is in it.
_receive: contextvars.ContextVar[Receive | None] = contextvars.ContextVar("receive", default=None)


class _Hook:
    """Stands in for an optimizer's `apply_gradients` while anybody receives gradients."""

    def __init__(self, optimizer: keras.optimizers.Optimizer):
        self._apply = optimizer.apply_gradients
        self.users = 0

    def __call__(self, pairs: Iterable) -> None:
        receive = _receive.get()
        if receive is None:
            self._apply(pairs)
        else:
            receive(list(pairs), self._apply)


@contextlib.contextmanager
def intercepted(optimizer: keras.optimizers.Optimizer, receive: Receive) -> Iterator[None]:
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
    hook = optimizer.apply_gradients
    if not isinstance(hook, _Hook):
        hook = _Hook(optimizer)
        compat.replace_methods(optimizer, apply_gradients=hook)
    hook.users += 1
    try:
        with holding(_receive, receive):
            yield
    finally:
        hook.users -= 1
        if not hook.users:
            compat.restore_methods(optimizer, "apply_gradients")
