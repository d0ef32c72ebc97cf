"""Answers, under changing latency budgets, with the densest sub-net that is fast enough.

python tflite/switch_subnets.py model.tflite --budget_ms=5,2,1,5

The file is one that `export_tflite` wrote of a model with several sub-nets. It is loaded once
and each sub-net is timed; then the budgets come one after the other, as on a device whose load
changes. This needs only LiteRT, NumPy and absl, no TensorFlow: it also runs on a small ARM board.

An app does the same: it loads the file once and names a signature at each call,

    Kotlin, Java   interpreter.runSignature(inputs, outputs, "subnet_95")
    C++            interpreter->GetSignatureRunner("subnet_95")
    Swift          interpreter.signatureRunner(with: "subnet_95")

Time the sub-nets on the device itself. A sparser one is faster only where LiteRT has sparse
kernels: in nets made of 1x1 convolutions, on ARM and in WebAssembly.
"""

import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import app, flags
from ai_edge_litert.interpreter import Interpreter

_WARM_UP = 5

_BUDGET_MS = flags.DEFINE_list(
    "budget_ms", None, "milliseconds an answer may take; several, with commas, in turn"
)
_RUNS = flags.DEFINE_integer("runs", 50, "runs to time each sub-net by", lower_bound=1)


def choose(latencies: dict[str, float], budget: float) -> str:
    """Returns the densest sub-net within a budget, or the fastest if none is.

    Args:
        latencies: the median latency of each sub-net, by its name, which contains its sparsity.
        budget: the latency allowed, in the unit of `latencies`.

    Example:

    >>> choose({"subnet_98": 1.0, "subnet_90": 3.0, "subnet_95": 2.0}, budget=2.5)
    'subnet_95'
    """
    within = [name for name in latencies if latencies[name] <= budget]
    return min(within, key=sparsity) if within else min(latencies, key=latencies.__getitem__)


def sparsity(name: str) -> float:
    """Returns the sparsity in per cent that the name of a sub-net contains.

    Raises:
        ValueError: if it is no name of a sub-net.

    Example:

    >>> sparsity("subnet_87_5")
    87.5
    """
    found = re.fullmatch(r"subnet_(\d+(_\d+)?)", name)
    if not found:
        raise ValueError(
            f"The file's signatures must be sub-nets, such as subnet_90. Received: {name}"
        )
    return float(found[1].replace("_", "."))


def load(path: str) -> dict[str, Callable[[], dict]]:
    """Returns, for each sub-net of a file, densest first, a function that runs it on a sample.

    Args:
        path: the .tflite file.

    Raises:
        ValueError: if there is no such file, or it has no sub-nets.
    """
    if not os.path.isfile(path):
        raise ValueError(f"{path} does not exist, or is not a file.")
    try:
        interpreter = Interpreter(model_path=path)
    except ValueError as error:
        raise ValueError(f"{path} is not a .tflite file: {error}") from error
    names = sorted(interpreter.get_signature_list(), key=sparsity)
    return {name: _on_sample(interpreter.get_signature_runner(name)) for name in names}


def _on_sample(runner: Any) -> Callable[[], dict]:
    random = np.random.default_rng(0)
    sample = {
        name: random.random(details["shape"]).astype(details["dtype"])
        for name, details in runner.get_input_details().items()
    }
    return lambda: runner(**sample)


def milliseconds(run: Callable[[], object]) -> float:
    """Returns how long one call of `run` takes."""
    begun = time.perf_counter()
    run()
    return 1000 * (time.perf_counter() - begun)


def median_latency(run: Callable[[], object], runs: int) -> float:
    """Returns the median over `runs` calls, in milliseconds, after a few that do not count."""
    return statistics.median([milliseconds(run) for _ in range(_WARM_UP + runs)][_WARM_UP:])


def switch(path: str) -> None:
    """Times the sub-nets of the file at `path`, then prints which of them answers each budget.

    Raises:
        ValueError: if the file or a flag is wrong.
    """
    budgets = _budgets(_BUDGET_MS.value)
    subnets = load(path)
    latencies = {name: median_latency(run, _RUNS.value) for name, run in subnets.items()}
    print(f"{'sub-net':<14}{'median ms':>10}")
    for name, latency in latencies.items():
        print(f"{name:<14}{latency:>10.3f}")
    print(f"\n{'budget ms':<14}{'took ms':>10}  answered by")
    for budget in budgets:
        name = choose(latencies, budget)
        took = milliseconds(subnets[name])
        late = "" if took <= budget else ", too late"
        print(f"{budget:<14g}{took:>10.3f}  {name}{late}")
    if platform.machine().lower() in ("x86_64", "amd64"):
        print(
            "\nOn x86 LiteRT computes sparse weights as dense ones: the sub-nets take about the "
            "same time here. Time them on the device they are for."
        )


def _budgets(values: list[str] | None) -> list[float]:
    try:
        budgets = [float(value) for value in values or []]
    except ValueError:
        budgets = []
    if not budgets or not all(budget > 0 for budget in budgets):
        raise ValueError(
            "`--budget_ms` must be numbers greater than 0, separated by commas. "
            f"Received: {values and ','.join(values)}"
        )
    return budgets


def main(argv: list[str]) -> None:
    """Runs the command; a wrong input ends it with one line and exit code 1.

    Args:
        argv: the program's name and the .tflite file.
    """
    if len(argv) != 2:
        raise app.UsageError(f"One .tflite file is needed. Received: {argv[1:]}")
    try:
        switch(argv[1])
    except ValueError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    app.run(main)
