"""What finished runs found, as tables, or as one page with charts.

    spfde report RUN... [--html=FILE]

The runs are folders of `spfde train`, or files of benchmarks/results/evidence. Those that differ in
their seed alone are taken together on the page.
"""

import dataclasses
import sys
from collections.abc import Sequence

from . import finished, program


@dataclasses.dataclass(frozen=True)
class Options(finished.Finished):
    """The options of the program."""

    html: str | None = program.option(
        None,
        "write one page to this file, instead of printing tables",
        written=True,
        ending=".html",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status, as of `program.run`."""
    return program.run(_report, Options, __doc__, arguments)


def _report(options: Options) -> None:
    if options.html:
        from .report_page import page  # with NumPy, for which `--help` need not wait

        program.write_text(options.html, page(options.folders))
    else:
        tables = ((folder, finished.read(folder)) for folder in options.folders)
        print("\n\n".join(f"{folder}\n{finished.table(found)}" for folder, found in tables))


if __name__ == "__main__":
    sys.exit(main())
