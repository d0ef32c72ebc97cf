"""Shows what each file format of a trained model costs and is worth, and where it runs.

    python benchmarks/formats.py RUN_FOLDER
    python benchmarks/formats.py --model model.keras --dataset digits

Every precision is written with weights stored densely and, where `export_tflite` can, sparse:
the same trained weights both times. Deflate is what a download of an app applies; it packs zeros
well, so that it shrinks the dense file of a sparse model too. A model of several sub-nets is
taken as its active one.
"""

import argparse
import json
import math
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import spfde_keras
from apps import datasets
from benchmarks import report
from spfde_keras.export import (
    PRECISIONS,
    available_runtimes,
    evaluate_tflite,
    export_tflite,
    inspect_tflite,
    run_sparse_mode,
    run_tflite,
)
from spfde_keras.export.verification import largest_error, named_inputs, reference

CALIBRATION_SAMPLES = 256
# On this machine's processor; the others are those of the mobile kit.
DESKTOP = "desktop"


def main(arguments: list[str] | None = None) -> None:
    """Writes the files, runs them everywhere, prints the table and writes the results."""
    options = parse(arguments)
    with tempfile.TemporaryDirectory() as folder:
        results = measure(options, Path(folder))
    show(results, options.runtimes)
    if options.json:
        report.write_json(options.json, results)


def measure(options: argparse.Namespace, folder: Path) -> dict:
    """Returns what each format of the model is worth; a refused one has the reason instead."""
    dataset, model = options.dataset, options.model
    test_x = np.asarray(dataset.normalize(dataset.test_x))
    representative = np.asarray(dataset.normalize(dataset.train_x[:CALIBRATION_SAMPLES]))
    samples = named_inputs(model, test_x[: options.samples])
    expected = reference(model, samples)
    predictions = model.predict(test_x, verbose=0).argmax(-1)
    path, files = folder / "model.tflite", {}
    for name, precision, sparse in formats(options.precisions):
        try:
            exported = export_tflite(
                model, path, precision, sparse, representative_data=representative
            )
        except RuntimeError as error:
            files[name] = {"refused": str(error)}
            continue
        files[name] = sizes(path) | {
            "accuracy": evaluate_tflite(path, test_x, dataset.test_y),
            "runs_sparse": inspect_tflite(path).sparse_on_arm64,
            "runtimes": {
                runtime: verdict(run, path, samples, expected, exported.tolerance)
                for runtime, run in runners(options.runtimes).items()
            },
        }
    return {
        "model": str(options.path),
        "dataset": dataset.name,
        "keras_accuracy": float(np.mean(predictions == dataset.test_y)),
        "test_samples": len(test_x),
        "compared_samples": len(next(iter(samples.values()))),
        "files": files,
    }


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Reads the command line, or `arguments` if there are any, then the model and its data."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("run", nargs="?", type=Path, help="output folder of `apps.train`")
    source.add_argument("--model", type=Path, help=".keras file, instead of a run")
    parser.add_argument("--dataset", help="of --model: digits, or a name in tensorflow-datasets")
    parser.add_argument("--data_dir", help="where tensorflow-datasets has it; else as in the run")
    parser.add_argument("--json", type=report.json_path, help="file to write the results to")
    parser.add_argument("--precisions", choices=PRECISIONS, nargs="+", default=list(PRECISIONS))
    parser.add_argument(
        "--samples", type=report.count, default=4, help="test samples compared in each runtime"
    )
    parser.add_argument("--runtimes", nargs="*", help="of the mobile kit; default: installed")
    options = parser.parse_args(arguments)
    installed = available_runtimes()
    options.runtimes = installed if options.runtimes is None else options.runtimes
    if missing := [name for name in options.runtimes if name not in installed]:
        parser.error(f"not installed: {', '.join(missing)}. Run `make mobile-kit`")
    try:
        options.path, options.dataset = read_source(options)
        options.model = read_model(options.path, options.dataset)
    except ValueError as error:
        parser.error(" ".join(str(error).split()))
    return options


def read_source(options: argparse.Namespace) -> tuple[Path, datasets.Dataset]:
    """Returns the path of the model and the data it was trained on.

    Raises:
        ValueError: if the run or its data is not there, or options do not go together.
    """
    if options.model:
        if not options.dataset:
            raise ValueError("`--dataset` must be given with --model: the data to test it on")
        return options.model, datasets.load(options.dataset, options.data_dir)
    if options.dataset:
        raise ValueError(
            f"`--dataset` must be left out with a run, which has its own. "
            f"Received: {options.dataset}"
        )
    try:
        config = json.loads((options.run / "results.json").read_text())["config"]
        names = config["dataset"], options.data_dir or config["data_dir"], config["train_samples"]
    except (OSError, ValueError, LookupError, TypeError):
        raise ValueError(
            f"`run` must be the folder of a finished run of apps.train. Received: {options.run}"
        ) from None
    return options.run / "model.keras", datasets.load(*names)


