"""What the benchmarks share: where files are run, the tables, and the results with their origin."""

import dataclasses
import inspect
import json
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from apps import program
from apps.program import Options
from apps.provenance import provenance
from spfde_keras.export.sparse_mode import available_runtimes


@dataclasses.dataclass(frozen=True)
class Table:
    """What is shown of results, on a terminal and in documentation.

    Args:
        headings: strs, one for each column.
        rows: strs, one for each column, in each.
        title: str, what was measured; printed above.
        notes: strs, what columns mean and what stands out; lines printed below.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    notes: Sequence[str] = ()

    def aligned(self) -> str:
        """Returns it for a terminal: the first column to the left, the others to the right."""
        table = [self.headings, *self.rows]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [self.title] if self.title else []
        for first, *others in table:
            cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
            lines.append("  ".join([first.ljust(widths[0]), *cells]))
        return "\n".join([*lines, *self.notes])

    def markdown(self) -> str:
        """Returns it for documentation, without title and notes."""
        table = [self.headings, ["---"] * len(self.headings), *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in table)


ORIGIN = provenance()
"""Of the code as a benchmark begins with it, whatever becomes of the files while it measures."""

Tables = Callable[[Mapping], Mapping[str, Table]]
"""Makes the tables of a benchmark, by their names, from what is written to its file."""


def finish(
    options: Options, results: Mapping, tables: Tables, leave_out: Iterable[str] = ()
) -> None:
    """Prints the tables of what was measured, and writes it if a file is wanted.

    The file holds all that it takes to measure it again, too.

    Args:
        options: of the benchmark; `options.json` is the file, None for no file.
        results: what was measured.
        tables: the `tables` of the benchmark.
        leave_out: as for `settings`.
    """
    found = settings(options, leave_out)
    found |= {name: _PLACES[name] for name in _PLACES.keys() & found.keys() if found[name]}
    about = {"command": _command(options, found), "settings": found}
    written = about | ORIGIN | dict(results)
    # As they are read from the file.
    print("\n\n".join(t.aligned() for t in tables(json.loads(json.dumps(written))).values()))
    sys.stdout.flush()
    path = getattr(options, "json", None)
    if path is not None:
        program.write_json(path, written)


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


def percent(share: float) -> str:
    """Returns a share in per cent, not rounded.

    Example:

    >>> percent(0.9), percent(0.985)
    ('90%', '98.5%')
    """
    return f"{100 * share:g}%"


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


def check_installed(runtimes: Iterable[str]) -> tuple[str, ...]:
    """Returns names of runtimes of the mobile kit, if all are installed.

    Raises:
        ValueError: if one is not.
    """
    names, there = tuple(runtimes), available_runtimes()
    if missing := [name for name in names if name not in there]:
        raise ValueError(f"not installed: {', '.join(missing)}. Run `make mobile-kit`")
    return names
