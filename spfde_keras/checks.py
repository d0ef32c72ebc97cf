"""What arguments may be: one check for each kind of value, so that all of them answer alike.

Each takes the argument's name, in the caller's words, and the value. It returns the value, or
raises "`name` must be RULE. Received: VALUE". Nothing but the standard library is imported:
programs check their flags by the same rules, without waiting for TensorFlow.
"""

import os
import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")

_LONGEST = 200  # characters of what was received
_INT64 = 2**63


def number(
    name: str,
    value: Any,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
    otherwise: str = "",
) -> float:
    """Returns a finite number within limits; a bool is none.

    Args:
        name: str, what the caller calls the argument.
        value: what was given: a number of Python, NumPy, or in an array without axes.
        least, above: None, or the lower limit, which may be reached (`least`) or not (`above`).
        most, below: None, or the upper one.
        otherwise: str, what else the argument may be, for the message.

    Raises:
        ValueError: if it is anything else. Of a share, given as per cent, it says the share.

    Example:

    >>> number("sparsity", 0.9, least=0, below=1)
    0.9
    >>> number("sparsity", 90, least=0, below=1)
    Traceback (most recent call last):
    ValueError: `sparsity` must be a number in [0, 1). Received: 90; 90 % is 0.9
    """
    plain = _plain(value)
    real = isinstance(plain, (int, float)) and not isinstance(plain, bool)
    if (
        real
        and -sys.float_info.max <= plain <= sys.float_info.max
        and (least is None or plain >= least)
        and (above is None or plain > above)
        and (most is None or plain <= most)
        and (below is None or plain < below)
    ):
        return float(plain)
    low, high = (least if above is None else above), (most if below is None else below)
    if low is not None and high is not None:
        ends = ("[" if above is None else "("), ("]" if below is None else ")")
        rule = f"a number in {ends[0]}{low:g}, {high:g}{ends[1]}"
    else:
        rule = "a finite number"
        rule += "" if least is None else f" of at least {least:g}"
        rule += "" if above is None else f" greater than {above:g}"
        rule += "" if most is None else f" of at most {most:g}"
        rule += "" if below is None else f" less than {below:g}"
    hint = f"; {plain:g} % is {plain / 100:g}" if real and high == 1 < plain < 100 else ""
    refuse(name, rule + otherwise, value, hint)


def whole(name: str, value: Any, least: int = 1, below: int = _INT64) -> int:
    """Returns an integer of at least `least` and less than `below`; a bool is none.

    Raises:
        ValueError: if it is anything else.

    Example:

    >>> whole("epochs", 1.5)
    Traceback (most recent call last):
    ValueError: `epochs` must be an integer of at least 1. Received: 1.5
    """
    plain = _plain(value)
    is_whole = isinstance(plain, int) and not isinstance(plain, bool)
    if is_whole and least <= plain < below:
        return plain
    rule = f"an integer of at least {least}"
    if below < _INT64:
        rule += f" and less than {below}"
    elif is_whole and plain >= below:
        rule += " and less than 2**63"
    refuse(name, rule, value)


def seed(value: Any, name: str = "seed") -> int:
    """Returns a seed, an integer of at least 0; raises ValueError for anything else."""
    return whole(name, value, least=0)


def switch(name: str, value: Any) -> bool:
    """Returns a bool; raises ValueError for anything else, numbers included."""
    plain = _plain(value)
    if isinstance(plain, bool):
        return plain
    refuse(name, "True or False", value)


def one_of(name: str, value: Any, names: Collection[str]) -> str:
    """Returns one of some names; raises ValueError for anything else.

    Example:

    >>> one_of("padding", "full", ["valid", "same"])
    Traceback (most recent call last):
    ValueError: `padding` must be one of 'valid', 'same'. Received: 'full'
    """
    if isinstance(value, str) and value in names:
        return value
    refuse(name, f"one of {', '.join(map(repr, names))}", value)


def instance(name: str, value: Any, kind: type[T] | tuple[type[T], ...], rule: str) -> T:
    """Returns an object of a class; raises ValueError for any other, saying the `rule`."""
    if isinstance(value, kind):
        return value
    refuse(name, rule, value)


def function(name: str, value: Any) -> Callable:
    """Returns what can be called; raises ValueError for anything else."""
    if callable(value):
        return value
    refuse(name, "a function", value)


def path(name: str, value: Any, rule: str = "a path") -> str:
    """Returns the path of a file or folder as text; raises ValueError for what cannot be one."""
    if isinstance(value, (str, os.PathLike)):
        text = os.fspath(value)
        if isinstance(text, str) and text and "\0" not in text:
            return text
    refuse(name, rule, value)


def file(name: str, value: Any, rule: str) -> str:
    """Returns the path of a file that is there; raises ValueError for anything else."""
    text = path(name, value, rule)
    if not os.path.isfile(text):
        refuse(name, rule, value)
    return text


def folder(name: str, value: Any) -> str:
    """Returns the path of a folder, there or not; raises ValueError for anything else."""
    rule = "the path of a folder"
    text = path(name, value, rule)
    if os.path.lexists(text) and not os.path.isdir(text):
        refuse(name, rule, value, ", which is none")
    return text


def each(check: Callable[..., T], name: str, value: Any, rule: str, **limits: Any) -> list[T]:
    """Returns the members of a list, tuple or array as a list, after checking each of them.

    Raises:
        ValueError: if it is no list, saying the `rule`, or `check` refuses a member.

    Example:

    >>> each(whole, "input_shape", (32, 0), "a list of sizes")
    Traceback (most recent call last):
    ValueError: `input_shape` must be an integer of at least 1. Received: 0
    """
    listed = hasattr(value, "__len__") and hasattr(value, "__getitem__")
    if (
        listed
        and getattr(value, "ndim", 1) == 1
        and not isinstance(value, (str, bytes, Mapping, type))
    ):
        return [check(name, member, **limits) for member in value]
    refuse(name, rule, value)


def optional(check: Callable[..., T], name: str, value: Any, *rest: Any, **limits: Any) -> T | None:
    """Returns None for None, and otherwise what `check` returns."""
    return None if value is None else check(name, value, *rest, **limits)


def refuse(name: str, rule: str, value: Any, more: str = "") -> NoReturn:
    """Raises the ValueError that says which argument must be what, and is not.

    Args:
        name: str, what the caller calls the argument.
        rule: str, what it must be.
        value: what was given.
        more: str, what to say behind it.
    """
    shown = " ".join(repr(value).split())
    if len(shown) > _LONGEST:
        shown = f"{shown[:_LONGEST]}..."
    raise ValueError(f"`{name}` must be {rule}. Received: {shown}{more}") from None


def _plain(value: Any) -> Any:
    """A number of NumPy, or an array without axes, as one of Python; others as they are."""
    return value.item() if getattr(value, "shape", None) == () and hasattr(value, "item") else value
