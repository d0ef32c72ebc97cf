"""What all programs share: options that are flags, and one way to say what is wrong."""

import contextlib
import dataclasses
import functools
import importlib.util
import json
import os
import re
import sys
import types
import typing
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from absl import flags

from . import families
from .errors import Stopped, on_one_line, report
from .flag_help import flag_help, now


def option(
    default: Any,
    help: str | Callable[[], str],
    *,
    choices: Sequence[str] | Callable[[], Sequence[str]] = (),
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
    several: type | None = None,
    read: bool = False,
    written: bool = False,
    ending: str = "",
    positional: bool = False,
    topic: str = "",
) -> Any:
    """Returns a field of `Options`.

    Args:
        default: the value if none is given; None where the type of the field allows it.
        help: str, what `--help` says of it, or a function that returns it.
        choices: the values there are, or a function that returns them; any if empty.
        least: number, the smallest value there is.
        above: number, all values are greater than it.
        most: number, the largest value there is.
        below: number, all values are less than it.
        several: None, or the type of one value of a field that takes several: as a sequence, as
            text with commas between, or just one. Its value is a tuple.
        read: bool, whether it is the path of a file to read.
        written: bool, whether it is the path of a file to write.
        ending: str, what a path must end in; anything if empty.
        positional: bool, whether it is given without a name, behind the flags.
        topic: str, a heading in `--help` for it and the options after it.
    """
    rules = {
        "help": help,
        "choices": choices,
        "least": least,
        "above": above,
        "most": most,
        "below": below,
        "several": several,
        "read": read,
        "written": written,
        "ending": ending,
        "positional": positional,
        "topic": topic,
    }
    return dataclasses.field(default=default, metadata=rules)


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of a program: a dataclass whose fields are made by `option`.

    Raises:
        ValueError: a value that its field does not allow.

    Example:

    >>> @dataclasses.dataclass(frozen=True)
    ... class Timing(Options):
    ...     steps: int = option(15, "timed steps", least=1)
    >>> parse(Timing, ["--steps", "9"])
    Timing(steps=9)
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, rules = getattr(self, field.name), field.metadata
            if value is None:
                continue
            if rules["several"]:
                value = _several(field.name, value, rules["several"])
                object.__setattr__(self, field.name, value)
            several = bool(rules["several"])
            checked = [_checked(field, one) for one in (value if several else [value])]
            object.__setattr__(self, field.name, tuple(checked) if several else checked[0])

    def check_given(self, names: Collection[str]) -> None:
        """Raises `ValueError` for options without an effect, if they were given nevertheless.

        Args:
            names: the options that were given, by flag or in a file of flags, whatever the value.
        """


def text(value: Any) -> str:
    """Returns a value of an option as its flag has it."""
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


Kind = TypeVar("Kind", bound=Options)


def parse(kind: type[Kind], arguments: Sequence[str]) -> Kind:
    """Returns the options that a command line gives, also by `--flagfile=FILE`.

    Args:
        kind: the class of the options.
        arguments: of the command line, without the program's name.

    Raises:
        ValueError: an unknown flag, or a value that cannot be read or is not allowed.
    """
    return _options(kind, *_read(kind, arguments))


def run(
    main: Callable[[Kind], object],
    kind: type[Kind],
    description: str,
    arguments: Sequence[str] | None = None,
) -> int:
    """Runs a program. What is known to go wrong ends it with one line, `error: ...`, on stderr.

    A warning is one line as well, `warning: ...`, without the place in the code.

    Args:
        main: the program, a function of its options. Of what it raises, ValueError, RuntimeError,
            OSError and ImportError are for the user to read.
        kind: the class of its options.
        description: what `--help` prints above the flags.
        arguments: of the command line, without the program's name; by default this process's.

    Returns:
        The exit status: 0, `errors.FAILED`, `errors.MISUSED` or `errors.STOPPED`.
    """
    try:
        values, rest = _read(kind, sys.argv[1:] if arguments is None else arguments)
        if values.help:
            print(description, flag_help(kind, text), sep="\n")
        else:
            with warnings.catch_warnings():
                warnings.showwarning = _show  # type: ignore[assignment]
                main(_options(kind, values, rest))
        sys.stdout.flush()  # so that what is wrong with it shows here
    except (ValueError, RuntimeError, OSError, ImportError, Stopped) as error:
        return report(error)
    return 0


def _show(message: Warning | str, *_: Any) -> None:
    print("warning:", on_one_line(message), file=sys.stderr)


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Writes a value as JSON; a file that is there already stays until the new one is whole."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a text; a file that is there already stays until the new one is whole."""
    with _library("files").replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def _several(name: str, given: Any, kind: type) -> tuple:
    parts = given.split(",") if isinstance(given, str) else given
    parts = parts if isinstance(parts, (list, tuple)) else [parts]
    try:
        if kind is not str:
            parts = [_plain(part) for part in parts]
        return tuple(kind(part.strip() if isinstance(part, str) else part) for part in parts)
    except ValueError:
        raise ValueError(
            f"`{name}` must be numbers separated by commas. Received: {text(given)}"
        ) from None


