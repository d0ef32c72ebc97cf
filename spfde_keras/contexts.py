"""What holds for a while, for one thread alone."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")


@contextlib.contextmanager
def holding(variable: ContextVar[T], value: T) -> Iterator[None]:
    """Gives a variable a value for as long as the context lasts.

    Example:

    >>> import contextvars
    >>> depth = contextvars.ContextVar("depth", default=0)
    >>> with holding(depth, 2):
    ...     inside = depth.get()
    >>> inside, depth.get()
    (2, 0)
    """
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)
