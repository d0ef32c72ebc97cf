"""Trains a tiny net for an hour, masks and data changing after each epoch, and watches it.

It prints by how much memory has grown and epochs have slowed down after a warm-up, and how often a
step was traced where nothing had frozen, which should be never.
"""

import dataclasses
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from apps import program  # first: no log of TensorFlow

# isort: split
import keras
import numpy as np
import tensorflow as tf

import spfde_keras
from benchmarks import memory, report

SAMPLES, FEATURES, CLASSES, BATCH = 512, 16, 4, 64
# Epochs of the training that finds how long one takes.
_TRIED = 30


@dataclasses.dataclass(frozen=True)
class Options(program.Options):
    """The options of the benchmark."""

    minutes: float = program.option(60.0, "how long it trains")
    epochs: int | None = program.option(
        None, "epochs of the training; if unset as many as take so long", least=10
    )
    warm_up: float = program.option(0.2, "share of the epochs that is not judged", least=0, below=1)
    json: str | None = program.option(None, "file to write the results to", written=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.minutes > 0:
            raise ValueError(f"`minutes` must be positive. Received: {self.minutes}")


@dataclasses.dataclass
class Watch:
    """What each epoch took, noted after it.

    Args:
        seconds: after how many it stops the training.
    """

    seconds: float
    begun: float = dataclasses.field(default_factory=time.monotonic)
    times: list[float] = dataclasses.field(default_factory=list)
    resident: list[int] = dataclasses.field(default_factory=list)
    cpu: list[float] = dataclasses.field(default_factory=list)
    traces: int = 0
    unexpected_traces: int = 0

    def loss(self, y: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Crossentropy; notes when a step that computes it is traced."""
        self.traces += tf.inside_function()
        return keras.losses.sparse_categorical_crossentropy(y, y_pred, from_logits=True)


class Watching(keras.callbacks.Callback):
    """Notes time, memory and traces of the epochs of one training."""

    def __init__(self, watch: Watch):
        super().__init__()
        self.watch = watch
        self._frozen = -1

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._traces, self._start = self.watch.traces, time.process_time()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        watch, frozen = self.watch, (logs or {})["frozen_blocks"]
        if frozen == self._frozen:
            watch.unexpected_traces += watch.traces - self._traces
        self._frozen = frozen
        watch.cpu.append(time.process_time() - self._start)
        watch.times.append(time.monotonic() - watch.begun)
        watch.resident.append(memory.status("VmRSS"))
        if watch.times[-1] > watch.seconds:
            self.model.stop_training = True


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status, as of `program.run`."""
    return program.run(benchmark, Options, __doc__, arguments)


def benchmark(options: Options) -> None:
    """Trains, prints what was seen and writes it."""
    seconds = 60 * options.minutes
    epochs = options.epochs
    if epochs is None:
        short = Watch(seconds)
        train(short, _TRIED)
        # The first epoch, and the one that freezes, are traced.
        epochs = max(_TRIED, round(seconds / float(np.median(np.diff(short.times)))))
    watch = Watch(2 * seconds)
    train(watch, epochs)
    report.finish(options, {"seen": summary(watch, options.warm_up)}, tables)


def tables(found: Mapping) -> dict[str, report.Table]:
    """The table of what was seen."""
    rows = [[name.replace("_", " "), f"{value:.4g}"] for name, value in found["seen"].items()]
    return {"seen": report.Table(["", "value"], rows)}


def train(watch: Watch, epochs: int) -> None:
    """Trains a new net, with all that can change in it."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((SAMPLES, FEATURES), np.float32)
    y = rng.integers(0, CLASSES, SAMPLES)
    net = [keras.layers.Dense(32, activation="relu") for _ in range(3)]
    inputs = keras.Input((FEATURES,))
    model = spfde_keras.sparsify(
        keras.Sequential([inputs, *net, keras.layers.Dense(CLASSES)]), 0.8, dense="last"
    )
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), watch.loss)
    sieve = spfde_keras.DataSieve((x, y), fraction=0.2)
    training = spfde_keras.SpFDE(
        epochs=epochs,
        updater=spfde_keras.updaters.RigL(stop=1.0),
        interval=1,
        freeze=0.1,
        sieve=sieve,
    )
    model.fit(
        sieve.batches(BATCH),
        epochs=epochs,
        verbose=0,
        shuffle=False,
        callbacks=[training, Watching(watch)],
    )


def summary(watch: Watch, warm_up: float) -> dict[str, float]:
    """What the epochs after the warm-up say.

    Args:
        watch: of at least some epochs.
        warm_up: share of the epochs before.

    Returns:
        Shares by which memory has grown and epochs have slowed down from the first to the last
        fifth of the epochs judged, medians each; and how often steps were traced.

    Example:

    >>> watch = Watch(10.0)
    >>> for second in range(10):
    ...     watch.times.append(second)
    ...     watch.resident.append(100 + second)
    ...     watch.cpu.append(0.5)
    >>> round(summary(watch, 0.0)["memory_growth"], 3)
    0.08
    """
    begin = int(warm_up * len(watch.times))
    resident, cpu = np.array(watch.resident)[begin:], np.array(watch.cpu)[begin:]
    fifth = max(1, len(cpu) // 5)

    def growth(values: np.ndarray) -> float:
        first, last = (float(np.median(part)) for part in (values[:fifth], values[-fifth:]))
        return last / first - 1

    return {
        "epochs": len(watch.times),
        "minutes": watch.times[-1] / 60,
        "resident_mib": float(resident[-1] / 2**20),
        "memory_growth": growth(resident),
        "slow_down": growth(cpu),
        "traces": watch.traces,
        "unexpected_traces": watch.unexpected_traces,
    }


if __name__ == "__main__":
    sys.exit(main())
