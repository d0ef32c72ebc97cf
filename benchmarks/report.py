"""How the benchmarks print and store what they measured."""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from spfde_keras.masking import check_sparsity


def json_path(text: str) -> Path:
    """Argument type of `--json`: a file in a directory that can be written.

    Raises:
        argparse.ArgumentTypeError: if there is no such directory, or it is read-only.
    """
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(
            f"must be a file in an existing, writable directory. Received: {text}"
        )
    return path


def count(text: str) -> int:
    """Argument type of counts: an integer that is at least 1.

    Raises:
        argparse.ArgumentTypeError: if it is not.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be an integer of at least 1. Received: {text}")
    return int(text)


def sparsity(text: str) -> float:
    """Argument type of `--sparsity`: a number in [0, 1).

    Raises:
        argparse.ArgumentTypeError: if it is not.
    """
    try:
        return check_sparsity(float(text))
    except ValueError:
        message = f"must be a number in [0, 1). Received: {text}"
        raise argparse.ArgumentTypeError(message) from None


def print_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints aligned columns; the first to the left, the others to the right."""
    table = [headers, *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for first, *others in table:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        print("  ".join([first.ljust(widths[0]), *cells]))
    sys.stdout.flush()


def write_json(path: Path, value: dict) -> None:
    """Writes `value` beside `path` first, so that `path` is never half written."""
    partial = path.with_name(f"{path.name}.tmp")
    partial.write_text(json.dumps(value, indent=2) + "\n")
    os.replace(partial, path)
