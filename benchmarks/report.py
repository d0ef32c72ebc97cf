"""What the benchmarks share: where files are run, the tables, and the results with their origin."""

import dataclasses
import inspect
import os
import platform
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from apps import program
from apps.program import Options
from apps.provenance import provenance
from spfde_keras.export.sparse_mode import available_runtimes


def print_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints aligned columns; the first to the left, the others to the right."""
    table = [headers, *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for first, *others in table:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        print("  ".join([first.ljust(widths[0]), *cells]))
    sys.stdout.flush()


def print_markdown(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a table for documentation."""
    for row in (headers, ["---"] * len(headers), *rows):
        print(f"| {' | '.join(row)} |")
    sys.stdout.flush()


_PLACES = {"data_dir": "DIR", "run": "RUN"}
"""Options that name a folder of this machine, and what stands for it in results."""


def settings(options: Options, leave_out: Iterable[str] = ()) -> dict:
    """Returns the options that say what was measured, which is all but the file to write.

    Args:
        options: of the benchmark.
        leave_out: strs, others that do not, such as those for its own child processes.
    """
    fields = dataclasses.asdict(options).items()
    return {name: value for name, value in fields if name not in {"json", *leave_out}}


def write(options: Options, results: Mapping, leave_out: Iterable[str] = ()) -> None:
    """Writes what was measured, and all that it takes to measure it again, if a file is wanted.

    Args:
        options: of the benchmark; `options.json` is the file, None for no file.
        results: what was measured.
        leave_out: as for `settings`.
    """
    path = getattr(options, "json", None)
    if path is None:
        return
    found = settings(options, leave_out)
    found |= {name: _PLACES[name] for name in _PLACES.keys() & found.keys() if found[name]}
    about = {"command": _command(options, found), "settings": found, "machine": machine()}
    program.write_json(path, about | provenance() | dict(results))


def machine() -> dict:
    """Returns what kind of machine this is."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
    }


def _command(options: Options, values: Mapping) -> str:
    """The command line that measures the same, without what is so by default."""
    parts = ["python", f"benchmarks/{Path(inspect.getfile(type(options))).name}"]
    given = [field for field in dataclasses.fields(options) if field.name in values]
    given = [f for f in given if getattr(options, f.name) != f.default]
    named = [f"--{f.name}={program.text(values[f.name])}" for f in given if not _positional(f)]
    behind = [program.text(values[f.name]) for f in given if _positional(f)]
    return shlex.join([*parts, *named, *behind])


def _positional(field: dataclasses.Field) -> bool:
    return bool(field.metadata["positional"])


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    found = re.search("model name\\s*: (.*)", path.read_text()) if path.exists() else None
    return found.group(1) if found else platform.processor()


def check_installed(runtimes: Iterable[str]) -> tuple[str, ...]:
    """Returns names of runtimes of the mobile kit, if all are installed.

    Raises:
        ValueError: if one is not.
    """
    names, there = tuple(runtimes), available_runtimes()
    if missing := [name for name in names if name not in there]:
        raise ValueError(f"not installed: {', '.join(missing)}. Run `make mobile-kit`")
    return names
