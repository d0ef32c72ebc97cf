"""Schedules as flags have them: a number, or numbers and the times at which they change."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spfde_keras.schedules import Schedule

_RULE = (
    "a number, or numbers and the increasing shares of training from which all but the first "
    "hold, all in [0, 1], as 0.05,0.025,0@0.5625,0.75"
)


def parse(name: str, given: Any) -> tuple[list[float], list[float]]:
    """Returns the values of a schedule, and the times at which it changes to all but the first.

    Args:
        name: the flag.
        given: its value, text or a number.

    Raises:
        ValueError: if it is no schedule.

    Example:

    >>> parse("bound", "0.05,0.025,0@0.5625,0.75")
    ([0.05, 0.025, 0.0], [0.5625, 0.75])
    >>> parse("bound", 0.1)
    ([0.1], [])
    """
    values, at, times = str(given).partition("@")
    try:
        parsed = _numbers(values), _numbers(times) if at else []
    except ValueError:
        parsed = [], []
    first, later = parsed
    fits = len(first) == len(later) + 1 and later == sorted(set(later))
    if not fits or not all(0 <= number <= 1 for number in [*first, *later]):
        raise ValueError(f"`{name}` must be {_RULE}. Received: {given}")
    return parsed


def schedule(name: str, given: Any) -> "Schedule":
    """Returns the schedule that a flag has.

    Raises:
        ValueError: if it is none.
    """
    from spfde_keras.schedules import Constant, Step  # with TensorFlow

    values, times = parse(name, given)
    return Step(values, times) if times else Constant(values[0])


def _numbers(text: str) -> list[float]:
    if "_" in text or not text.isascii():
        raise ValueError("a number is written in the digits 0 to 9")
    return [float(part) for part in text.split(",")]
