"""Shows the size and accuracy of a trained model in each file format, and where it runs.

    python benchmarks/formats.py RUN_FOLDER
    python benchmarks/formats.py --model model.keras --dataset digits

Every precision is written with weights stored densely and, where `export_tflite` can, sparse:
the same trained weights both times. Deflate is what a download of an app applies; it packs zeros
well, so that it shrinks the dense file of a sparse model too. A model of several sub-nets is
taken as its active one.
"""

import dataclasses
import json
import math
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from apps import datasets, program  # first: no log of TensorFlow

# isort: split
import keras
import numpy as np

import spfde_keras
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
from spfde_keras.export.inputs import named_inputs
from spfde_keras.export.verification import largest_error, reference

CALIBRATION_SAMPLES = 256
# This machine's processor; the other runtimes are those of the mobile kit.
DESKTOP = "desktop"


@dataclasses.dataclass(frozen=True)
class Options(program.Options):
    """The options of the benchmark."""

    run: str | None = program.option(None, "output folder of `apps.train`", positional=True)
    model: str | None = program.option(None, ".keras file, instead of a run")
    dataset: str | None = program.option(
        None, "of --model: digits, or a name in tensorflow-datasets"
    )
    data_dir: str | None = program.option(
        None, "where tensorflow-datasets has the data; as in the run if unset"
    )
    precisions: tuple[str, ...] = program.option(
        tuple(PRECISIONS),
        "several with commas between",
        choices=tuple(PRECISIONS),
        several=str,
    )
    samples: int = program.option(4, "test samples compared in each runtime", least=1)
    runtimes: tuple[str, ...] | None = program.option(
        None,
        "of the mobile kit, several with commas between; those that are installed if unset",
        several=str,
    )
    json: str | None = program.option(None, "file to write the results to", written=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.run is None) == (self.model is None):
            raise ValueError(
                "Either the folder of a run or `model` must be given. Received: "
                f"{'neither' if self.run is None else 'both'}"
            )
        if self.model and not self.dataset:
            raise ValueError("`dataset` must be given with `model`: the data to test it on")
        if self.run and self.dataset:
            raise ValueError(
                "`dataset` must be left out with a run, which has its own. "
                f"Received: {self.dataset}"
            )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status, as of `program.run`."""
    return program.run(benchmark, Options, __doc__, arguments)


def benchmark(options: Options) -> None:
    """Writes the files, runs them everywhere, prints the table and writes the results."""
    wanted = available_runtimes() if options.runtimes is None else options.runtimes
    runtimes = report.check_installed(wanted)
    with tempfile.TemporaryDirectory() as folder:
        results = measure(options, runtimes, Path(folder))
    report.finish(options, results | {"runtimes": [DESKTOP, *runtimes]}, tables)


def measure(options: Options, runtimes: Sequence[str], folder: Path) -> dict:
    """Returns the results of each format of the model, or the reason why it is refused.

    Raises:
        ValueError: if the model or its data is not there, or they do not fit each other.
    """
    source, dataset = read_source(options)
    model = read_model(source, dataset)
    test_x = np.asarray(dataset.normalize(dataset.test_x))
    representative = np.asarray(dataset.normalize(dataset.train_x[:CALIBRATION_SAMPLES]))
    samples = named_inputs(model, test_x[: options.samples])
    expected = reference(model, samples)
    predictions = model.predict(test_x, verbose=0).argmax(-1)
    path = folder / "model.tflite"
    files: dict[str, dict] = {}
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
                for runtime, run in runners(runtimes).items()
            },
        }
    return {
        "model": "/".join(source.parts[-2:]),
        "dataset": dataset.name,
        "keras_accuracy": float(np.mean(predictions == dataset.test_y)),
        "test_samples": len(test_x),
        "compared_samples": len(next(iter(samples.values()))),
        "files": files,
    }


def read_source(options: Options) -> tuple[Path, datasets.Dataset]:
    """Returns the path of the model and the data it was trained on.

    Raises:
        ValueError: if the run or its data is not there.
    """
    if options.model and options.dataset:
        return Path(options.model), datasets.load_arrays(options.dataset, options.data_dir)
    run = Path(options.run or "")
    try:
        config = json.loads((run / "results.json").read_text())["config"]
        names = config["dataset"], options.data_dir or config["data_dir"], config["train_samples"]
    except (OSError, ValueError, LookupError, TypeError):
        raise ValueError(
            f"`run` must be the folder of a finished run of apps.train. Received: {run}"
        ) from None
    return run / "model.keras", datasets.load_arrays(*names)


def read_model(path: Path, dataset: datasets.Dataset) -> keras.Model:
    """Returns the plain model of a .keras file.

    Raises:
        ValueError: if there is none, or it is no classifier of the data's images.
    """
    if not path.is_file():
        raise ValueError(f"`model` must be a .keras file. Received: {path}")
    model = spfde_keras.densify(keras.saving.load_model(path, compile=False))
    wanted = [(None, *dataset.input_shape)], [(None, dataset.classes)]
    found = [t.shape for t in model.inputs], [t.shape for t in model.outputs]
    if found != wanted:
        raise ValueError(
            f"`model` must take {wanted[0]} and give {wanted[1]} for {dataset.name}. "
            f"Received: {found[0]} and {found[1]}"
        )
    return model


def formats(precisions: Sequence[str]) -> list[tuple[str, str, bool]]:
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


def runners(runtimes: Sequence[str]) -> dict[str, Callable]:
    """Returns what runs a file on inputs, by name: here, and in the kit's `runtimes`."""
    return {DESKTOP: run_desktop} | {
        name: lambda path, inputs, name=name: run_sparse_mode(path, inputs, runtime=name)
        for name in runtimes
    }


def run_desktop(path: Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Runs a classifier's file in this process."""
    outputs = run_tflite(path, inputs)
    return outputs if isinstance(outputs, dict) else {"output_0": outputs}


def verdict(
    run: Callable, path: Path, inputs: dict, expected: dict, tolerance: float
) -> dict[str, str | float | None]:
    """Returns whether a runtime computes what is expected of a file.

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


def tables(found: Mapping) -> dict[str, report.Table]:
    """The table of files, and what the numbers are."""
    columns = found["runtimes"]
    headings = ["", "bytes", "deflated", "/ bytes", "accuracy", *columns, "sparse on phones"]
    rows = []
    notes = [
        "In brackets: the largest error against Keras, a share of the output's scale, on "
        f"{found['compared_samples']} samples."
    ]
    for name, file in found["files"].items():
        if "refused" in file:
            rows.append([name, "refused", *[""] * (len(headings) - 2)])
            notes.append(f"{name}: {file['refused']}")
        else:
            rows.append([name, *cells(file, columns)])
    title = (
        f"{found['model']}, {found['dataset']}: accuracy {found['keras_accuracy']:.4f} in "
        f"Keras, on {found['test_samples']} test samples"
    )
    return {"files": report.Table(headings, rows, title, notes)}


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
    sys.exit(main())
