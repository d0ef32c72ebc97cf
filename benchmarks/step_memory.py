"""Measures the peak memory of training steps: dense Keras, masked, and with zeros skipped.

Each variant runs in a process of its own, whose largest resident size is taken before and after.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import report

# What SPFDE_KERNELS is; None is a model without masks.
VARIANTS = {"dense Keras 3": None, "90% sparse, zeros computed": "dense", "zeros skipped": "sparse"}


def main(arguments: list[str] | None = None) -> None:
    """Runs each variant in a child process, prints the table and writes the results."""
    options = parse(arguments)
    if options.child:
        print(json.dumps(measure(options)))
        return
    results = {}
    for name, kernels in VARIANTS.items():
        child = [sys.executable, __file__, "--child", name, *(arguments or sys.argv[1:])]
        environment = os.environ | ({"SPFDE_KERNELS": kernels} if kernels else {})
        done = subprocess.run(child, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        results[name] = json.loads(done.stdout.splitlines()[-1])
    rows = [
        [name, f"{result['before'] / 2**20:.0f}", f"{result['steps'] / 2**20:.0f}"]
        for name, result in results.items()
    ]
    report.print_table(["MiB", "before the first step", "added by the steps"], rows)
    if options.json:
        settings = {k: v for k, v in vars(options).items() if k not in ("json", "child")}
        report.write_json(options.json, {"settings": settings, "variants": results})


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Reads the command line, or `arguments` if there are any."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=report.json_path, help="file to write the results to")
    parser.add_argument("--model", default="resnet32")
    parser.add_argument("--width", type=float, default=2.0, help="factor on all channel counts")
    parser.add_argument("--sparsity", type=report.sparsity, default=0.9)
    parser.add_argument("--batch_size", type=report.count, default=64)
    parser.add_argument("--steps", type=report.count, default=5)
    parser.add_argument("--child", choices=list(VARIANTS), help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def measure(options: argparse.Namespace) -> dict[str, int]:
    """Bytes of the largest resident size before the first step, and what the steps add."""
    import keras

    import spfde_keras
    from apps import models
    from benchmarks import step_time

    keras.utils.set_random_seed(0)
    model = models.build(
        options.model, step_time.INPUT_SHAPE, step_time.CLASSES, width=options.width
    )
    if VARIANTS[options.child]:
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
    # getrusage would count that of the process that started this one, too.
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


if __name__ == "__main__":
    main()
