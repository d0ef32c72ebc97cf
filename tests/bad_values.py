"""Values that no argument takes, and which values an argument of some kind may take."""

import dataclasses
import math
import operator
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

VALUES = {
    "None": None,
    "True": True,
    "numpy False": np.False_,
    "0": 0,
    "1": 1,
    "-1": -1,
    "0.5": 0.5,
    "1.0": 1.0,
    "2.5": 2.5,
    "-0.1": -0.1,
    "nan": math.nan,
    "numpy nan": np.float32(np.nan),
    "0-d nan": np.array(np.nan),
    "inf": math.inf,
    "-inf": -math.inf,
    "huge int": 10**30,
    "huge float": 1e300,
    "complex": 1j,
    "empty text": "",
    "text": "x",
    "number as text": "1",
    "underscored": "1_0",
    "other digits": "٣",
    "bytes": b"1",
    "empty list": [],
    "list": [1],
    "list of text": ["x"],
    "list of None": [None],
    "empty tuple": (),
    "empty dict": {},
    "dict": {"a": 1},
    "configuration": {"class_name": "x"},
    "other configuration": {"class_name": "Dense", "module": "keras.layers", "config": {}},
    "set": {1},
    "object": object(),
    "class": int,
    "function": len,
    "array": np.array([0.1, 0.2]),
    "array of text": np.array("x"),
    "path": pathlib.Path("x"),
    "null": "a\0b",
}

A_FEW = {name: VALUES[name] for name in ("True", "nan", "2.5", "text", "list of text", "object")}
"""For classes that share their checks."""


@dataclasses.dataclass
class Case:
    """A callable, arguments that it takes, and for each which values it may take instead."""

    call: Callable
    arguments: dict[str, tuple[Any, Callable[[Any], bool]]]
    values: dict[str, Any] = dataclasses.field(default_factory=lambda: VALUES)

    def tries(self) -> Iterator[tuple[str, str, Any]]:
        """Gives argument, name of the value and value, for all that must be refused."""
        for argument, (_, allowed) in self.arguments.items():
            for name, value in self.values.items():
                if not allowed(value):
                    yield argument, name, value

    def outcome(self, argument: str, value: Any) -> str:
        """Says what became of a bad value: "clear", "silent", or the error that is not clear."""
        given = {name: valid for name, (valid, _) in self.arguments.items()} | {argument: value}
        try:
            self.call(**given)
        except (ValueError, TypeError) as error:
            # As Keras names them, whose `load_model` says what is no model.
            if re.search(rf"`{argument}`|\b{argument}=", str(error)):
                return "clear"
            return f"{type(error).__name__}: {str(error)[:200]}"
        except Exception as error:
            return f"{type(error).__name__}: {str(error)[:200]}"
        return "silent"


# What may be accepted.


def number(value: Any) -> bool:
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    real = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    return real and math.isfinite(value)


def within(low: float, high: float, ends: str = "[]") -> Callable[[Any], bool]:
    first = operator.ge if ends[0] == "[" else operator.gt
    last = operator.le if ends[1] == "]" else operator.lt
    return lambda value: number(value) and first(value, low) and last(value, high)


def whole(least: int, most: int = 2**63 - 1) -> Callable[[Any], bool]:
    return lambda value: number(value) and isinstance(value, int) and least <= value <= most


def true_or_false(value: Any) -> bool:
    return isinstance(value, (bool, np.bool_))


def nothing(value: Any) -> bool:
    return value is None


def never(value: Any) -> bool:
    return False


def anything(value: Any) -> bool:
    return True


def either(*rules: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: any(rule(value) for rule in rules)


def text(value: Any) -> bool:
    return isinstance(value, str)


def folder(value: Any) -> bool:
    return isinstance(value, (str, pathlib.Path)) and str(value) not in ("", "a\0b")


def among(*values: Any) -> Callable[[Any], bool]:
    return lambda value: any(type(value) is type(one) and value == one for one in values)


def empty(value: Any) -> bool:
    return isinstance(value, (list, tuple, dict)) and not value
