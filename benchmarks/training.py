"""Times whole trainings, from the first epoch to the last: dense Keras, and SpFDE.

Each way trains in its turn, an epoch at a time, so that a machine that slows down or speeds up
does so for all of them. Time is that of the epochs with all that belongs to them: tracing,
measuring which kernels are faster, updates of masks and samples, freezing.
"""

import dataclasses
import math
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from apps import datasets, models, program  # first: no log of TensorFlow

# isort: split
import keras
import numpy as np

import spfde_keras
from apps.config import RunConfig
from apps.parts import optimizer
from benchmarks import report
from spfde_keras import kernels


@dataclasses.dataclass(frozen=True)
class Options(program.Options):
    """The options of the benchmark: some of those of `apps.train`."""

    dataset: str = program.option("digits", "as of apps.train")
    data_dir: str | None = program.option(None, "as of apps.train")
    train_samples: int | None = program.option(None, "as of apps.train", least=1)
    model: str = program.option("resnet20", "the model", choices=models.names())
    width: float = program.option(1.0, "factor on all channel counts")
    sparsity: float = program.option(0.9, "share of zeros", least=0, below=1)
    interval: int = program.option(1, "as of apps.train", least=1)
    freeze_reduction: float = program.option(0.2, "as of apps.train", least=0)
    sieve_fraction: float = program.option(0.2, "as of apps.train", least=0)
    epochs: int = program.option(12, "epochs of each", least=1)
    batch_size: int = program.option(64, "samples in a batch", least=1)
    seed: int = program.option(0, "seed of everything random", least=0)
    json: str | None = program.option(None, "file to write the results to", written=True)


@dataclasses.dataclass
class Training:
    """One way to train, ready to start.

    Args:
        model: compiled.
        fit: a function of a list of callbacks that trains it.
        flops: a function that returns the training FLOPs, once trained.
        skips: whether kernels may skip zeros.
    """

    model: keras.Model
    fit: Callable[[list], object]
    flops: Callable[[], float]
    skips: bool = True


class Turns:
    """Lets several threads run in turns, and takes the time of each.

    Args:
        names: of the threads, in their order.
    """

    def __init__(self, names: list[str]):
        self.seconds: dict[str, list[float]] = {name: [] for name in names}
        self._waiting = list(names)
        self._turn = threading.Condition()
        self._begun = time.perf_counter()

    def take(self, name: str) -> None:
        """Waits for the turn of thread `name`."""
        with self._turn:
            self._turn.wait_for(lambda: self._waiting[0] == name)
            self._begun = time.perf_counter()

    def pass_on(self, name: str, again: bool = True) -> None:
        """Ends the turn of thread `name`; it gets another one unless it is done."""
        with self._turn:
            self.seconds[name].append(time.perf_counter() - self._begun)
            self._waiting.remove(name)
            if again:
                self._waiting.append(name)
            self._turn.notify_all()


