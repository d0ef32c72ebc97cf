"""Times one update of all masks of ResNet-50, for every updater and scheme.

Each update drops and grows units of every kernel but the stem's: 25.5 million weights. The
gradients that MEST and RigL look at are random and not part of the time, for a training step
computes them.
"""

import dataclasses
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from apps import models, program  # first: no log of TensorFlow

# isort: split
import keras
import numpy as np

import spfde_keras
from benchmarks import report
from spfde_keras import schemes, updaters
from spfde_keras.masking import Mask, find_masks

# N:M has no name of its own.
SCHEMES = (*schemes.names(), "2:4", "1:8")
INPUT_SHAPES = {"resnet50": (224, 224, 3)}
CIFAR_SHAPE = (32, 32, 3)
GOAL_S = 2.0


@dataclasses.dataclass(frozen=True)
class Options(program.Options):
    """The options of the benchmark."""

    model: str = program.option("resnet50", "the model", choices=models.names())
    sparsity: float = program.option(0.9, "share of zeros; not used by N:M", least=0, below=1)
    updaters: tuple[str, ...] = program.option(
        tuple(updaters.names()), "with commas between", choices=updaters.names, several=str
    )
    schemes: tuple[str, ...] = program.option(
        SCHEMES, "with commas between", choices=SCHEMES, several=str
    )
    repeats: int = program.option(3, "updates of each pair", least=1)
    json: str | None = program.option(None, "file to write the results to", written=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status, as of `program.run`."""
    return program.run(benchmark, Options, __doc__, arguments)


def benchmark(options: Options) -> None:
    """Times every pair, prints the table and writes the results."""
    keras.utils.set_random_seed(0)
    shape = INPUT_SHAPES.get(options.model, CIFAR_SHAPE)
    dense = models.build(options.model, shape, 1000)
    seconds: dict[str, dict[str, list[float]]] = {}
    weights = 0
    for scheme in options.schemes:
        seconds[scheme] = {}
        for initial, names in by_initial(options.updaters).items():
            model = spfde_keras.sparsify(
                dense, target(scheme, options), scheme, dense="first", initial=initial
            )
            masks = find_masks(model)
            weights = sum(mask.layout.size for mask in masks)
            for name in names:
                seconds[scheme][name] = time_updates(masks, name, options.repeats)
    report.finish(options, {"weights": weights, "seconds": seconds}, tables)


def by_initial(names: Sequence[str]) -> dict[str, list[str]]:
    """Groups updaters by the masks they start from."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(updaters.get(name).initial, []).append(name)
    return groups


def target(scheme: str, options: Options) -> float | None:
    """The sparsity to reach, or None where the scheme fixes it."""
    return options.sparsity if schemes.get(scheme).density is None else None


def time_updates(masks: list[Mask], name: str, repeats: int) -> list[float]:
    """Seconds that each of `repeats` successive updates of all masks takes."""
    updater, rng = updaters.get(name), np.random.default_rng(0)
    gradients = [random_gradient(mask, updater.gradient, rng) for mask in masks]
    seconds = []
    for t in np.linspace(0.1, 0.5, repeats):
        start = time.perf_counter()
        for mask, gradient in zip(masks, gradients, strict=True):
            subnet = mask.subnets[0]
            mutation = updater.plan(updaters.Moment.UPDATE, float(t), 1 - subnet.sparsity)
            updaters.carry_out(mutation, updater, subnet, rng, gradient)
        seconds.append(time.perf_counter() - start)
    return seconds


def random_gradient(mask: Mask, kind: str | None, rng: np.random.Generator) -> np.ndarray | None:
    """A gradient of the kind the updater asks for."""
    if kind is None:
        return None
    gradient = rng.normal(size=mask.layout.shape).astype("float32")
    return gradient if kind == "dense" else np.where(mask.read()[1][0], gradient, 0)


def tables(found: Mapping) -> dict[str, report.Table]:
    """The table of schemes and updaters, and the slowest pair."""
    seconds, of = found["seconds"], found["settings"]
    medians = {
        (scheme, name): float(np.median(times))
        for scheme, row in seconds.items()
        for name, times in row.items()
    }
    names = of["updaters"]
    rows = [[scheme, *[f"{medians[scheme, name]:.2f}" for name in names]] for scheme in seconds]
    slowest = max(medians, key=lambda pair: medians[pair])
    pair = " with ".join(reversed(slowest))
    note = f"slowest: {pair}, {medians[slowest]:.2f} s (goal {GOAL_S:g} s)"
    title = (
        f"{of['model']}, {found['weights'] / 1e6:.1f} M masked weights: seconds of one update, "
        f"median of {of['repeats']}"
    )
    return {"updates": report.Table(["", *names], rows, title, [note])}


if __name__ == "__main__":
    sys.exit(main())
