"""Finished runs of any method in one table: mean and standard deviation over seeds.

    spfde compare FOLDER... [--json=FILE]

The folders are those of runs of `spfde train`; a file of benchmarks/results/evidence is a run, too.
Runs that differ in their seed alone are one row.
"""

import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from . import finished, program
from .config import NOT_OF_TRAINING

# Options in which the runs of a row may differ.
_FREE = ("seed", *NOT_OF_TRAINING)


@dataclasses.dataclass(frozen=True)
class Options(finished.Finished):
    """The options of the program."""

    json: str | None = program.option(None, "file to write the table to", written=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status, as of `program.run`."""
    return program.run(_print_comparison, Options, __doc__, arguments)


def _print_comparison(options: Options) -> None:
    table = compare(options.folders)
    print(render(table))
    if options.json:
        program.write_json(options.json, table)


def compare(folders: Sequence[str | os.PathLike]) -> dict:
    """Returns how accurate runs are and what they cost, seeds taken together.

    Args:
        folders: those of finished runs, of any methods and settings.

    Returns:
        A dictionary: "config" (the options all runs share), and "rows", each with "options" (those
        in which runs differ), "runs" (their folders), "subnet" (its name; "" where there is one
        only), "n" (how many runs),
        "test_accuracy" and "test_accuracy_std" (over runs; the standard deviation of a sample,
        None for one run), "sparsity", "flops_share" and "training_time_s" (means; of runs on
        several machines the last is None). "machines" are those of all runs, in words.

    Raises:
        ValueError: a folder without results, two runs of the same options and seed, or a dataset
            that differs from run to run.
    """
    runs = {str(folder): finished.read(folder) for folder in folders}
    finished.check_same_data(runs)
    configs = [run["config"] for run in runs.values()]
    names = [name for name in dict.fromkeys(n for c in configs for n in c) if name not in _FREE]
    differing = [name for name in names if len({str(c.get(name)) for c in configs}) > 1]
    groups: dict[tuple[str, ...], dict[str, str]] = {}
    for folder, run in runs.items():
        key = tuple(str(run["config"].get(name)) for name in differing)
        seeds = groups.setdefault(key, {})
        seed = str(run["config"].get("seed"))
        if seed in seeds:
            raise ValueError(
                f"Runs must differ in their seed or another option. Received: {folder} and "
                f"another one of seed {seed}"
            )
        seeds[seed] = folder
    rows = []
    for group in groups.values():
        found = [runs[folder] for folder in group.values()]
        options = {name: found[0]["config"].get(name) for name in differing}
        shown = {"options": options, "runs": list(group.values())}
        rows += [shown | row for row in _rows(found)]
    shared = {name: configs[0].get(name) for name in names if name not in differing}
    return {"config": shared, "rows": rows, "machines": finished.machines(runs.values())}


def render(table: Mapping) -> str:
    """Returns the result of `compare` as text."""
    rows = table["rows"]
    subnets = any(row["subnet"] for row in rows)
    headings = [
        *rows[0]["options"],
        *(["sub-net"] if subnets else []),
        "n",
        "test accuracy",
        "std",
        "zeros",
        "FLOPs of dense",
        "training time",
    ]
    lines = [headings] + [
        [
            *("unset" if v is None else program.text(v) for v in row["options"].values()),
            *([row["subnet"]] if subnets else []),
            str(row["n"]),
            f"{row['test_accuracy']:.4f}",
            "" if row["test_accuracy_std"] is None else f"{row['test_accuracy_std']:.4f}",
            f"{row['sparsity']:.4f}",
            f"{row['flops_share']:.3f}",
            finished.duration(row["training_time_s"]),
        ]
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    config = table["config"]
    title = ", ".join(f"{name} {config[name]}" for name in ("dataset", "model") if name in config)
    text = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    machines = finished.of_several_machines(table["machines"])
    return "\n".join([f"mean test accuracy over seeds; {title}", "", *text, *machines])


def _rows(runs: Sequence[Mapping]) -> list[dict[str, Any]]:
    """A row for each sub-net of runs that differ in their seed only."""
    names = [subnet["name"] for subnet in runs[0]["subnets"]]
    several = len(names) > 1
    rows = []
    for index, name in enumerate(names):
        found = [run["subnets"][index] if several else run for run in runs]
        accuracies = np.array([one["test_accuracy"] for one in found])
        rows.append(
            {
                "subnet": name if several else "",
                "n": len(runs),
                "test_accuracy": float(accuracies.mean()),
                "test_accuracy_std": float(accuracies.std(ddof=1)) if len(runs) > 1 else None,
                "sparsity": float(np.mean([one["sparsity"] for one in found])),
                "flops_share": float(np.mean([run["flops_share"] for run in runs])),
                "training_time_s": finished.on_one_machine(runs, "training_time_s"),
            }
        )
    return rows


if __name__ == "__main__":
    sys.exit(main())