class PassOn(keras.callbacks.Callback):
    """Ends a turn with each epoch, and says how long it took.

    Args:
        turns: the `Turns`.
        name: of the thread.
    """

    def __init__(self, turns: Turns, name: str):
        super().__init__()
        self._turns, self._name = turns, name

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._turns.pass_on(self._name)
        seconds = self._turns.seconds[self._name][-1]
        print(f"{self._name}: epoch {epoch + 1}, {seconds:.1f} s", file=sys.stderr)
        self._turns.take(self._name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status, as of `program.run`."""
    return program.run(benchmark, Options, __doc__, arguments)


def benchmark(options: Options) -> None:
    """Trains in every way, prints the table and writes the results."""
    config = RunConfig(**report.settings(options))
    dataset = datasets.load_arrays(config.dataset, config.data_dir, config.train_samples)
    trainings = {
        "dense Keras": dense(config, dataset),
        "SpFDE": sparse(config, options.sparsity, dataset),
        "SpFDE, zeros computed": dataclasses.replace(
            sparse(config, options.sparsity, dataset), skips=False
        ),
    }
    seconds = train(trainings)
    results = summarize(trainings, seconds, dataset)
    report.finish(options, {"variants": results}, tables)
    print(kernels.status())


def dense(config: RunConfig, dataset: datasets.Dataset) -> Training:
    """Keras' own training of the model, with a cosine."""
    keras.utils.set_random_seed(config.seed)
    model = build(config, dataset)
    plain = dataclasses.replace(config, freeze_reduction=0)
    compile_model(model, plain, math.ceil(len(dataset.train_x) / config.batch_size))
    x = np.asarray(dataset.normalize(dataset.train_x))

    def fit(callbacks: list) -> None:
        model.fit(
            x,
            dataset.train_y,
            batch_size=config.batch_size,
            epochs=config.epochs,
            callbacks=callbacks,
            verbose=0,
        )

    step = spfde_keras.cost.profile(spfde_keras.wrap(model)).training({})
    return Training(model, fit, lambda: step * len(x) * config.epochs)


def sparse(config: RunConfig, sparsity: float, dataset: datasets.Dataset) -> Training:
    """SpFDE with EM&S updates; the first layer and the classifier stay dense."""
    keras.utils.set_random_seed(config.seed)
    model = spfde_keras.sparsify(
        build(config, dataset),
        sparsity,
        dense=models.dense_layers(config.model),
        seed=config.seed,
    )
    x = np.asarray(dataset.normalize(dataset.train_x))
    sieve = spfde_keras.DataSieve((x, dataset.train_y), config.sieve_fraction, seed=config.seed)
    compile_model(model, config, sieve.steps(config.batch_size))
    callback = spfde_keras.SpFDE(
        epochs=config.epochs,
        updater="mest_ems",
        interval=config.interval,
        freeze=config.freeze_reduction or None,
        sieve=sieve,
        seed=config.seed,
    )
    callback.set_model(model)  # refuses what cannot be trained, before anything is

    def fit(callbacks: list) -> None:
        model.fit(
            sieve.batches(config.batch_size),
            epochs=config.epochs,
            shuffle=False,
            callbacks=[callback, *callbacks],
            verbose=0,
        )

    return Training(model, fit, lambda: callback.training_flops)


def build(config: RunConfig, dataset: datasets.Dataset) -> keras.Model:
    """The plain model."""
    return models.build(config.model, dataset.input_shape, dataset.classes, config.width)


def compile_model(model: keras.Model, config: RunConfig, steps: int) -> None:
    """Compiles for classification."""
    model.compile(
        optimizer(config, steps),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )


def train(trainings: dict[str, Training]) -> dict[str, list[float]]:
    """Trains in turns; the seconds of each turn."""
    turns = Turns(list(trainings))
    failures = []

    def run(name: str, training: Training) -> None:
        turns.take(name)
        try:
            if training.skips:
                training.fit([PassOn(turns, name)])
            else:
                with kernels.disabled():
                    training.fit([PassOn(turns, name)])
        except Exception as error:
            failures.append(error)
        finally:
            turns.pass_on(name, again=False)

    threads = [threading.Thread(target=run, args=item) for item in trainings.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return turns.seconds


def summarize(
    trainings: dict[str, Training], seconds: dict[str, list[float]], dataset: datasets.Dataset
) -> dict[str, dict]:
    """Seconds, FLOPs and accuracy of each way, and what part they are of the first one's."""
    x = np.asarray(dataset.normalize(dataset.test_x))
    results = {}
    for name, training in trainings.items():
        _, accuracy = training.model.evaluate(x, dataset.test_y, batch_size=256, verbose=0)
        results[name] = {
            "seconds": sum(seconds[name]),
            "turns": seconds[name],
            "training_flops": float(training.flops()),
            "test_accuracy": accuracy,
        }
    first = next(iter(results.values()))
    for result in results.values():
        result["times_faster"] = first["seconds"] / result["seconds"]
        result["flops_share"] = result["training_flops"] / first["training_flops"]
    return results


def tables(found: Mapping) -> dict[str, report.Table]:
    """The table of ways to train."""
    of = found["settings"]
    rows = [
        [
            name,
            f"{result['seconds']:.1f}",
            f"{result['times_faster']:.2f}",
            f"{result['flops_share']:.3f}",
            f"{result['test_accuracy']:.4f}",
        ]
        for name, result in found["variants"].items()
    ]
    title = (
        f"{of['model']}, width {of['width']:g}, {of['dataset']}, {of['epochs']} epochs, "
        f"{report.percent(of['sparsity'])} sparse, {report.percent(of['freeze_reduction'])} of "
        f"the FLOPs saved by freezing, {report.percent(of['sieve_fraction'])} of the samples "
        "resting"
    )
    headings = ["", "seconds", "times faster", "FLOPs", "accuracy"]
    return {"training": report.Table(headings, rows, title)}


if __name__ == "__main__":
    sys.exit(main())
