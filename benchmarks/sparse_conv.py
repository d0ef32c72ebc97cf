"""Times convolutions that skip a kernel's zeros against TensorFlow's, both gradients included.

Both ways run in turns, so that a machine that slows down does so for both; ratios are medians
over the rounds of the ratio within a round. A call computes several times in one graph, as a net
does with its layers: calling a graph from Python takes as long as a small convolution. Beside them
stands what memory takes by itself: an addition and a multiplication that read and write as much as
a step. What layers choose by themselves is measured on its own, as when they are first called, and
never read from the file that keeps such measurements.
"""

import dataclasses
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from apps import program  # first: no log of TensorFlow

# isort: split
import numpy as np
import tensorflow as tf

from benchmarks import report
from spfde_keras import kernels
from spfde_keras.kernels import Convolution

WARM_UP = 2
REPEATS = 8  # times that one call computes
DENSITIES = (0.2, 0.1, 0.05)
PARTS = ("forward", "input_gradient", "kernel_gradient", "both_gradients", "step")

Function = Callable[[], object]


def shape(
    batch: int,
    height: int,
    width: int,
    inputs: int,
    outputs: int,
    kernel: int = 3,
    stride: int = 1,
) -> Convolution:
    """A convolution padded to "same", of a density to be set."""
    return Convolution(
        batch, height, width, inputs, outputs, (kernel, kernel), stride, "same", density=1.0
    )


SHAPES = (
    shape(64, 32, 32, 32, 32),
    shape(64, 16, 16, 64, 64),
    shape(64, 8, 8, 128, 128),
    shape(64, 14, 14, 256, 256, kernel=1),
)
MORE = (
    shape(64, 32, 32, 32, 64, stride=2),
    shape(64, 16, 16, 64, 128, kernel=1, stride=2),
    shape(64, 13, 17, 24, 40),
    shape(64, 7, 7, 24, 40, kernel=5),
    *(shape(batch, 16, 16, 64, 64) for batch in (1, 8, 32, 128)),
    shape(64, 112, 112, 32, 64, kernel=1),
    shape(64, 56, 56, 64, 64),
)


