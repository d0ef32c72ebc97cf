"""Shares that were given as per cent."""

from typing import Any


def percent_hint(value: Any) -> str:
    """Returns what to say behind a number that should be a share; "" if it is no per cent.

    Example:

    >>> percent_hint(90), percent_hint(-1)
    ('; 90 % is 0.9', '')
    """
    is_percent = isinstance(value, (int, float)) and 1 < value < 100
    return f"; {value:g} % is {value / 100:g}" if is_percent else ""
