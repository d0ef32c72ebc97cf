"""Trains every run of the comparison of methods, each described by a file of flags.

The runs are apps/configs/evidence/*.flags, by their numbers the most telling first, each with
several seeds. A run that was killed goes on where it was, one that is done is not repeated. Each
leaves one file under benchmarks/results/evidence: its results, its settings, and the command that
gives them again. All runs are checked before the first one begins.
"""

import dataclasses
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from apps import finished, finished_analyses, program, provenance  # first: no log of TensorFlow

ROOT = Path(__file__).resolve().parents[1]
FLAGS = Path("apps/configs/evidence")
RESULTS = Path("benchmarks/results/evidence")


@dataclasses.dataclass(frozen=True)
class Options(program.Options):
    """The options of the benchmark."""

    data_dir: str | None = program.option(None, "folder of the prepared tensorflow-datasets")
    only: str = program.option(".*", "regular expression for names of runs, as 10_dense-seed0")
    seeds: int = program.option(3, "how many seeds, from 0 on", least=1)
    check: bool = program.option(False, "check all runs, and train none")
    runs: str = program.option("runs/evidence", "folder for what runs write while they train")


@dataclasses.dataclass(frozen=True)
class Row:
    """One run: a file of flags, and a seed."""

    flags: Path
    seed: int

    @property
    def name(self) -> str:
        """Such as 10_ems_90-seed0."""
        return f"{self.flags.stem}-seed{self.seed}"

    @property
    def result(self) -> Path:
        """The file with what came out."""
        return RESULTS / f"{self.name}.json"

    def arguments(self, data_dir: str | None) -> list[str]:
        """The flags of `spfde train`; the digits need no folder of data."""
        needed = data_dir is not None and "--dataset=digits" not in self.text()
        data = [f"--data_dir={data_dir}"] if needed else []
        return [f"--flagfile={self.flags}", f"--seed={self.seed}", *data]

    def is_done(self) -> bool:
        """Whether there is a result of the same flags."""
        result = ROOT / self.result
        return result.exists() and json.loads(result.read_text())["flags"] == self.text()

    def text(self) -> list[str]:
        """The lines of the file of flags, and of those that it refers to."""
        return list(_lines(self.flags))


def _lines(path: Path) -> Iterator[str]:
    for line in map(str.strip, (ROOT / path).read_text().splitlines()):
        if line.startswith("--flagfile="):
            yield from _lines(Path(line.removeprefix("--flagfile=")))
        elif line and not line.startswith("#"):
            yield line


def rows(only: str = ".*", seeds: int = 3) -> list[Row]:
    """Returns the runs, the most telling first: by the numbers of their files, then by seed."""
    found = sorted(path.relative_to(ROOT) for path in (ROOT / FLAGS).glob("[0-9]*.flags"))
    groups = itertools.groupby(found, lambda path: path.stem.split("_")[0])
    of = [
        Row(path, seed)
        for _, paths in groups
        for seed, path in itertools.product(range(seeds), list(paths))
    ]
    try:
        return [row for row in of if re.search(only, row.name)]
    except re.error as error:
        raise ValueError(
            f"`only` must be a regular expression. Received: {only!r} ({error})"
        ) from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status, as of `program.run`."""
    return program.run(benchmark, Options, __doc__, arguments)


def benchmark(options: Options) -> None:
    """Checks all runs, then trains those that are not done."""
    os.chdir(ROOT)  # files of flags name others from there
    chosen = rows(options.only, options.seeds)
    if not chosen:
        raise ValueError(
            f"`only` must fit names of runs, such as 10_dense-seed0. Received: {options.only!r}, "
            f"which fits none of {options.seeds} seeds"
        )
    todo = [row for row in chosen if not row.is_done()]
    print(f"{len(chosen) - len(todo)} of {len(chosen)} runs are done", file=sys.stderr, flush=True)
    for row in {row.flags: row for row in todo}.values():
        check(row, options)
    if options.check:
        print("the others can be trained", file=sys.stderr)
        return
    RESULTS.mkdir(parents=True, exist_ok=True)
    for number, row in enumerate(todo):
        print(f"{number + 1} of {len(todo)}: {row.name}", file=sys.stderr, flush=True)
        train(row, options)


def check(row: Row, options: Options) -> None:
    """Raises ValueError, naming the run, if it cannot be trained as its flags say."""
    from apps.config import RunConfig
    from apps.training import prepare

    given = row.arguments(options.data_dir)
    folder = Path(options.runs) / "checked"
    try:
        config = program.parse(RunConfig, [*given, f"--output_dir={folder}"])
        prepare(config)
    except ValueError as error:
        raise ValueError(f"{row.flags}: {error}") from None


def train(row: Row, options: Options) -> None:
    """Trains a run, or goes on with it, and writes its result."""
    folder = Path(options.runs) / row.name
    resume = ["--resume"] if (folder / "unfinished").exists() else []
    given = row.arguments(options.data_dir)
    command = [sys.executable, "-m", "apps", "train", *given, f"--output_dir={folder}", *resume]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    results = finished.read(folder)
    for where in ("data_dir", "output_dir"):  # of this machine
        results["config"].pop(where)
    shown = shlex.join(["spfde", "train", *row.arguments(None)])
    about = {"command": shown, "flags": row.text(), "machine": provenance.machine()}
    found = about | {"results": results}
    found["history"] = (folder / "history.csv").read_text().splitlines()
    analyses = folder / finished_analyses.FILE
    if analyses.exists():
        found[finished_analyses.KEY] = json.loads(analyses.read_text())
    program.write_json(str(row.result), found)


if __name__ == "__main__":
    sys.exit(main())
