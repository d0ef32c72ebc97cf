"""What `--help` says of the options of a program: by topic, each with its default in front."""

import dataclasses
import shutil
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

_INDENT, _COLUMN = 2, 30  # of the flags, and of what is said of them


def flag_help(kind: type, text: Callable[[Any], str]) -> str:
    """Returns the flags of a program as text, `--name=default` and what each is for.

    Args:
        kind: a class of options, `program.Options`.
        text: function that returns a value as its flag has it.
    """
    width = min(100, max(60, shutil.get_terminal_size((100, 24)).columns))
    fields = [field for field in dataclasses.fields(kind) if not field.metadata["positional"]]
    return "\n".join(line for field in fields for line in _lines(field, text, width))


def now(given: Any) -> Any:
    """A rule of a field, which may be a function: what is registered later counts, too."""
    return given() if callable(given) else given


def _lines(field: dataclasses.Field, text: Callable[[Any], str], width: int) -> Iterator[str]:
    rules, default = field.metadata, field.default
    if rules["topic"]:
        yield f"\n{rules['topic']}"
    value = "" if default is None else text(default)
    flag = f"--{field.name}={value.lower() if isinstance(default, bool) else value}"
    said = now(rules["help"])
    if choices := now(rules["choices"]):
        said += f" ({', '.join(choices)})"
    first, *rest = textwrap.wrap(said, width - _COLUMN)
    flag = f"{' ' * _INDENT}{flag} "
    if len(flag) > _COLUMN:
        yield flag.rstrip()
        flag = ""
    yield f"{flag:<{_COLUMN}}{first}"
    yield from (" " * _COLUMN + line for line in rest)
