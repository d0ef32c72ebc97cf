"""Times the same training step in this library and in others, each in a process of its own.

One net, one batch, one machine: ours, dense Keras 3 in float32 and bfloat16, tfmot on Keras 2,
dense PyTorch, and SparseProp on PyTorch. Each is a process. They train in turns, so that a machine
that slows down does so for all; ratios are medians over the rounds of the ratio within a round.
What those on PyTorch need is installed by pip into build/peers. A peer that cannot be installed, or
cannot train, is left out, and a line says why.
"""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import venv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from apps import program  # first: no log of TensorFlow

# isort: split
import numpy as np

from benchmarks import report
from benchmarks.peer_process import LeftOut, Peer, last_word

HERE = Path(__file__).resolve().parent
ENVIRONMENT = HERE.parent / "build" / "peers"
WARM_UP = 2


@dataclasses.dataclass(frozen=True)
class Kind:
    """A peer, and what its process is made of.

    Args:
        title: its name in the table.
        script: beside this file, what the process runs.
        installed: what pip is told to install, call by call; nothing: it is in this environment.
        variables: of the environment, for its process.
    """

    title: str
    script: str
    installed: tuple[str, ...] = ()
    variables: dict[str, str] = dataclasses.field(default_factory=dict)


_TORCH = "torch==2.13.0 numpy"
# Or threads that wait for their turn take the cores from the peer whose turn it is.
_ASLEEP = {"OMP_WAIT_POLICY": "passive"}
PEERS = {
    "ours": Kind("ours", "peer_keras.py"),
    "keras": Kind("dense Keras 3", "peer_keras.py"),
    "bfloat16": Kind("dense Keras 3, mixed_bfloat16", "peer_keras.py"),
    "tfmot": Kind("tfmot, Keras 2", "peer_keras.py"),
    "pytorch": Kind("dense PyTorch", "peer_torch.py", (_TORCH,), _ASLEEP),
    # Its build calls pip by itself, for what a build apart from its environment would not find.
    "sparseprop": Kind(
        "SparseProp, PyTorch",
        "peer_torch.py",
        (_TORCH, "pybind11 scipy setuptools wheel", "--no-build-isolation sparseprop==0.1.14"),
        _ASLEEP,
    ),
}


