"""Assembles a page that runs the dense and the sparse file of a net side by side in a browser.

python tflite/web/build.py runs/web page --dense=runs/web/dense.tflite
python -m http.server --directory page

The run is a folder of `apps.train` on the digits; its model.tflite is the sparse file. The dense
one is made of the same model:

    python tflite/convert.py runs/web/model.keras runs/web/dense.tflite --nosparse

The page needs no network: LiteRT.js, the npm package @litertjs/core, is copied into its folder
from the mobile kit (make mobile-kit).
"""

import gzip
import json
import os
import pathlib
import shutil
import sys
from collections.abc import Iterable

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from apps import quiet  # noqa: F401  before TensorFlow is imported

# isort: split
import numpy as np
from absl import app, flags

from apps import datasets, web_page
from spfde_keras.export import inspect_tflite, run_tflite

HERE = pathlib.Path(__file__).parent
MARK = "run.json"
_SAMPLES_OF_EACH_DIGIT = 2

_DENSE = flags.DEFINE_string("dense", None, "the run's model as a dense .tflite file")
_NODE_MODULES = flags.DEFINE_string(
    "node_modules", web_page.NODE_MODULES, f"folder in which npm has installed {web_page.LITERT}"
)


def build(run: str, dense: str, out: str, node_modules: str) -> None:
    """Writes the page's folder, which replaces an earlier page there only once it is whole.

    Args:
        run: folder of `apps.train`, with results.json and model.tflite.
        dense: the dense .tflite file of the same model.
        out: the folder to write.
        node_modules: folder in which npm has installed LiteRT.js.

    Raises:
        ValueError: something is missing, or the files are not of one classifier of the digits.
    """
    results, files = _read_run(run), {"dense": dense, "sparse": os.path.join(run, "model.tflite")}
    dataset = datasets.load_arrays("digits")
    shown = _first_of_each(dataset.test_y, _SAMPLES_OF_EACH_DIGIT)
    _check(files, results, dataset.test_x[shown])
    samples = zip(dataset.test_y[shown], dataset.test_x[shown], strict=True)
    described = _describe(results, files, samples)
    with web_page.replacing(out, node_modules, MARK) as page:
        shutil.copytree(HERE / "page", page, dirs_exist_ok=True)
        for kind, path in files.items():
            shutil.copyfile(path, page / f"{kind}.tflite")
        (page / MARK).write_text(json.dumps(described))


def _read_run(run: str) -> dict:
    try:
        results = json.loads(pathlib.Path(run, "results.json").read_text())
        dataset = results["config"]["dataset"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"`run` must be a folder of apps.train, with its results.json. Received: {run} "
            f"({type(error).__name__}: {error})"
        ) from error
    if dataset != "digits":
        raise ValueError(f"`run` must be a run on the digits. Received: a run on {dataset}")
    return results


def _first_of_each(labels: np.ndarray, count: int) -> np.ndarray:
    """The first samples of each digit, in the order of the digits row by row."""
    of_each = [np.flatnonzero(labels == digit)[:count] for digit in range(10)]
    return np.stack(of_each, axis=1).ravel()


def _check(files: dict[str, str], results: dict, images: np.ndarray) -> None:
    """Raises ValueError unless both files have all sub-nets and agree on the samples."""
    stored = {w.stored for graph in inspect_tflite(files["dense"]).graphs for w in graph.weights}
    if stored != {"dense"}:
        raise ValueError(
            "`dense` must be written with --nosparse. Received: "
            f"{files['dense']}, which has weights stored sparse"
        )
    x = (images - np.float32(results["pixel_mean"])) / np.float32(results["pixel_std"])
    names = [subnet["name"] for subnet in results["subnets"]]
    for name in names:
        signature = name if len(names) > 1 else None
        try:
            outputs = [np.asarray(run_tflite(file, x, signature)) for file in files.values()]
        except RuntimeError as error:
            raise ValueError(str(error)) from error
        dense, sparse = outputs
        if dense.shape != sparse.shape or not np.allclose(dense, sparse, 1e-3, 1e-3):
            raise ValueError(
                "`dense` must hold the run's own model, written with --nosparse. "
                f"Received: {files['dense']}, which answers otherwise than {files['sparse']}"
            )


def _describe(
    results: dict, files: dict[str, str], samples: Iterable[tuple[np.ndarray, np.ndarray]]
) -> dict:
    """What the page has to know, as in run.json."""
    contents = {kind: pathlib.Path(path).read_bytes() for kind, path in files.items()}
    return {
        "model": results["config"]["model"],
        "files": {
            kind: {
                "url": web_page.fresh(f"{kind}.tflite", content),
                "bytes": len(content),
                "gzip_bytes": len(gzip.compress(content)),
            }
            for kind, content in contents.items()
        },
        "scaling": {"mean": results["pixel_mean"][0], "std": results["pixel_std"][0]},
        "subnets": [
            {
                "name": subnet["name"],
                "sparsity": subnet["sparsity"],
                "accuracy": subnet["tflite_test_accuracy"],
            }
            for subnet in results["subnets"]
        ],
        "samples": [
            {"label": int(label), "pixels": image.ravel().tolist()} for label, image in samples
        ],
    }


def main(argv: list[str]) -> None:
    """Runs the command; a wrong input ends it with one line and exit code 1.

    Args:
        argv: the program's name, the run's folder and the page's.
    """
    if len(argv) != 3 or _DENSE.value is None:
        raise app.UsageError(
            "A run's folder, the page's folder and --dense=FILE are needed. "
            f"Received: {argv[1:]}, --dense={_DENSE.value}"
        )
    run, out = argv[1:]
    try:
        build(run, _DENSE.value, out, _NODE_MODULES.value)
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(f"{out}: show it with `python -m http.server --directory {out}`")


if __name__ == "__main__":
    app.run(main)
