"""What finished runs found: accuracy, sparsity, FLOPs and the file.

    spfde report FOLDER...

The folders are those of runs of `spfde train`.
"""

import sys
from collections.abc import Sequence

from . import finished, program


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status, as of `program.run`."""
    return program.run(_print_results, finished.Finished, __doc__, arguments)


def _print_results(options: finished.Finished) -> None:
    print("\n\n".join(f"{folder}\n{_table(folder)}" for folder in options.folders))


def _table(folder: str) -> str:
    found = finished.read(folder)
    try:
        return finished.table(found)
    except KeyError as missing:
        raise ValueError(
            f"A run must be one of this version. Received: {folder}, whose results.json has no "
            f"{missing}"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
