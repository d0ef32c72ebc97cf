"""Adapts a net to classes it has never seen, on LiteRT, in four ways, on the digits.

At the desk a net learns eight of the ten digits. On the device it is given a few samples of all
ten, and as many passes over them in each way: the dense net as a whole; the sparse net as a whole;
the sparse net as SpFDE trains it, with frozen layers, resting samples and changing masks; and the
sparse net's last layer alone. Accuracies are those on the test images of the two new digits, of
the eight known ones, and of all.
"""

import dataclasses
import math
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from apps import datasets, models, program  # first: no log of TensorFlow

# isort: split
import keras
import numpy as np

import spfde_keras
from benchmarks import report

KNOWN, CLASSES = 8, 10
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
Samples = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Way:
    """A way to adapt.

    Args:
        sparse: bool, whether the net is.
        spfde: bool, whether it is trained as SpFDE does.
        cut: None, or the last layer that is frozen.
    """

    sparse: bool
    spfde: bool = False
    cut: str | None = None


WAYS = {
    "dense": Way(sparse=False),
    "sparse": Way(sparse=True),
    "SpFDE": Way(sparse=True, spfde=True),
    "last layer": Way(sparse=True, cut="pool"),
}


@dataclasses.dataclass(frozen=True)
class Options(program.Options):
    """The options of the benchmark."""

    ways: tuple[str, ...] = program.option(
        tuple(WAYS), "which ways", choices=tuple(WAYS), several=str
    )
    seeds: int = program.option(1, "how many seeds, from 0 on", least=1)
    width: float = program.option(1.0, "factor on the channel counts of small_cnn", above=0)
    sparsity: float = program.option(0.9, "share of zeros", least=0, below=1)
    desk_epochs: int = program.option(20, "epochs on eight digits, at the desk", least=1)
    samples: int = program.option(16, "samples of each digit on the device", least=2)
    epochs: int = program.option(12, "passes over them", least=4)
    rate: float = program.option(0.05, "learning rate on the device, at first", above=0)
    batch_size: int = program.option(16, "samples in a batch on the device", least=2)
    json: str | None = program.option(None, "file to write the results to", written=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status, as of `program.run`."""
    return program.run(benchmark, Options, __doc__, arguments)


def benchmark(options: Options) -> None:
    """Adapts in each way, prints the table and writes the results."""
    results: dict[str, list[dict[str, Any]]] = {way: [] for way in options.ways}
    for seed in range(options.seeds):
        train, device, test = data(options, seed)
        nets = {
            sparse: at_the_desk(train, sparse, options, seed)
            for sparse in {WAYS[way].sparse for way in options.ways}
        }
        for name in options.ways:
            way = WAYS[name]
            model = spfde_keras.wrap(nets[way.sparse])
            results[name].append(adapted(model, way, device, test, options, seed))
    report.finish(options, {"ways": results}, tables)


def data(options: Options, seed: int) -> tuple[Samples, Samples, Samples]:
    """Samples of the desk, of the device, and to test on."""
    digits = datasets.load_arrays("digits")
    x, y = np.asarray(digits.normalize(digits.train_x)), digits.train_y.astype("int32")
    order = np.random.default_rng(seed).permutation(len(x))
    of_device = np.concatenate([order[y[order] == c][: options.samples] for c in range(CLASSES)])
    of_desk = np.setdiff1d(order[y[order] < KNOWN], of_device)
    test = np.asarray(digits.normalize(digits.test_x)), digits.test_y.astype("int32")
    return (x[of_desk], y[of_desk]), (x[of_device], y[of_device]), test


def at_the_desk(train: Samples, sparse: bool, options: Options, seed: int) -> keras.Model:
    """A net that knows eight digits."""
    keras.utils.set_random_seed(seed)
    net = models.build("small_cnn", train[0].shape[1:], CLASSES, options.width)
    model = spfde_keras.sparsify(net, options.sparsity) if sparse else spfde_keras.wrap(net)
    epochs = options.desk_epochs
    steps = epochs * math.ceil(len(train[0]) / 32)
    rate = keras.optimizers.schedules.CosineDecay(0.1, steps)
    model.compile(keras.optimizers.SGD(rate, momentum=0.9), LOSS)
    callback = spfde_keras.SpFDE(updater="mest_ems" if sparse else "static", seed=seed)
    model.fit(*train, batch_size=32, epochs=epochs, callbacks=[callback], verbose=0)
    return model


def adapted(
    model: keras.Model, way: Way, device: Samples, test: Samples, options: Options, seed: int
) -> dict[str, Any]:
    """Adapts a net in a file; returns what came out."""
    callback, data = planned(way, device, options, seed)
    if way.cut is not None:
        freeze_until(model, way.cut)
    steps = options.epochs * (len(device[0]) // options.batch_size)
    # With blocks that freeze each has a cosine of its own.
    rate = options.rate
    falling = rate if way.spfde else keras.optimizers.schedules.CosineDecay(rate, steps)
    model.compile(keras.optimizers.SGD(falling, momentum=0.9), LOSS)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "trainable.tflite")
        written = spfde_keras.export_trainable_tflite(
            model,
            path,
            keras.optimizers.SGD(rate, momentum=0.9),
            LOSS,
            options.batch_size,
            way.cut,
            tolerance=1e-3,
            **spfde_keras.device.settings_for(model, callback),
        )
        trainer = spfde_keras.device.Trainer(path, model, callback, way.cut)
        before = accuracies(trainer, test)
        start = time.perf_counter()
        history = trainer.fit(data)
        seconds = time.perf_counter() - start
        return {
            "before": before,
            "after": accuracies(trainer, test),
            "seconds": seconds,
            "steps": sum(logs["active_samples"] for logs in history) // options.batch_size,
            "bytes": written.bytes,
            "state_bytes": 4 * written.state_size,
        }


def planned(
    way: Way, device: Samples, options: Options, seed: int
) -> tuple[spfde_keras.SpFDE, Iterable]:
    """The plan of a way, and its batches."""
    if not way.spfde:
        callback = spfde_keras.SpFDE(options.epochs, "static", 1)
        return callback, _Shuffled(device, options.batch_size, seed)
    sieve = spfde_keras.DataSieve(device, fraction=0.2, seed=seed)
    callback = spfde_keras.SpFDE(options.epochs, "mest_ems", 3, freeze=0.15, sieve=sieve, seed=seed)
    return callback, sieve.batches(options.batch_size, drop_remainder=True)


class _Shuffled:
    """Batches in another order each time."""

    def __init__(self, samples: Samples, batch_size: int, seed: int):
        self._samples, self._size = samples, batch_size
        self._random = np.random.default_rng(seed)

    def __iter__(self) -> Any:
        x, y = self._samples
        order = self._random.permutation(len(x))
        for start in range(0, len(x) - self._size + 1, self._size):
            ids = order[start : start + self._size]
            yield x[ids], y[ids]


def freeze_until(model: keras.Model, cut: str) -> None:
    """Freezes a layer, and all in front of it."""
    for layer in model.layers:
        layer.trainable = False
        if layer.name == cut:
            return


def accuracies(trainer: spfde_keras.device.Trainer, test: Samples) -> dict[str, float]:
    """Accuracy on new digits, on known ones, and on all."""
    x, y = test
    right = trainer.infer(x).argmax(-1) == y
    new = y >= KNOWN
    return {
        "new": float(right[new].mean()),
        "known": float(right[~new].mean()),
        "all": float(right.mean()),
    }


HEADERS = ("", "before", "new", "known", "all", "steps", "s", "state", "KiB")


def tables(found: Mapping) -> dict[str, report.Table]:
    """The table of ways to adapt."""
    rows, given = [], found["settings"]
    for name, runs in found["ways"].items():
        cells = [f"{100 * np.mean([run['before']['all'] for run in runs]):.1f}"]
        for of in ("new", "known", "all"):
            values = 100 * np.array([run["after"][of] for run in runs])
            spread = f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else ""
            cells.append(f"{values.mean():.1f}{spread}")
        cells.append(f"{np.mean([run['steps'] for run in runs]):.0f}")
        cells.append(f"{np.median([run['seconds'] for run in runs]):.2f}")
        cells += [f"{runs[0][size] / 2**10:.0f}" for size in ("state_bytes", "bytes")]
        rows.append([name, *cells])
    title = (
        f"small_cnn, {report.percent(given['sparsity'])} sparse; "
        f"{CLASSES * given['samples']} samples, {given['epochs']} passes, seeds: {given['seeds']}"
    )
    note = "before, new, known, all: accuracy in per cent; state: KiB that an app saves"
    return {"ways": report.Table(HEADERS, rows, title, [note])}


if __name__ == "__main__":
    sys.exit(main())
