"""Measures sparse files against their dense twin with XNNPACK's sparse kernels on.

WebAssembly's wall time is taken in Node, ARM64 instructions are counted in an emulator: `make
mobile-kit` installs both. Weights and masks are random: here only the number of zeros
matters.
"""

import dataclasses
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from apps import models, program  # first: no log of TensorFlow

# isort: split
import keras
import numpy as np

import spfde_keras
from benchmarks import arm64_instructions, report
from spfde_keras.export import export_tflite
from spfde_keras.export.inputs import named_inputs
from spfde_keras.export.sparse_mode import available_runtimes, check_sparse_mode, run_job
from spfde_keras.export.verification import reference

WARM_UP = 3  # rounds in which WebAssembly is still being compiled
# Shares of the output's scale. Untrained nets enlarge rounding more than trained ones do.
TOLERANCE = {"float32": 1e-4, "float16": 5e-2}


@dataclasses.dataclass(frozen=True)
class Options(program.Options):
    """The options of the benchmark."""

    model: str = program.option("mobilenet_sparse", "the model", choices=models.names())
    width: float = program.option(1.0, "factor on all channel counts")
    size: int = program.option(224, "height and width of images", least=1)
    channels: int = program.option(3, "of the images", least=1)
    classes: int = program.option(10, "number of classes", least=2)
    sparsity: tuple[float, ...] = program.option(
        0.9, "share of zeros; several with commas between", several=float, least=0, below=1
    )
    precision: str = program.option("float32", "of the files", choices=tuple(TOLERANCE))
    rounds: int = program.option(21, "timed runs of each file", least=1)
    runtimes: tuple[str, ...] | None = program.option(
        None,
        "several with commas between; those that are installed if unset",
        choices=("wasm", "arm64"),
        several=str,
    )
    json: str | None = program.option(None, "file to write the results to", written=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status, as of `program.run`."""
    return program.run(benchmark, Options, __doc__, arguments)


def benchmark(options: Options) -> None:
    """Writes the files, measures them in turns, prints the table and writes the results."""
    installed = [name for name in MEASURES if name in available_runtimes()]
    runtimes = report.check_installed(options.runtimes or installed or MEASURES)
    with tempfile.TemporaryDirectory() as folder:
        results, files, sample = write_files(options, runtimes, Path(folder))
        for runtime in runtimes:
            MEASURES[runtime](results, files, sample, options)
    report.finish(options, {"runtimes": runtimes, "files": results}, tables)


def write_files(
    options: Options, runtimes: Sequence[str], folder: Path
) -> tuple[dict[str, dict], dict[str, Path], dict[str, np.ndarray]]:
    """Exports the nets: results so far and files, both by name, dense first, and one sample."""
    keras.utils.set_random_seed(0)
    shape = (options.size, options.size, options.channels)
    dense = models.build(options.model, shape, options.classes, width=options.width)
    images = np.random.default_rng(0).uniform(size=(4, *shape)).astype("float32")
    sample = named_inputs(dense, images[:1])
    results, files = {}, {}
    sparsities = {"dense": 0.0} | {f"{100 * share:g}% sparse": share for share in options.sparsity}
    for name, sparsity in sparsities.items():
        net = spfde_keras.densify(
            spfde_keras.sparsify(dense, sparsity, dense=models.dense_layers(options.model))
        )
        normalize(net, images)
        files[name] = folder / f"{sparsity}.tflite"
        exported = export_tflite(
            net,
            files[name],
            precision=options.precision,
            sparse=sparsity > 0,
            representative_data=images,
            tolerance=TOLERANCE[options.precision],
        )
        results[name] = {
            "sparsity": sparsity,
            "bytes": exported.bytes,
            "gzip_bytes": exported.gzip_bytes,
            # A wrong file must not be timed.
            "error": max(
                check_sparse_mode(
                    files[name],
                    sample,
                    reference(net, sample),
                    TOLERANCE[options.precision],
                    runtime=runtime,
                )
                for runtime in runtimes
            ),
        }
    return results, files, sample


def normalize(net: keras.Model, images: np.ndarray) -> None:
    """Sets every batch normalisation to these images, or sparse nets fade into tiny numbers."""
    for layer in net.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    net(images, training=True)


def measure_time(
    results: dict[str, dict],
    files: dict[str, Path],
    sample: dict[str, np.ndarray],
    options: Options,
) -> None:
    """Adds the milliseconds of each file in WebAssembly; ratios are taken within a round."""
    runs = run_job(list(files.values()), sample, WARM_UP + options.rounds, runtime="wasm")
    times = {name: 1000 * run.seconds[WARM_UP:, 0] for name, run in zip(files, runs, strict=True)}
    for name, result in results.items():
        result["wasm_ms"] = float(np.median(times[name]))
        result["wasm_ms_quartiles"] = np.percentile(times[name], [25, 75]).tolist()
        result["wasm_to_dense"] = float(np.median(times[name] / times["dense"]))


def measure_instructions(
    results: dict[str, dict],
    files: dict[str, Path],
    sample: dict[str, np.ndarray],
    options: Options,
) -> None:
    """Adds the ARM64 instructions of one inference of each file."""
    for name, result in results.items():
        result["arm64_instructions"] = arm64_instructions.count(files[name], sample)
        result["arm64_to_dense"] = (
            result["arm64_instructions"] / results["dense"]["arm64_instructions"]
        )


MEASURES: dict[str, Callable] = {"wasm": measure_time, "arm64": measure_instructions}
# What is printed of each: title, key, unit, decimals.
COLUMNS = [
    ("MB", "bytes", 1e6, 2),
    ("MB gzip", "gzip_bytes", 1e6, 2),
    ("WebAssembly ms", "wasm_ms", 1, 1),
    ("/ dense", "wasm_to_dense", 1, 2),
    ("ARM64 M instructions", "arm64_instructions", 1e6, 1),
    ("/ dense", "arm64_to_dense", 1, 2),
]


def tables(found: Mapping) -> dict[str, report.Table]:
    """The table of files."""
    results, of = found["files"], found["settings"]
    columns = [column for column in COLUMNS if column[1] in results["dense"]]
    rows = [
        [name, *(f"{result[key] / unit:.{digits}f}" for _, key, unit, digits in columns)]
        for name, result in results.items()
    ]
    title = (
        f"{of['model']}, width {of['width']:g}, {of['size']}x{of['size']}x"
        f"{of['channels']}, {of['precision']}, median of {of['rounds']} runs"
    )
    notes = [
        f"{name}: off by at most {result['error']:.0e} of the output's scale in sparse mode"
        for name, result in results.items()
    ]
    return {"files": report.Table(["", *(title for title, *_ in columns)], rows, title, notes)}


if __name__ == "__main__":
    sys.exit(main())
