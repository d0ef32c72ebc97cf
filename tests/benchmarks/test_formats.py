"""The formats benchmark: sizes and verdicts by hand, arguments, and runs on a tiny net."""

import json
import zlib

import keras
import numpy as np
import pytest
from keras import layers

import spfde_keras
from benchmarks import formats
from spfde_keras.export import available_runtimes


@pytest.fixture(scope="module")
def path(tmp_path_factory, digits):
    """A sparse classifier of the digits that phones can run sparse; only its head is fitted."""
    keras.utils.set_random_seed(0)
    image = layers.Input((8, 8, 1))
    x = layers.ZeroPadding2D(1)(layers.Concatenate()([image] * 3))
    x = layers.Conv2D(16, 3, 2, "valid", activation="relu")(x)
    for name in ("depthwise1", "depthwise2"):
        x = layers.DepthwiseConv2D(3, padding="same", activation="relu", name=name)(x)
        x = layers.Conv2D(64, 1, activation="relu")(x)
    pooled = layers.GlobalAveragePooling2D(name="pool")(x)
    plain = keras.Model(image, layers.Dense(10, name="head")(pooled))
    model = spfde_keras.sparsify(plain, 0.9, dense=("first", "last", "depthwise.*"))
    features = keras.Model(model.input, model.get_layer("pool").output)
    known = np.asarray(features(digits.normalize(digits.train_x)))
    # Least squares with a little ridge, without which rounding to float16 is enlarged.
    squares = known.T @ known
    squares += 1e-3 * np.trace(squares) / len(squares) * np.eye(len(squares))
    head = np.linalg.solve(squares, known.T @ np.eye(10)[digits.train_y])
    model.get_layer("head").kernel.assign(head)
    saved = tmp_path_factory.mktemp("formats") / "model.keras"
    model.save(saved)
    return saved


@pytest.fixture
def no_kit(tmp_path, monkeypatch):
    monkeypatch.setenv("SPFDE_MOBILE_KIT", str(tmp_path / "no_kit"))


