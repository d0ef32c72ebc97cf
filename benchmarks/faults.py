"""What becomes of runs of `spfde train` that are killed, stopped, damaged, or out of disk space.

Each fault there is, one after the other, and whether the run that goes on with `--resume` ends as
one that nothing happened to. The table of docs/reliability.md. Needs GCC; for two of the kinds
root, too.
"""

import collections
import dataclasses
import os
import queue
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from apps import program  # first: no log of TensorFlow

# isort: split
from benchmarks import report
from tests.faults.faults import KINDS, MOUNTED, Faults, can_mount


@dataclasses.dataclass(frozen=True)
class Options(program.Options):
    """The options of the benchmark."""

    only: str | None = program.option(None, "faults of one kind", choices=[*KINDS])
    every: int = program.option(1, "every so many of the faults of a kind", least=1)
    jobs: int = program.option(os.cpu_count() or 1, "runs at a time", least=1)
    json: str | None = program.option(None, "file to write the results to", written=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status, as of `program.run`."""
    return program.run(benchmark, Options, __doc__, arguments)


def benchmark(options: Options) -> None:
    """Prints the table and writes the results."""
    with tempfile.TemporaryDirectory() as scratch:
        kinds = [options.only] if options.only else [*KINDS]
        if not can_mount(Path(scratch)):
            if options.only in MOUNTED:
                raise ValueError(f"`only` must be a kind that needs no root. Received: {kinds[0]}")
            print("left out, for they need root: " + ", ".join(MOUNTED), file=sys.stderr)
            kinds = [name for name in kinds if name not in MOUNTED]
        found = {}
        with _workers(options.jobs, Path(scratch)) as workers:
            for name in kinds:
                found[name] = _tried(name, workers, options)
                print(name, found[name], file=sys.stderr, flush=True)
    report.finish(options, {"faults": found}, tables, leave_out=["jobs"])


@contextmanager
def _workers(jobs: int, scratch: Path) -> Iterator["queue.Queue[Faults]"]:
    """As many runs as go at a time, those that are free."""
    workers: queue.Queue[Faults] = queue.Queue()
    with ExitStack() as stack:
        for number in range(jobs):
            (scratch / str(number)).mkdir()
            workers.put(stack.enter_context(closing(Faults(scratch / str(number)))))
        yield workers


def _tried(name: str, workers: "queue.Queue[Faults]", options: Options) -> dict:
    """Tries the faults of a kind; returns how often which became of them, and what was lost."""
    _, fault, tries = KINDS[name]
    first = workers.get()
    chosen = tries(first)[:: options.every]
    workers.put(first)
    with ThreadPoolExecutor(options.jobs) as pool:
        outcomes = [*pool.map(lambda one: _outcome(fault, one, workers), chosen)]
    counts = collections.Counter(outcome for outcome, _ in outcomes)
    return {
        "tries": len(chosen),
        **{outcome: counts[outcome] for outcome in ("equal", "refused", "lost")},
        "others": [
            [*one, *why]
            for one, (outcome, why) in zip(chosen, outcomes, strict=True)
            if outcome != "equal"
        ],
    }


def _outcome(
    fault: Callable[..., str], arguments: tuple, workers: "queue.Queue[Faults]"
) -> tuple[str, list[str]]:
    """What became of a run, and if it was lost why."""
    worker = workers.get()
    try:
        return fault(worker, *arguments), []
    except AssertionError as lost:
        return "lost", [str(lost)[:600]]
    finally:
        workers.put(worker)


def tables(found: Mapping) -> dict[str, report.Table]:
    """The table of faults: a row for each kind."""
    headings = ["fault", "tries", "survived, equal", "survived, refused", "lost"]
    every = found["settings"]["every"]
    beside = f", one in {every}" if every > 1 else ""
    rows = [
        [KINDS[name][0], f"{one['tries']}{beside}"]
        + [str(one[outcome]) for outcome in ("equal", "refused", "lost")]
        for name, one in found["faults"].items()
    ]
    return {"faults": report.Table(headings, rows)}


if __name__ == "__main__":
    sys.exit(main())