def read_model(path: Path, dataset: datasets.Dataset) -> keras.Model:
    """Returns the plain model of a .keras file.

    Raises:
        ValueError: if there is none, or it is no classifier of the data's images.
    """
    if not path.is_file():
        raise ValueError(f"`--model` must be a .keras file. Received: {path}")
    model = spfde_keras.densify(keras.saving.load_model(path, compile=False))
    wanted = [(None, *dataset.input_shape)], [(None, dataset.classes)]
    found = [t.shape for t in model.inputs], [t.shape for t in model.outputs]
    if found != wanted:
        raise ValueError(
            f"`--model` must take {wanted[0]} and give {wanted[1]} for {dataset.name}. "
            f"Received: {found[0]} and {found[1]}"
        )
    return model


def formats(precisions: list[str]) -> list[tuple[str, str, bool]]:
    """Returns name, precision and encoding of each file; sparse ones where they can be."""
    return [
        (f"{precision}, {'sparse' if sparse else 'dense'}", precision, sparse)
        for precision in precisions
        for sparse in (False, True)[: 1 + PRECISIONS[precision].sparse]
    ]


def sizes(path: Path) -> dict[str, int]:
    """Returns the bytes of a file, as it is and as a member of an APK, which is a zip file."""
    archive = path.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        file.write(path, path.name)
        deflated = file.getinfo(path.name).compress_size
    return {"bytes": path.stat().st_size, "deflated_bytes": deflated}


def runners(runtimes: list[str]) -> dict[str, Callable]:
    """Returns what runs a file on inputs, by name: here, and in the kit's `runtimes`."""
    return {DESKTOP: run_desktop} | {
        name: lambda path, inputs, name=name: run_sparse_mode(path, inputs, runtime=name)
        for name in runtimes
    }


def run_desktop(path: Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Runs a classifier's file in this process."""
    return {"output_0": run_tflite(path, inputs)}


def verdict(
    run: Callable, path: Path, inputs: dict, expected: dict, tolerance: float
) -> dict[str, str | float | None]:
    """Tells whether a runtime gives what is expected of a file.

    Args:
        run: (path, inputs) -> outputs by name.
        path: the file.
        inputs: arrays (samples, *input shape) by name.
        expected: arrays (samples, *output shape) by name.
        tolerance: float, the largest error accepted, a share of the outputs' scale.

    Returns:
        "verdict" ("right", "wrong" or "does not load"), "error" (None where there is no number)
        and "message" (why it does not load, or None).
    """
    try:
        error = largest_error(run(path, inputs), expected)
    except RuntimeError as failure:
        return {"verdict": "does not load", "error": None, "message": str(failure)}
    return {
        "verdict": "right" if error <= tolerance else "wrong",
        "error": error if math.isfinite(error) else None,
        "message": None,
    }


def show(results: dict, runtimes: list[str]) -> None:
    """Prints the table, and what the numbers are."""
    columns = [DESKTOP, *runtimes]
    headers = ["", "bytes", "deflated", "/ bytes", "accuracy", *columns, "sparse on phones"]
    rows, refusals = [], []
    for name, file in results["files"].items():
        if "refused" in file:
            rows.append([name, "refused", *[""] * (len(headers) - 2)])
            refusals.append(f"{name}: {file['refused']}")
        else:
            rows.append([name, *cells(file, columns)])
    print(
        f"{results['model']}, {results['dataset']}: accuracy {results['keras_accuracy']:.4f} in "
        f"Keras, on {results['test_samples']} test samples"
    )
    report.print_table(headers, rows)
    print(
        f"In brackets: the largest error against Keras, a share of the output's scale, on "
        f"{results['compared_samples']} samples."
    )
    for line in refusals:
        print(line)


def cells(file: dict, columns: list[str]) -> list[str]:
    """Returns a file's row of the table, without its name."""
    return [
        f"{file['bytes']:,}",
        f"{file['deflated_bytes']:,}",
        f"{file['deflated_bytes'] / file['bytes']:.2f}",
        f"{file['accuracy']:.4f}",
        *(_in_words(file["runtimes"][name]) for name in columns),
        "yes" if file["runs_sparse"] else "no",
    ]


def _in_words(found: dict) -> str:
    if found["verdict"] == "does not load":
        return found["verdict"]
    error = "NaN" if found["error"] is None else f"{found['error']:.0e}"
    return f"{found['verdict']} ({error})"


if __name__ == "__main__":
    main()
