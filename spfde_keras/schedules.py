"""Numbers over the time of training, which runs from 0 to 1."""

import math
from collections.abc import Sequence
from typing import Any

from spfde_keras import checks
from spfde_keras.configurable import Configurable
from spfde_keras.registry import Registry


class Schedule(Configurable):
    """A number over time: `schedule(t)` with t in [0, 1], the fraction of training done."""

    def __call__(self, t: float) -> float:
        raise NotImplementedError

    def get_config(self) -> dict:
        return {name: getattr(self, name) for name in vars(self)}


ScheduleLike = Schedule | float | str | dict
"""A schedule, a number that holds all the time, a name, or a configuration."""


def _constant(identifier: Any) -> Schedule | None:
    try:
        return Constant(identifier)
    except ValueError:
        return None


REGISTRY = Registry("schedule", Schedule, parse=_constant, also="a number")
get, names, register = REGISTRY.get, REGISTRY.names, REGISTRY.register


@register("constant")
class Constant(Schedule):
    """The same `value` all the time.

    Example:

    >>> Constant(0.3)(0.5)
    0.3
    """

    def __init__(self, value: float):
        self.value = checks.number("value", value)

    def __call__(self, t: float) -> float:
        return self.value


@register("step")
class Step(Schedule):
    """`values[i]` from `boundaries[i - 1]` on.

    Args:
        values: sequence of floats.
        boundaries: increasing fractions of training, one fewer than `values`.

    Raises:
        ValueError: if the lengths do not fit or boundaries do not increase.

    Example:

    >>> Step((0.05, 0.025, 0.0), (0.5, 0.75))(0.5)
    0.025
    """

    def __init__(self, values: Sequence[float], boundaries: Sequence[float]):
        self.values = checks.each(checks.number, "values", values, "a list of numbers")
        self.boundaries = checks.each(
            checks.number, "boundaries", boundaries, "a list of numbers in [0, 1]", least=0, most=1
        )
        if len(self.values) != len(self.boundaries) + 1:
            raise ValueError(
                "`values` must have one entry more than `boundaries`. Received: "
                f"values={self.values}, boundaries={self.boundaries}"
            )
        if self.boundaries != sorted(set(self.boundaries)):
            raise ValueError(f"`boundaries` must increase. Received: {self.boundaries}")

    def __call__(self, t: float) -> float:
        return self.values[sum(reached(t, boundary) for boundary in self.boundaries)]


@register("polynomial")
class Polynomial(Schedule):
    """From `initial` to `final` between times `begin` and `end`, as (1 - progress) ** power.

    Args:
        initial: float, value until `begin`.
        final: float, value from `end` on.
        power: float > 0.
        begin: float, fraction of training.
        end: float, fraction of training, larger than `begin`.

    Raises:
        ValueError: if `begin` and `end` are out of order or `power` is not positive.

    Example:

    >>> Polynomial(1.0, 0.0, power=1)(0.25)
    0.75
    """

    def __init__(
        self,
        initial: float,
        final: float,
        power: float = 1.0,
        begin: float = 0.0,
        end: float = 1.0,
    ):
        self.initial = checks.number("initial", initial)
        self.final = checks.number("final", final)
        self.power = checks.number("power", power, above=0)
        self.begin, self.end = _span(begin, end)

    def __call__(self, t: float) -> float:
        left = 1 - _progress(t, self.begin, self.end)
        return self.final + (self.initial - self.final) * left**self.power


@register("cubic")
class Cubic(Polynomial):
    """A `Polynomial` of power 3, the ramp of gradual pruning (Zhu & Gupta, 2017).

    Example:

    >>> Cubic(1.0, 0.0)(0.5)
    0.125
    """

    def __init__(self, initial: float, final: float, begin: float = 0.0, end: float = 1.0):
        super().__init__(initial, final, 3.0, begin, end)

    def get_config(self) -> dict:
        config = super().get_config()
        config.pop("power")
        return config


@register("cosine")
class Cosine(Schedule):
    """From `initial` to `final` between times `begin` and `end` on half a cosine.

    Args:
        initial: float, value until `begin`.
        final: float, value from `end` on.
        begin: float, fraction of training.
        end: float, fraction of training, larger than `begin`.

    Raises:
        ValueError: if `begin` and `end` are out of order.

    Example:

    >>> round(Cosine(0.3, 0.0)(0.5), 3)
    0.15
    """

    def __init__(self, initial: float, final: float = 0.0, begin: float = 0.0, end: float = 1.0):
        self.initial = checks.number("initial", initial)
        self.final = checks.number("final", final)
        self.begin, self.end = _span(begin, end)

    def __call__(self, t: float) -> float:
        wave = (1 + math.cos(math.pi * _progress(t, self.begin, self.end))) / 2
        return self.final + (self.initial - self.final) * wave


def reached(t: float, boundary: float) -> bool:
    """Returns whether time `t` has come to `boundary`, both fractions of training.

    A quotient of epochs must reach a fraction that it equals on paper, rounding or not.

    Example:

    >>> reached(0.1 + 0.2, 0.3), reached(0.3, 0.1 + 0.2), reached(0.29, 0.3)
    (True, True, False)
    """
    return t >= boundary - 1e-9


def share(name: str, identifier: ScheduleLike) -> Schedule:
    """Returns the `Schedule` given as argument `name`, whose values must be in [0, 1].

    Raises:
        ValueError: if it is no schedule, or leaves [0, 1] at any percent of training.
    """
    schedule = get(identifier, argument=name)
    values = [schedule(percent / 100) for percent in range(101)]
    if not all(0 <= value <= 1 for value in values):  # NaN neither
        raise ValueError(
            f"`{name}` must be in [0, 1] throughout training. Received: values from "
            f"{min(values):g} to {max(values):g}"
        )
    return schedule


def _span(begin: float, end: float) -> tuple[float, float]:
    first, last = checks.number("begin", begin), checks.number("end", end)
    if not first < last:
        raise ValueError(f"`begin` must be before `end`. Received: begin={begin}, end={end}")
    return first, last


def _progress(t: float, begin: float, end: float) -> float:
    return min(1.0, max(0.0, (t - begin) / (end - begin)))
