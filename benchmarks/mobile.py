"""Measures sparse files against their dense twin with XNNPACK's sparse kernels on.

WebAssembly's wall time is taken in Node, ARM64 instructions are counted in an emulator: `make
mobile-kit` installs both. Weights and masks are random: they decide nothing here but how many
weights are zero.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import spfde_keras
from apps import models
from benchmarks import arm64_instructions, report
from spfde_keras.export import export_tflite
from spfde_keras.export.sparse_mode import available_runtimes, check_sparse_mode, run_job
from spfde_keras.export.verification import named_inputs, reference

WARM_UP = 3  # rounds in which WebAssembly is still being compiled
# Shares of the output's scale. Untrained nets enlarge rounding more than trained ones do.
TOLERANCE = {"float32": 1e-4, "float16": 5e-2}


def main(arguments: list[str] | None = None) -> None:
    """Writes the files, measures them in turns, prints the table and writes the results."""
    options = parse(arguments)
    with tempfile.TemporaryDirectory() as folder:
        results, files, sample = write_files(options, Path(folder))
        for runtime in options.runtimes:
            MEASURES[runtime](results, files, sample, options)
    show(results, options)
    if options.json:
        settings = {k: v for k, v in vars(options).items() if k != "json"}
        report.write_json(options.json, {"settings": settings, "files": results})


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Reads the command line, or `arguments` if there are any."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=report.json_path, help="file to write the results to")
    parser.add_argument("--model", choices=models.names(), default="mobilenet_sparse")
    parser.add_argument("--width", type=float, default=1.0, help="factor on all channel counts")
    parser.add_argument("--size", type=report.count, default=224, help="height and width of images")
    parser.add_argument("--channels", type=report.count, default=3, help="of the images")
    parser.add_argument("--classes", type=report.count, default=10)
    parser.add_argument("--sparsity", type=report.sparsity, nargs="+", default=[0.9])
    parser.add_argument("--precision", choices=list(TOLERANCE), default="float32")
    parser.add_argument("--rounds", type=report.count, default=21, help="timed runs of each file")
    parser.add_argument("--runtimes", choices=list(MEASURES), nargs="+", help="default: installed")
    options = parser.parse_args(arguments)
    installed = [name for name in MEASURES if name in available_runtimes()]
    options.runtimes = options.runtimes or installed
    if missing := [name for name in options.runtimes or MEASURES if name not in installed]:
        parser.error(f"not installed: {', '.join(missing)}. Run `make mobile-kit`")
    return options


def write_files(
    options: argparse.Namespace, folder: Path
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
            # A wrong file is not worth its time.
            "error": max(
                check_sparse_mode(
                    files[name],
                    sample,
                    reference(net, sample),
                    TOLERANCE[options.precision],
                    runtime=runtime,
                )
                for runtime in options.runtimes
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
    options: argparse.Namespace,
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
    options: argparse.Namespace,
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


def show(results: dict[str, dict], options: argparse.Namespace) -> None:
    """Prints the table."""
    print(
        f"{options.model}, width {options.width:g}, {options.size}x{options.size}x"
        f"{options.channels}, {options.precision}, median of {options.rounds} runs"
    )
    columns = [column for column in COLUMNS if column[1] in results["dense"]]
    rows = [
        [name, *(f"{result[key] / unit:.{digits}f}" for _, key, unit, digits in columns)]
        for name, result in results.items()
    ]
    report.print_table(["", *(title for title, *_ in columns)], rows)
    for name, result in results.items():
        print(f"{name}: off by at most {result['error']:.0e} of the output's scale in sparse mode")


if __name__ == "__main__":
    main()
