"""Sparse training in Keras.

    spfde PROGRAM [--flag=value ...] [argument ...]

`spfde PROGRAM --help` says more of a program:
"""

import ast
import importlib
import importlib.resources
import sys
from collections.abc import Sequence

from .errors import report

PROGRAMS = {
    "train": "train",
    "report": "report",
    "compare": "compare_runs",
    "compare_subnets": "compare_subnets",
    "costs": "costs",
    "convert": "convert",
    "inspect": "inspect_tflite",
}
"""The programs by name: modules beside this one, of which only the one that runs is imported."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a program by its name; returns its exit status, as of `program.run`.

    Args:
        arguments: of the command line, without the command's name; by default this process's.
    """
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        if name in ("--help", "-h"):
            print((__doc__ or "").strip(), *map(_described, PROGRAMS), sep="\n", flush=True)
            return 0
        if name not in PROGRAMS:
            known = ", ".join(PROGRAMS)
            raise ValueError(f"`spfde` must be followed by one of {known}. Received: {name}")
        return importlib.import_module(f".{PROGRAMS[name]}", __package__).main(rest)
    except (ValueError, ImportError, BrokenPipeError) as error:
        return report(error)


def _described(name: str) -> str:
    """The name of a program and the first line of its text, read without importing it."""
    source = importlib.resources.files(__package__).joinpath(f"{PROGRAMS[name]}.py").read_text()
    text = ast.get_docstring(ast.parse(source)) or ""
    return f"  {name:<17}{text.splitlines()[0]}"


if __name__ == "__main__":
    sys.exit(main())
