"""What the benchmarks share: where files are run, how they were measured, and the tables."""

import dataclasses
import sys
from collections.abc import Iterable, Sequence

from apps.program import Options
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


def settings(options: Options) -> dict:
    """Returns the options that say what was measured, which is all but the file to write."""
    return {name: value for name, value in dataclasses.asdict(options).items() if name != "json"}


def check_installed(runtimes: Iterable[str]) -> tuple[str, ...]:
    """Returns names of runtimes of the mobile kit, if all are installed.

    Raises:
        ValueError: if one is not.
    """
    names, there = tuple(runtimes), available_runtimes()
    if missing := [name for name in names if name not in there]:
        raise ValueError(f"not installed: {', '.join(missing)}. Run `make mobile-kit`")
    return names