@dataclasses.dataclass(frozen=True)
class Options(program.Options):
    """The options of the benchmark."""

    peers: tuple[str, ...] = program.option(
        tuple(PEERS), "which peers", choices=tuple(PEERS), several=str
    )
    model: str = program.option("resnet32", "the model", choices=("resnet20", "resnet32"))
    width: float = program.option(2.0, "factor on all channel counts", above=0)
    # SparseProp's own rule: it looks at nothing that is less sparse.
    sparsity: float = program.option(0.9, "share of zeros", above=0.8, below=1)
    batch_size: int = program.option(64, "samples in a batch", least=2)
    rounds: int = program.option(9, "timed rounds, in which each peer has a turn", least=1)
    steps: int = program.option(1, "steps of a turn", least=1)
    json: str | None = program.option(None, "file to write the results to", written=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status, as of `program.run`."""
    return program.run(benchmark, Options, __doc__, arguments)


def benchmark(options: Options) -> None:
    """Starts the peers, lets them train in turns, prints the table and writes the results."""
    left_out: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        peers = {}
        for name in options.peers:
            with noted(left_out, name):
                peer = start(PEERS[name], name, options)
                stack.callback(peer.close)
                peers[name] = peer
        facts = {name: peer.facts for name, peer in peers.items()}
        check_same_net(facts)
        turns = measure(peers, options.rounds, options.steps, left_out)
    results = summarize(turns, facts)
    report.finish(options, {"peers": results, "left_out": left_out}, tables)


@contextlib.contextmanager
def noted(left_out: dict[str, str], name: str) -> Iterator[None]:
    """Says and notes why a peer is left out, if that is what happens in the body."""
    try:
        yield
    except LeftOut as reason:
        left_out[name] = str(reason)
        print(f"{PEERS[name].title} left out: {reason}", file=sys.stderr)


def start(kind: Kind, name: str, options: Options) -> Peer:
    """Installs what a peer needs, and starts it.

    Raises:
        LeftOut: it cannot be installed, or cannot train.
    """
    python = installed(kind.installed, ENVIRONMENT) if kind.installed else Path(sys.executable)
    settings = {name: getattr(options, name) for name in ("model", "width", "sparsity")}
    settings["batch_size"] = options.batch_size
    command = [str(python), str(HERE / kind.script), name, json.dumps(settings)]
    return Peer(command, kind.variables)


def installed(calls: Sequence[str], folder: Path) -> Path:
    """The Python of an environment with what these calls of pip install.

    Raises:
        LeftOut: a call failed.
    """
    python = folder / "bin" / "python"
    # SparseProp's build takes what is first on the PATH.
    variables = os.environ | {"PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    try:
        if not python.exists():
            venv.create(folder, with_pip=True)
        for call in calls:
            # What is there already costs a second, and no network.
            pip = [str(python), "-m", "pip", "install", "--quiet", *call.split()]
            subprocess.run(pip, env=variables, check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        call = " ".join(map(str, error.cmd[1:]))
        said = f"{error.stdout or ''}\n{error.stderr or ''}"
        raise LeftOut(f"`{call}` failed: {last_word(said)}") from None
    except OSError as error:
        raise LeftOut(f"no environment in {folder}: {error}") from None
    return python


def check_same_net(facts: dict[str, dict[str, Any]]) -> None:
    """Raises RuntimeError if peers train nets of different sizes."""
    sizes = {name: (fact["weights"], fact["macs"]) for name, fact in facts.items()}
    if len(set(sizes.values())) > 1:
        raise RuntimeError(f"peers must train the same net. Received (weights, MACs): {sizes}")


def measure(
    peers: dict[str, Peer], rounds: int, steps: int, left_out: dict[str, str]
) -> dict[str, list[dict[str, Any]]]:
    """What each peer answered in each round, those to warm up included.

    A peer that fails, or learns nothing, is left out.
    """
    turns: dict[str, list[dict[str, Any]]] = {name: [] for name in peers}

    def still_there() -> list[str]:
        return [name for name in turns if name not in left_out]

    for _ in range(WARM_UP + rounds):
        for name in still_there():
            with noted(left_out, name):
                turns[name].append(peers[name].train(steps))
    for name in still_there():
        first, last = turns[name][0]["loss"], turns[name][-1]["loss"]
        with noted(left_out, name):
            if not last < first:
                raise LeftOut(f"its loss must fall. Received: {first:.3g}, then {last:.3g}")
    return {name: turns[name] for name in still_there()}


def summarize(
    turns: dict[str, list[dict[str, Any]]], facts: dict[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Medians of the timed rounds, and ratios to ours, if that has been measured."""
    times = {
        name: np.array([answer["seconds"] for answer in answers[WARM_UP:]])
        for name, answers in turns.items()
    }
    results = {}
    for name, answers in turns.items():
        results[name] = facts[name] | {
            "median_s": float(np.median(times[name])),
            "quartiles_s": np.percentile(times[name], [25, 75]).tolist(),
            "to_ours": float(np.median(times[name] / times["ours"])) if "ours" in times else None,
            "added_bytes": answers[-1]["added_bytes"],
            "losses": [answer["loss"] for answer in answers],
        }
    return results


def tables(found: Mapping) -> dict[str, report.Table]:
    """The table of libraries."""
    of = found["settings"]
    rows = []
    for name, result in found["peers"].items():
        ratio = result["to_ours"]
        skips = "skipping" in result
        rows.append(
            [
                PEERS[name].title,
                f"{result['median_s']:.3f}",
                "" if ratio is None else f"{ratio:.2f}",
                f"{result['added_bytes'] / 2**20:.0f}",
                f"{result['lines']}",
                f"{result['skipping']} of {result['sparse_kernels']}" if skips else "",
                f"{result['losses'][0]:.2f} to {result['losses'][-1]:.2f}",
            ]
        )
    title = (
        f"{of['model']}, width {of['width']:g}, batch {of['batch_size']}, sparse ones "
        f"{report.percent(of['sparsity'])}, median of {of['rounds']} rounds, steps in each: "
        f"{of['steps']}"
    )
    notes = [
        "MiB: the process at its peak, above what it takes after its imports",
        "lines: what is added to a plain training script",
        "skipping: kernels whose zeros are not computed, of those that have zeros",
    ]
    headings = ["", "s/step", "/ ours", "MiB", "lines", "skipping", "loss"]
    return {"peers": report.Table(headings, rows, title, notes)}


if __name__ == "__main__":
    sys.exit(main())
