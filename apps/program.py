"""What all programs share: options that are flags, and one way to say what is wrong."""

import dataclasses
import json
import os
import sys
import typing
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from absl import flags

from .errors import Stopped, on_one_line, report
from .flag_help import flag_help, now


def option(
    default: Any,
    help: str | Callable[[], str],
    *,
    choices: Sequence[str] | Callable[[], Sequence[str]] = (),
    least: float | None = None,
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
            for one in value if rules["several"] else [value]:
                _check(field.name, one, rules)


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
    from spfde_keras.files import replacing  # with TensorFlow, for which `--help` need not wait

    with replacing(path) as beside:
        beside.write_text(json.dumps(value, indent=2) + "\n")


def _several(name: str, given: Any, kind: type) -> tuple:
    parts = given.split(",") if isinstance(given, str) else given
    parts = parts if isinstance(parts, (list, tuple)) else [parts]
    try:
        return tuple(kind(part.strip() if isinstance(part, str) else part) for part in parts)
    except ValueError:
        raise ValueError(
            f"`{name}` must be numbers separated by commas. Received: {text(given)}"
        ) from None


def _check(name: str, value: Any, rules: Mapping) -> None:
    """Raises `ValueError` if an option must not have this value."""
    least, below, choices = rules["least"], rules["below"], now(rules["choices"])
    if choices and value not in choices:
        raise ValueError(f"`{name}` must be one of {', '.join(choices)}. Received: {value}")
    if least is not None and not value >= least:
        raise ValueError(f"`{name}` must be at least {least}. Received: {value}")
    if below is not None and not value < below:
        percent = f"; {value:g} % is {value / 100:g}" if below == 1 < value < 100 else ""
        raise ValueError(f"`{name}` must be less than {below}. Received: {value}{percent}")
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
    types = (str,) if rules["several"] else typing.get_args(field.type) or (field.type,)
    kind = next(t for t in types if t is not type(None))
    define = {
        bool: flags.DEFINE_boolean,
        int: flags.DEFINE_integer,
        float: flags.DEFINE_float,
        str: flags.DEFINE_string,
    }[kind]
    default = field.default if kind is not str or field.default is None else text(field.default)
    define(field.name, default, "", flag_values=values)


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
    return kind(**given)