def _plain(text: Any) -> Any:
    """A number as text, which Python would also read with underscores and in other digits."""
    if isinstance(text, str) and ("_" in text or not text.isascii()):
        raise ValueError("a number is written in the digits 0 to 9")
    return text


class _Integer(flags.IntegerParser):
    def convert(self, argument: Any) -> int:
        return super().convert(_plain(argument))


class _Float(flags.FloatParser):
    def convert(self, argument: Any) -> float:
        return super().convert(_plain(argument))


@functools.cache
def _library(name: str) -> types.ModuleType:
    """A module of the library, without TensorFlow, which the library itself imports."""
    spec = importlib.util.spec_from_file_location(name, families.source(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _kind(field: dataclasses.Field) -> type:
    """The type of one value of an option."""
    rules = field.metadata
    kinds = (rules["several"],) if rules["several"] else typing.get_args(field.type)
    return next(kind for kind in kinds or (field.type,) if kind is not type(None))


def _checked(field: dataclasses.Field, value: Any) -> Any:
    """Returns one value of an option; raises `ValueError` if it must not have that."""
    name, rules, kind = field.name, field.metadata, _kind(field)
    if kind is bool:
        return _library("checks").switch(name, value)
    if kind in (int, float):
        limits = {limit: rules[limit] for limit in ("least", "above", "most", "below")}
        given = {limit: value for limit, value in limits.items() if value is not None}
        check = _library("checks").whole if kind is int else _library("checks").number
        return check(name, value, **given)
    choices = now(rules["choices"])
    if choices and value not in choices:
        raise ValueError(f"`{name}` must be one of {', '.join(choices)}. Received: {value}")
    if rules["read"] and not os.path.isfile(value):
        raise ValueError(f"`{name}` must be an existing file. Received: {value}")
    if not str(value).endswith(rules["ending"]):
        raise ValueError(f"`{name}` must end in {rules['ending']}. Received: {value}")
    if rules["written"]:
        path = Path(value)
        if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
            raise ValueError(
                f"`{name}` must be a file in a folder that can be written. Received: {value}"
            )
    return value


def _read(kind: type[Options], arguments: Sequence[str]) -> tuple[flags.FlagValues, list[str]]:
    """The values of the flags, and what stands on the command line beside them."""
    # Not absl's global flags: several programs may run in one process.
    values = flags.FlagValues()
    flags.DEFINE_boolean("help", False, "print the flags", short_name="h", flag_values=values)
    for field in dataclasses.fields(kind):
        if not field.metadata["positional"]:
            _define(field, values)
    try:
        return values, values(["program", *arguments])[1:]
    except flags.CantOpenFlagFileError as error:
        path = getattr(error.__context__, "filename", "")
        raise ValueError(f"`flagfile` must be a file that can be read. Received: {path}") from None
    except flags.Error as error:
        raise ValueError(str(error)) from None


def _define(field: dataclasses.Field, values: flags.FlagValues) -> None:
    rules = field.metadata
    kind = str if rules["several"] else _kind(field)
    default = field.default if kind is not str or field.default is None else text(field.default)
    if kind is bool:
        flags.DEFINE_boolean(field.name, default, "", flag_values=values)
        return
    parser = {int: _Integer, float: _Float, str: flags.ArgumentParser}[kind]()
    serializer = flags.ArgumentSerializer()
    flags.DEFINE(parser, field.name, default, "", flag_values=values, serializer=serializer)


def _options(kind: type[Kind], values: flags.FlagValues, rest: list[str]) -> Kind:
    given = {}
    for field in dataclasses.fields(kind):
        if not field.metadata["positional"]:
            given[field.name] = values[field.name].value
        elif field.metadata["several"]:
            given[field.name], rest = rest, []
        elif rest:
            given[field.name], *rest = rest
    if rest:
        raise ValueError(f"arguments must be flags, as --name=value. Received: {' '.join(rest)}")
    options = kind(**given)
    options.check_given({name for name in given if name in values and values[name].present})
    return options


@contextlib.contextmanager
def called(**names: str) -> Iterator[None]:
    """Has errors about arguments of the library name the flags that these were given by.

    Args:
        **names: the flag's name for an argument's.

    Example:

    >>> with called(fraction="sieve_fraction"):
    ...     raise ValueError("`fraction` must be a share")
    Traceback (most recent call last):
    ValueError: `sieve_fraction` must be a share
    """
    try:
        yield
    except ValueError as error:
        said = re.sub(r"`(\w+)`", lambda found: f"`{names.get(found[1], found[1])}`", str(error))
        raise ValueError(said) from None