def test_sizes_are_those_of_the_file_and_of_its_deflated_bytes(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(bytes(5000) + np.random.default_rng(0).bytes(1000))
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    deflated = compressor.compress(path.read_bytes()) + compressor.flush()
    assert formats.sizes(path) == {"bytes": 6000, "deflated_bytes": len(deflated)}
    assert 1000 < len(deflated) < 1100  # the zeros are gone


def fails(path, inputs):
    raise RuntimeError("cannot run the file")


@pytest.mark.parametrize(
    ("run", "expected", "shown"),
    [
        (lambda path, inputs: {"y": [[1.0, 2.1]]}, ("right", 0.05, None), "right (5e-02)"),
        (lambda path, inputs: {"y": [[1.0, 3.0]]}, ("wrong", 0.5, None), "wrong (5e-01)"),
        (lambda path, inputs: {"y": [[1.0, np.nan]]}, ("wrong", None, None), "wrong (NaN)"),
        (fails, ("does not load", None, "cannot run the file"), "does not load"),
    ],
)
def test_verdicts_by_hand(run, expected, shown):
    def as_arrays(path, inputs):
        return {name: np.array(output) for name, output in run(path, inputs).items()}

    found = formats.verdict(as_arrays, None, {}, {"y": np.array([[1.0, 2.0]])}, tolerance=0.1)
    assert found == dict(zip(("verdict", "error", "message"), expected, strict=True)) | {
        "error": expected[1] and pytest.approx(expected[1])
    }
    file = {"bytes": 2000, "deflated_bytes": 500, "accuracy": 0.5, "runs_sparse": False}
    row = formats.cells(file | {"runtimes": {"wasm": found}}, ["wasm"])
    assert row == ["2,000", "500", "0.25", "0.5000", shown, "no"]


def test_int8_is_written_densely_only():
    assert [name for name, *_ in formats.formats(["float16", "int8_full"])] == [
        "float16, dense",
        "float16, sparse",
        "int8_full, dense",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the folder of a run or `model` must be given. Received: neither"),
        (["no/run"], "`run` must be the folder of a finished run of apps.train. Received: no/run"),
        (["--model=a.keras"], "`dataset` must be given with `model`"),
        (["--model=a.keras", "--dataset=digits"], "must be a .keras file. Received: a.keras"),
        (["run", "--dataset=digits"], "`dataset` must be left out with a run"),
        (["run", "--model=a.keras"], "must be given. Received: both"),
        (["run", "--runtimes=wasm"], "not installed: wasm. Run `make mobile-kit`"),
        (["run", "--samples=0"], "`samples` must be an integer of at least 1. Received: 0"),
    ],
)
def test_wrong_arguments_are_one_line(no_kit, capsys, arguments, message):
    assert formats.main(arguments) in (1, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line


def test_a_model_of_other_images_is_refused(tmp_path, capsys):
    keras.Sequential([layers.Input((6,)), layers.Dense(10)]).save(tmp_path / "model.keras")
    assert formats.main([f"--model={tmp_path}/model.keras", "--dataset=digits"]) == 2
    message = "must take [(None, 8, 8, 1)] and give [(None, 10)] for digits. Received: [(None, 6)]"
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_a_run_of_every_format(path, tmp_path, no_kit, capsys):
    config = {"dataset": "digits", "data_dir": None, "train_samples": 1000}
    (path.parent / "results.json").write_text(json.dumps({"config": config}))
    assert formats.main([str(path.parent), f"--json={tmp_path}/formats.json"]) == 0
    results = json.loads((tmp_path / "formats.json").read_text())
    files = results["files"]
    assert list(files) == [
        "float32, dense",
        "float32, sparse",
        "float16, dense",
        "float16, sparse",
        "int8_dynamic, dense",
        "int8_full, dense",
    ]
    assert files["float32, dense"]["accuracy"] == results["keras_accuracy"] > 0.3
    assert all(abs(f["accuracy"] - results["keras_accuracy"]) < 0.1 for f in files.values())
    assert all(f["runtimes"].keys() == {"desktop"} for f in files.values())
    assert all(f["runtimes"]["desktop"]["verdict"] == "right" for f in files.values())
    assert [name for name, f in files.items() if f["runs_sparse"]] == [
        "float32, sparse",
        "float16, sparse",
    ]
    for precision in ("float32", "float16"):
        dense, sparse = files[f"{precision}, dense"], files[f"{precision}, sparse"]
        assert sparse["bytes"] < dense["bytes"]
        assert dense["deflated_bytes"] < 0.8 * dense["bytes"]
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("accuracy", "right (", *files))


def test_what_cannot_be_exported_is_a_row_with_its_reason(path, no_kit, monkeypatch, capsys):
    def refuse_sparse(model, path, precision, sparse, **options):
        if sparse:
            raise RuntimeError("wrong on phones")
        return spfde_keras.export_tflite(model, path, precision, sparse, **options)

    monkeypatch.setattr(formats, "export_tflite", refuse_sparse)
    assert formats.main([f"--model={path}", "--dataset=digits", "--precisions=float32"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "float32, sparse: wrong on phones" in lines
    assert [line for line in lines if line.startswith("float32, dense ") and "right" in line]


def test_each_runtime_runs_by_its_own_name(monkeypatch):
    monkeypatch.setattr(formats, "run_sparse_mode", lambda path, inputs, runtime: (path, runtime))
    monkeypatch.setattr(formats, "run_desktop", lambda path, inputs: (path, "here"))
    runners = formats.runners(["wasm", "arm64"])
    assert {name: run("a.tflite", {}) for name, run in runners.items()} == {
        "desktop": ("a.tflite", "here"),
        "wasm": ("a.tflite", "wasm"),
        "arm64": ("a.tflite", "arm64"),
    }


@pytest.mark.mobile_kit
def test_a_runtime_of_the_kit(path, tmp_path):
    if not available_runtimes():
        pytest.skip("no runtime is installed: make mobile-kit")
    first = available_runtimes()[0]
    source = [f"--model={path}", "--dataset=digits", "--samples=2", "--precisions=float32"]
    assert formats.main([*source, f"--runtimes={first}", f"--json={tmp_path}/formats.json"]) == 0
    files = json.loads((tmp_path / "formats.json").read_text())["files"]
    assert list(files) == ["float32, dense", "float32, sparse"]
    for file in files.values():
        assert list(file["runtimes"]) == ["desktop", first]
        assert all(found["verdict"] == "right" for found in file["runtimes"].values())
