"""Measures the peak memory of training steps: dense Keras, masked, and with zeros skipped.

Each variant runs in a process of its own, whose largest resident size is taken before and after.
"""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from apps import models, program  # first: no log of TensorFlow

# isort: split
from benchmarks import report

# What SPFDE_KERNELS is; None is a model without masks.
VARIANTS = {"dense Keras 3": None, "90% sparse, zeros computed": "dense", "zeros skipped": "sparse"}


@dataclasses.dataclass(frozen=True)
class Options(program.Options):
    """The options of the benchmark."""

    model: str = program.option("resnet32", "the model", choices=models.names())
    width: float = program.option(2.0, "factor on all channel counts")
    sparsity: float = program.option(0.9, "share of zeros", least=0, below=1)
    batch_size: int = program.option(64, "samples in a batch", least=1)
    steps: int = program.option(5, "training steps", least=1)
    child: str | None = program.option(
        None, "the only variant, measured in this process", choices=tuple(VARIANTS)
    )
    json: str | None = program.option(None, "file to write the results to", written=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status, as of `program.run`."""
    return program.run(benchmark, Options, __doc__, arguments)


def benchmark(options: Options) -> None:
    """Runs each variant in a child process, prints the table and writes the results."""
    if options.child:
        print(json.dumps(measure(options, VARIANTS[options.child] is not None)))
        return
    settings = report.settings(options, leave_out=["child"])
    flags = [f"--{name}={value}" for name, value in settings.items()]
    results = {}
    for name, kernels in VARIANTS.items():
        child = [sys.executable, __file__, f"--child={name}", *flags]
        environment = os.environ | ({"SPFDE_KERNELS": kernels} if kernels else {})
        done = subprocess.run(child, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        results[name] = json.loads(done.stdout.splitlines()[-1])
    report.finish(options, {"variants": results}, tables, leave_out=["child"])


def tables(found: Mapping) -> dict[str, report.Table]:
    """The table of ways to train."""
    rows = [
        [name, f"{result['before'] / 2**20:.0f}", f"{result['steps'] / 2**20:.0f}"]
        for name, result in found["variants"].items()
    ]
    return {"memory": report.Table(["MiB", "before the first step", "added by the steps"], rows)}


def measure(options: Options, masked: bool) -> dict[str, int]:
    """Bytes of the largest resident size before the first step, and what the steps add."""
    import keras

    import spfde_keras
    from benchmarks import step_time

    keras.utils.set_random_seed(0)
    model = models.build(
        options.model, step_time.INPUT_SHAPE, step_time.CLASSES, width=options.width
    )
    if masked:
        dense = models.dense_layers(options.model)
        model = spfde_keras.sparsify(model, options.sparsity, dense=dense)
    batch = step_time.random_batch(options.batch_size)
    before = peak()
    step = step_time.train_step(model, keras, batch)
    iterator = iter(batch)
    for _ in range(options.steps):
        step(iterator)
    return {"before": before, "steps": peak() - before}


def peak() -> int:
    """The largest resident size of this program so far, in bytes (Linux)."""
    # getrusage would include the process that started this one.
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


if __name__ == "__main__":
    sys.exit(main())