@dataclasses.dataclass(frozen=True)
class Options(program.Options):
    """The options of the benchmark."""

    more: bool = program.option(False, "strides, odd sizes, other batches")
    rounds: int = program.option(15, "timed runs of each", least=1)
    largest_batch: int = program.option(128, "no shape has more images", least=1)
    json: str | None = program.option(None, "file to write the results to", written=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status, as of `program.run`."""
    return program.run(benchmark, Options, __doc__, arguments)


def benchmark(options: Options) -> None:
    """Times every shape at every density, prints the table and writes the results."""
    library = kernels.status().library
    if library is None:
        raise RuntimeError(f"The kernels cannot be timed: {kernels.status().reason}.")
    results = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {
            "SPFDE_KERNELS": "auto",
            "SPFDE_KERNELS_CACHE": str(Path(folder, "cache.json")),
        }
        for one in [*SHAPES, *(MORE if options.more else ())]:
            one = dataclasses.replace(one, batch=min(one.batch, options.largest_batch))
            memory = float(np.median(in_turns([traffic(one)], options.rounds)))
            for density in DENSITIES:
                convolution = dataclasses.replace(one, density=density)
                times = measure(*functions(convolution), options.rounds)
                results.append(summarize(convolution, times, memory, kernels.choose(convolution)))
    report.finish(options, {"library": Path(library).name, "convolutions": results}, tables)


def functions(c: Convolution) -> tuple[dict[str, Function], dict[str, Function]]:
    """The parts of a training step by name: with TensorFlow's kernels, and with ours."""
    random = np.random.default_rng(0)
    images = tf.constant(random.normal(size=(c.batch, c.height, c.width, c.inputs)), tf.float32)
    mask = random.random((*c.kernel, c.inputs, c.outputs)) < c.density
    kernel = tf.constant(random.normal(size=mask.shape) * mask, tf.float32)
    dense = parts(lambda x, k: tf.nn.conv2d(x, k, c.stride, c.padding.upper()), images, kernel)
    mask = tf.constant(mask)
    sparse = parts(
        lambda x, k: kernels.sparse_conv2d(x, k, mask, c.stride, c.padding), images, kernel
    )
    return dense, sparse


def parts(convolve: Callable, images: tf.Tensor, kernel: tf.Tensor) -> dict[str, Function]:
    """The parts of a training step with a function of images and kernel."""
    gradient = tf.random.stateless_normal(convolve(images, kernel).shape, (0, 0))

    def derive(of: tuple[int, ...]) -> Callable:
        # The outputs are not returned, so that the graph computes the gradients only.
        def gradients(*tensors: tf.Tensor) -> list[tf.Tensor]:
            *given, gradient = tensors
            sources = [given[i] for i in of]
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(sources)
                outputs = convolve(*given)
            return tape.gradient(outputs, sources, output_gradients=gradient)

        return gradients

    def step(*tensors: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        *given, gradient = tensors
        with tf.GradientTape() as tape:
            tape.watch(given)
            outputs = convolve(*given)
        # As in training, where the gradient is computed after the outputs.
        with tf.control_dependencies([outputs]):
            gradient = tf.identity(gradient)
        return outputs, tape.gradient(outputs, given, output_gradients=gradient)

    found = (lambda images, kernel, _: convolve(images, kernel), *map(derive, [(0,), (1,), (0, 1)]))
    tensors = (images, kernel, gradient)
    return {
        part: repeated(compute, tensors)
        for part, compute in zip(PARTS, [*found, step], strict=True)
    }


def repeated(compute: Callable, tensors: tuple[tf.Tensor, ...]) -> Function:
    """Computes from tensors REPEATS times, one after the other."""

    @tf.function
    def graph(*tensors: tf.Tensor) -> object:
        results = compute(*tensors)
        # Unused results would be pruned from the graph.
        for _ in tf.range(REPEATS - 1):
            results = compute(*tensors)
        return results

    return lambda: graph(*tensors)


def traffic(c: Convolution) -> Function:
    """Reads and writes what a step does: images twice, outputs and both gradients once."""
    images, more = tf.zeros((2, c.batch, c.height, c.width, c.inputs))
    kernel = tf.zeros((*c.kernel, c.inputs, c.outputs))
    outputs = tf.nn.conv2d(images, kernel, c.stride, c.padding.upper())
    return repeated(
        lambda *tensors: (tensors[0] + tensors[1], 2.0 * tensors[2]), (images, more, outputs)
    )


def measure(
    dense: dict[str, Function], sparse: dict[str, Function], rounds: int
) -> dict[str, np.ndarray]:
    """Seconds by part, array (rounds, 2): dense, sparse."""
    return {part: in_turns([dense[part], sparse[part]], rounds) for part in PARTS}


def in_turns(functions: list[Function], rounds: int) -> np.ndarray:
    """Seconds per repeat of functions that run in turns, array (rounds, functions)."""
    seconds = [[_seconds(function) for function in functions] for _ in range(WARM_UP + rounds)]
    return np.array(seconds[WARM_UP:]) / REPEATS


def _seconds(function: Function) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def summarize(
    convolution: Convolution, times: dict[str, np.ndarray], memory: float, chosen: kernels.Choice
) -> dict:
    """Medians and ratios of the parts, and what memory and the choice make of the whole step."""
    speedups = {
        part: float(np.median(seconds[:, 0] / seconds[:, 1])) for part, seconds in times.items()
    }
    return dataclasses.asdict(convolution) | {
        "seconds": {
            part: dict(zip(("dense", "sparse"), np.median(seconds, axis=0).tolist(), strict=True))
            for part, seconds in times.items()
        },
        "seconds_of_memory": memory,
        "speedup": speedups,
        "chosen": "sparse" if chosen.sparse else "dense",
        "speedup_when_chosen": chosen.speedup,
        "speedup_of_chosen": speedups["step"] if chosen.sparse else 1.0,
    }


def tables(found: Mapping) -> dict[str, report.Table]:
    """The table of convolutions, and the least that the choice gained."""
    results = found["convolutions"]
    headings = ["batch x image, kernel", "sparse", "ms dense", "ms ours", "ms memory"]
    headings += ["forward", "d input", "d kernel", "both", "step", "chosen"]
    rows = []
    for result in results:
        step = result["seconds"]["step"]
        rows.append(
            [
                describe(result),
                f"{1 - result['density']:.0%}",
                *(f"{1000 * step[way]:.2f}" for way in ("dense", "sparse")),
                f"{1000 * result['seconds_of_memory']:.2f}",
                *(f"{result['speedup'][part]:.2f}" for part in PARTS),
                result["chosen"],
            ]
        )
    least = min(results, key=lambda result: result["speedup_of_chosen"])
    note = (
        f"least speed-up of a step as chosen: {least['speedup_of_chosen']:.2f} "
        f"({describe(least)}, {1 - least['density']:.0%})"
    )
    title = (
        "Convolutions that skip zeros, speed-up over TensorFlow's, median of "
        f"{found['settings']['rounds']} runs, {found['machine']['cores']} CPUs"
    )
    return {"convolutions": report.Table(headings, rows, title, [note])}


def describe(result: dict) -> str:
    """A convolution in a few characters, such as "64 x 8x8x16, 3x3x32 / 2"."""
    rows, columns = result["kernel"]
    strided = "" if result["stride"] == 1 else f" / {result['stride']}"
    return (
        f"{result['batch']} x {result['height']}x{result['width']}x{result['inputs']}, "
        f"{rows}x{columns}x{result['outputs']}{strided}"
    )


if __name__ == "__main__":
    sys.exit(main())
