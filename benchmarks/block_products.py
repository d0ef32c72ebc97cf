"""Times products of matrices in LiteRT whose zeros lie in blocks, beside the dense product.

A step of a file that trains puts each kernel together as a whole, zeros included, and multiplies
that. Here a kernel of blocks, each the same inputs of so many neighbouring outputs, is multiplied
without its zeros instead: its inputs are gathered, and each block is a small dense product. One
core, by turns.
"""

import dataclasses
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from apps import program  # first: no log of TensorFlow

# isort: split
import numpy as np
import tensorflow as tf

from benchmarks import report
from spfde_keras.device.convolutions import product

# Rows (of a batch), inputs, outputs: 1x1 convolutions in the middle and at the end of a MobileNet.
SIZES = ((1024, 128, 128), (1024, 256, 256), (256, 512, 512))
WARM_UP = 2


@dataclasses.dataclass(frozen=True)
class Options(program.Options):
    """The options of the benchmark."""

    sparsity: float = program.option(0.9, "share of zeros", above=0, below=1)
    blocks: tuple[int, ...] = program.option(
        (8, 32, 64), "outputs of a block, with commas between", several=int, least=1
    )
    rounds: int = program.option(30, "timed rounds, in which each has a turn", least=1)
    json: str | None = program.option(None, "file to write the results to", written=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        for block in self.blocks:
            if any(outputs % block for *_, outputs in SIZES):
                raise ValueError(f"`blocks` must divide 128 outputs. Received: {block}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status, as of `program.run`."""
    return program.run(benchmark, Options, __doc__, arguments)


def benchmark(options: Options) -> None:
    """Times each size, prints the table and writes the results."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before threads are made
    results = [measure(size, options) for size in SIZES]
    report.finish(options, {"products": results}, tables)


def measure(size: tuple[int, int, int], options: Options) -> dict:
    """The seconds of each way to multiply a batch with a kernel."""
    rows, inputs, outputs = size
    random = np.random.default_rng(0)
    kernel = random.random((inputs, outputs), "float32")
    x = random.random((rows, inputs), "float32")
    ways: dict[str, tuple[Callable, Sequence[np.ndarray]]] = {"dense": (product, (x, kernel))}
    kept = max(1, round((1 - options.sparsity) * inputs))
    for block in options.blocks:
        count = outputs // block
        of_blocks = [np.sort(random.permutation(inputs)[:kept]) for _ in range(count)]
        weights = random.random((count, kept, block), "float32")
        ways[f"blocks of {block}"] = in_blocks, (x, weights, np.array(of_blocks, "int32"))
    kept = max(1, round((1 - options.sparsity) * kernel.size))
    places = np.sort(random.permutation(kernel.size)[:kept]).astype("int32")
    packed = random.random(kept, "float32")
    ways["unpacked"] = unpacked(inputs, outputs), (x, packed, places)
    runs = {name: runner(*way) for name, way in ways.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(WARM_UP + options.rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    times = {name: np.array(found[WARM_UP:]) for name, found in seconds.items()}
    return {
        "size": size,
        "median_s": {name: float(np.median(found)) for name, found in times.items()},
        "to_dense": {n: float(np.median(found / times["dense"])) for n, found in times.items()},
    }


def in_blocks(x: tf.Tensor, weights: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """The product with a kernel of blocks.

    Args:
        x: (rows, inputs).
        weights: (blocks, kept, outputs of a block).
        places: int32 (blocks, kept), the inputs that a block keeps.

    Returns:
        (blocks, rows, outputs of a block).
    """
    rows = tf.gather(tf.transpose(x), tf.reshape(places, [-1]))  # gathering columns is slow
    gathered = tf.reshape(rows, [*places.shape, x.shape[0]])
    return tf.matmul(gathered, weights, transpose_a=True)


def unpacked(inputs: int, outputs: int) -> Callable[..., tf.Tensor]:
    """Returns the product with a kernel that is stored packed, put together as a whole first."""

    def compute(x: tf.Tensor, packed: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
        whole = tf.scatter_nd(places[:, None], packed, [inputs * outputs])
        return product(x, tf.reshape(whole, [inputs, outputs]))

    return compute


def runner(compute: Callable, arguments: Sequence[np.ndarray]) -> Callable[[], Any]:
    """Returns what runs a function of LiteRT on arguments that it has been given."""
    from ai_edge_litert.interpreter import Interpreter

    names = [f"x{number}" for number in range(len(arguments))]
    specs = [
        tf.TensorSpec(value.shape, value.dtype, name)
        for name, value in zip(names, arguments, strict=True)
    ]
    module = tf.Module()
    module.function = tf.function(compute, autograph=False)
    concrete = module.function.get_concrete_function(*specs)
    file = tf.lite.TFLiteConverter.from_concrete_functions([concrete], module).convert()
    interpreter = Interpreter(model_content=file, num_threads=1)
    interpreter.allocate_tensors()
    for about in interpreter.get_input_details():
        (name,) = (name for name in names if name in about["name"])
        interpreter.set_tensor(about["index"], arguments[names.index(name)])
    return interpreter.invoke


def tables(found: Mapping) -> dict[str, report.Table]:
    """The table of products."""
    of = found["settings"]
    first, *others = found["products"][0]["median_s"]
    rows = []
    for result in found["products"]:
        rows_, inputs, outputs = result["size"]
        ratios = [f"{result['to_dense'][name]:.2f}" for name in others]
        dense = f"{1000 * result['median_s'][first]:.2f}"
        rows.append([f"{rows_}x{inputs} by {inputs}x{outputs}", dense, *ratios])
    headings = ["", "ms dense", *(f"{name} / dense" for name in others)]
    title = f"{report.percent(of['sparsity'])} zeros, one core, median of {of['rounds']} rounds"
    return {"products": report.Table(headings, rows, title)}


if __name__ == "__main__":
    sys.exit(main())
