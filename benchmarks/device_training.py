"""Times training steps of files that train, beside those of dense Keras, on one core.

Each net is exported to train all of it; to train what is behind a cut at two thirds of its
multiplications; and without masks, which shows what zeros that are not stored save or cost. Keras
and the signatures of the files take turns, so that a machine that slows down does so for all;
ratios are medians over the rounds of the ratio within a round. Memory is that of a process of its
own: what it holds after three steps, above what it held before it read the file.
"""

import dataclasses
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from apps import models, program  # first: no log of TensorFlow

# isort: split
import keras
import numpy as np

from benchmarks import report
from spfde_keras import densify, export_trainable_tflite, sparsify, wrap

CLASSES = 10
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
WARM_UP = 2


@dataclasses.dataclass(frozen=True)
class Net:
    """A net, and where it is cut.

    Args:
        model: its name.
        width: factor on all channel counts.
        shape: of an image.
        cut: the last layer that is frozen.
    """

    model: str
    width: float
    shape: tuple[int, int, int]
    cut: str


NETS = {
    "small_cnn": Net("small_cnn", 0.5, (16, 16, 1), "stage2_relu"),
    "mobilenet_sparse": Net("mobilenet_sparse", 0.5, (32, 32, 3), "stage4_block2_pointwise_relu"),
    "resnet20": Net("resnet20", 1.0, (32, 32, 3), "stage2_block2_relu"),
}


@dataclasses.dataclass(frozen=True)
class Options(program.Options):
    """The options of the benchmark."""

    nets: tuple[str, ...] = program.option(
        tuple(NETS), "which nets", choices=tuple(NETS), several=str
    )
    sparsity: float = program.option(0.9, "share of zeros", least=0, below=1)
    batch_size: int = program.option(16, "samples in a batch", least=1)
    rounds: int = program.option(15, "timed rounds, in which each has a turn", least=1)
    memory: str | None = program.option(None, "a file: only measure its memory, in this process")
    json: str | None = program.option(None, "file to write the results to", written=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status, as of `program.run`."""
    return program.run(benchmark, Options, __doc__, arguments)


def benchmark(options: Options) -> None:
    """Measures each net, prints the table and writes the results."""
    if options.memory:
        print(added_bytes(options.memory))
        return
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before threads are made
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in options.nets:
            results[name] = measure(NETS[name], Path(folder), options)
    report.finish(options, {"nets": results}, tables, leave_out=["memory"])


def measure(net: Net, folder: Path, options: Options) -> dict[str, dict[str, Any]]:
    """What a net takes, by ways of training it."""
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    x = random.random((options.batch_size, *net.shape), "float32")
    y = random.integers(CLASSES, size=options.batch_size).astype("int32")
    model = sparsify(models.build(net.model, net.shape, CLASSES, net.width), options.sparsity)
    twin = densify(model)
    twin.compile(_optimizer(), LOSS)
    results: dict[str, dict[str, Any]] = {}
    calls: dict[str, Callable] = {"Keras, dense": lambda: twin.train_on_batch(x, y)}
    files = {"whole": (model, None), "cut": (model, net.cut), "no masks": (wrap(twin), None)}
    for title, (exported, cut) in files.items():
        path = str(folder / f"{net.model}_{title}.tflite")
        # Untrained nets are rounded differently: here only time counts, and tests compare updates.
        written = export_trainable_tflite(
            exported, path, _optimizer(), LOSS, options.batch_size, cut, tolerance=1e9
        )
        results[title] = {
            "bytes": written.bytes,
            "state_bytes": 4 * written.state_size,
            "added_bytes": _in_a_process(path),
        }
        calls |= _calls(path, title, x, y)
    times = timed(calls, options.rounds)
    for title, seconds in times.items():
        results.setdefault(title, {}).update(
            median_s=float(np.median(seconds)),
            to_keras=float(np.median(seconds / times["Keras, dense"])),
            to_whole=float(np.median(seconds / times["whole"])),
        )
    return results


def _optimizer() -> keras.optimizers.Optimizer:
    return keras.optimizers.SGD(0.01, momentum=0.9)


def _calls(path: str, title: str, x: np.ndarray, y: np.ndarray) -> dict[str, Callable]:
    """A step of each signature that trains, by its title."""
    signatures = _signatures(path)
    given = {"y": y, "rate": np.array([0.01], "float32")}
    calls = {title: lambda: signatures["train"](x=x, **given)}
    if "features" in signatures:
        singly = [signatures["features"](x=x[i : i + 1])["features"] for i in range(len(x))]
        features = np.concatenate(singly)
        calls["from features"] = lambda: signatures["train_on_features"](features=features, **given)
    return calls


def _signatures(path: str) -> dict[str, Any]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=1)
    names = interpreter.get_signature_list()
    return {name: interpreter.get_signature_runner(name) for name in names}


def timed(calls: dict[str, Callable], rounds: int) -> dict[str, np.ndarray]:
    """Seconds of each call in each round, those to warm up left out."""
    seconds: dict[str, list[float]] = {title: [] for title in calls}
    for _ in range(WARM_UP + rounds):
        for title, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[title].append(time.perf_counter() - start)
    return {title: np.array(found[WARM_UP:]) for title, found in seconds.items()}


def _in_a_process(path: str) -> int:
    command = [sys.executable, __file__, f"--memory={path}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout.splitlines()[-1])


def added_bytes(path: str) -> int:
    """What this process holds after steps of a file, above what it held before."""
    before = _resident()
    train = _signatures(path)["train"]
    given = {
        name: np.zeros(about["shape"], about["dtype"])
        for name, about in train.get_input_details().items()
    }
    for _ in range(3):
        train(**given)
    return _resident() - before


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


HEADERS = ("", "ms a step", "/ Keras", "/ whole", "KiB", "state", "memory")


def tables(found: Mapping) -> dict[str, report.Table]:
    """The table of nets, and ways of training them."""
    rows, of = [], found["settings"]
    for net, ways in found["nets"].items():
        for way, result in ways.items():
            sizes = [f"{result[k] / 2**10:.0f}" if k in result else "" for k in _SIZES]
            ratios = [f"{result['to_keras']:.2f}", f"{result['to_whole']:.2f}"]
            rows.append([f"{net}, {way}", f"{1000 * result['median_s']:.1f}", *ratios, *sizes])
    title = (
        f"batch {of['batch_size']}, {report.percent(of['sparsity'])} sparse, one core, median of "
        f"{of['rounds']} rounds"
    )
    note = "KiB: the file, a saved state, and the memory that a process then holds more"
    return {"steps": report.Table(HEADERS, rows, title, [note])}


_SIZES = ("bytes", "state_bytes", "added_bytes")


if __name__ == "__main__":
    sys.exit(main())
