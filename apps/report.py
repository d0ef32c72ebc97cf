"""What finished runs found: accuracy, sparsity, FLOPs and the file.

    spfde report FOLDER...

The folders are those of runs of `spfde train`.
"""

import dataclasses
import sys
from collections.abc import Sequence

from . import program, results


@dataclasses.dataclass(frozen=True)
class Options(program.Options):
    """The options of the program."""

    folders: tuple[str, ...] = program.option(
        (), "folders of finished runs", several=str, positional=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.folders:
            raise ValueError("At least one folder of a finished run is needed. Received: none")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status, as of `program.run`."""
    return program.run(_print_results, Options, __doc__, arguments)


def _print_results(options: Options) -> None:
    print("\n\n".join(f"{folder}\n{_table(folder)}" for folder in options.folders))


def _table(folder: str) -> str:
    found = results.read(folder)
    try:
        return results.table(found)
    except KeyError as missing:
        raise ValueError(
            f"A run must be one of this version. Received: {folder}, whose results.json has no "
            f"{missing}"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
