"""Writes what was measured into docs/: the tables of its pages, and README's picture.

    python benchmarks/pages.py

A table stands between two comments of a page, of which the first one says what it is:
`table: NAME`, one of `evidence_tables.TABLES`, from benchmarks/results/evidence; or
`measured: FILE TABLE`, a table of the benchmark whose results are benchmarks/results/FILE.json,
with its command above; or `counted: FILE SPARSITY`, which `spfde costs --json` has written there.
The rest of a page stays as it is.
"""

import importlib
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import report
from benchmarks.evidence import ROOT
from benchmarks.evidence_tables import EQUAL, METHODS, TABLES, Found, read

NAMES = ("evidence.md", "benchmarks.md", "schemes.md", "architectures.md", "reliability.md")
PAGES = tuple(ROOT / "docs" / name for name in NAMES)
PICTURE = ROOT / "docs" / "results.png"
RESULTS = ROOT / "benchmarks" / "results"


def filled(page: str, found: Mapping[str, Found]) -> str:
    """Returns a page with its tables as the results have them.

    Args:
        page: the text.
        found: what the runs of the comparison found.
    """

    def table(match: re.Match) -> str:
        start, kind, names, end = match.groups()
        return f"{start}\n\n{makers[kind](*names.split())}\n\n{end}"

    makers: dict[str, Callable[..., str]] = {
        "table": lambda name: TABLES[name](found),
        "measured": measured,
        "counted": counted,
    }
    pattern = r"(<!-- (table|measured|counted): ([\w. ]+) -->).*?(<!-- end -->)"
    return re.sub(pattern, table, page, flags=re.DOTALL)


def measured(file: str, name: str) -> str:
    """Returns a table of a benchmark, and the command that makes it again.

    Args:
        file: of benchmarks/results, without its ending.
        name: of the table.
    """
    found = json.loads((RESULTS / f"{file}.json").read_text())
    script = found["command"].split()[1].removesuffix(".py").replace("/", ".")
    table = importlib.import_module(script).tables(found)[name]
    return f"`{found['command']}`\n\n{table.markdown()}"


def counted(file: str, sparsity: str) -> str:
    """Returns what training costs by each method, as `spfde costs` has counted it.

    Args:
        file: of benchmarks/results, without its ending.
        sparsity: of the rows.
    """
    found = json.loads((RESULTS / f"{file}.json").read_text())["rows"]
    rows = [
        [
            row["method"],
            f"{row['training_flops']:.3e}",
            f"{row['share_of_dense']:.1%}",
            *(_memory(row, column) for column in ("memory_average", "memory_minimum")),
        ]
        for row in found
        if row["sparsity"] in (None, float(sparsity))
    ]
    headings = ["method", "training FLOPs", "of dense", "memory, average", "minimum"]
    return report.Table(headings, rows).markdown()


def _memory(row: Mapping, column: str) -> str:
    against = row[f"{column}_vs_set"]
    beside = f" ({against:+.1%})" if against and abs(against) > 0.001 else ""
    return f"{row[column] / 2**20:.1f} MiB{beside}"


def draw(found: Mapping[str, Found], path: Path) -> None:
    """Draws accuracy over seconds and over FLOPs, a mark for each way of training at 90 %.

    Args:
        found: what was found.
        path: the PNG file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    marks = [("dense", "10_dense", "tab:gray")]
    marks += [(label, f"{name}_90", "tab:blue") for label, name in METHODS.items()]
    marks += [(label, name, "tab:red") for label, name in EQUAL if label.startswith("SpFDE")]
    marks += [(label, name, "tab:cyan") for label, name in EQUAL if label.startswith("EM&S")]
    shown = [mark for mark in marks if mark[1] in found]
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    *panels, key = figure.subplots(1, 3, width_ratios=(4, 4, 2))
    key.axis("off")
    for axes, cost, label in zip(
        panels,
        ("seconds", "flops"),
        ("seconds of training, 2 CPU cores", "training FLOPs"),
        strict=True,
    ):
        for number, (_, run, colour) in enumerate(shown, 1):
            if cost == "seconds" and not found[run].is_timed:
                continue
            at, values = getattr(found[run], cost), found[run].accuracies[:, 0]
            mean = values.mean()
            spread = [[mean - values.min()], [values.max() - mean]]
            axes.errorbar(at, mean, spread, fmt="o", color=colour, capsize=3)
            # Above and below by turns: some are neighbours.
            place = (4, -10 if number % 2 else 3)
            axes.annotate(str(number), (at, mean), place, textcoords="offset points", fontsize=8)
        axes.set_xscale("log")
        axes.margins(x=0.2)
        axes.xaxis.set_minor_formatter(lambda x, _: f"{x:g}" if f"{x:e}"[0] in "25" else "")
        axes.set_xlabel(label)
        axes.grid(alpha=0.3, which="both")
    panels[0].set_ylabel("test accuracy, %")
    for number, (name, _, colour) in enumerate(shown, 1):
        line = f"{number}  {name.replace('EM&S, fewer epochs, ', 'EM&S of the ')}"
        key.text(0, 1 - number / (len(shown) + 1), line, color=colour, fontsize=8)
    FigureCanvasAgg(figure).print_png(path)


def main() -> None:
    """Writes the page and the picture."""
    found = read()
    pages = {page: filled(page.read_text(), found) for page in PAGES}  # all, or none
    for page, text in pages.items():
        page.write_text(text)
    draw(found, PICTURE)


if __name__ == "__main__":
    main()
