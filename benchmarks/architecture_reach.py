"""What sparse training reaches in public architectures, each taken all the way.

Each is made sparse, trained for two epochs on random data with masks, freezing and a sieve, saved,
loaded, made plain again, and exported. The table of docs/architectures.md.
"""

import dataclasses
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from apps import program  # first: no log of TensorFlow

# isort: split
import keras

from benchmarks import report
from tests.architectures import applications, nets, reach

GROUPS = {"examples": nets.EXAMPLES, **applications.groups()}


@dataclasses.dataclass(frozen=True)
class Options(program.Options):
    """The options of the benchmark."""

    group: str = program.option(
        "examples", "architectures of one kind; hub where keras_hub is installed", choices=[*GROUPS]
    )
    only: str = program.option("", "part of a name: those alone")
    json: str | None = program.option(None, "file to write the results to", written=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status, as of `program.run`."""
    return program.run(benchmark, Options, __doc__, arguments)


def benchmark(options: Options) -> None:
    """Prints the table and writes the results."""
    chosen = {name: net for name, net in GROUPS[options.group].items() if options.only in name}
    if not chosen:
        names = ", ".join(GROUPS[options.group])
        raise ValueError(f"`only` must be part of one of {names}. Received: {options.only!r}")
    reached = {name: _reach(name, net) for name, net in chosen.items()}
    report.finish(options, {"reach": reached}, tables)


def _reach(name: str, net: nets.Net) -> dict:
    print(name, file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        try:
            return dataclasses.asdict(reach.go(name, net, Path(folder)))
        except Exception as error:  # of one net; the others are still worth knowing
            return {"failed": f"{type(error).__name__}: {error}"}
        finally:
            keras.utils.clear_session(free_memory=True)


def tables(found: Mapping) -> dict[str, report.Table]:
    """The table of architectures: a row for each."""
    headings = ["model", "masked weights", "blocks, largest", "left dense", "saved as"]
    rows = [[name, *_cells(one)] for name, one in found["reach"].items()]
    return {"models": report.Table(headings, rows)}


def _cells(found: Mapping) -> list[str]:
    if "failed" in found:
        return [found["failed"], "", "", ""]
    dense = (why if n == 1 else f"{why} ({n})" for why, n in found["dense"].items())
    blocks = f"{found['blocks']}, {found['largest']:.0%}"
    return [f"{found['masked']:.0%}", blocks, "; ".join(dense), found["saved"]]


if __name__ == "__main__":
    sys.exit(main())
