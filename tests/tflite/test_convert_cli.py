import importlib.util
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from absl import app, flags
from absl.testing import flagsaver
from keras import layers

from spfde_keras.export import run_tflite
from spfde_keras.sparsify import sparsify

SCRIPT = pathlib.Path(__file__).parents[2] / "tflite" / "convert.py"


@pytest.fixture(scope="module")
def cli():
    spec = importlib.util.spec_from_file_location("convert_cli", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(cli):
    def run(*arguments, **values):
        flags.FLAGS.mark_as_parsed()
        with flagsaver.flagsaver(**values):
            cli.main(["convert.py", *map(str, arguments)])

    return run


@pytest.fixture
def source(tmp_path):
    model = keras.Sequential([layers.Input((64,)), layers.Dense(128), layers.Dense(10)])
    path = tmp_path / "model.keras"
    sparsify(model, sparsity=0.9).save(path)
    return path


def test_end_to_end(source, tmp_path):
    target = tmp_path / "model.tflite"
    command = [sys.executable, SCRIPT, source, target, "--precision=float16"]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{target}: float16, sparse, {target.stat().st_size:,} bytes (")
    assert "\ndoes not run sparse on phones" in done.stdout and not done.stderr
    x = np.random.default_rng(0).random((3, 64), dtype="float32")
    expected = keras.saving.load_model(source).predict(x, verbose=0)
    np.testing.assert_allclose(run_tflite(target, x), expected, atol=1e-2)


def test_flags_reach_the_export(run, source, tmp_path, capsys):
    data = tmp_path / "samples.npy"
    np.save(data, np.random.default_rng(0).random((9, 64)))
    target = tmp_path / "model.tflite"
    run(source, target, precision="int8_full", representative_data=str(data))
    assert "int8_full, dense" in capsys.readouterr().out
    run(source, target, sparse=False)
    assert "float32, dense" in capsys.readouterr().out


def test_all_signatures_are_printed(run, tmp_path, capsys):
    model = keras.Sequential([layers.Input((8,)), layers.Dense(16), layers.Dense(2)])
    sparsify(model, sparsity=[0.5, 0.75]).save(tmp_path / "model.keras")
    run(tmp_path / "model.keras", tmp_path / "model.tflite")
    printed = capsys.readouterr().out
    assert "subnet_50, subnet_75: largest error" in printed and printed.count("\n") == 3


def test_a_file_for_phones_or_none(run, source, tmp_path, capsys):
    image = layers.Input((8, 8, 3))
    x = layers.Conv2D(16, 3, 2, "same", activation="relu")(image)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(32, 1, activation="relu")(x))
    model = keras.Model(image, layers.Dense(4)(x))
    sparsify(model, sparsity=0.9).save(tmp_path / "image.keras")
    target = tmp_path / "model.tflite"
    run(tmp_path / "image.keras", target, mobile=True)
    assert "\nruns sparse on phones" in capsys.readouterr().out
    written = target.read_bytes()
    with pytest.raises(SystemExit, match="error: `model` cannot run sparse on phones"):
        run(source, target, mobile=True)
    assert target.read_bytes() == written


@pytest.mark.parametrize(
    ("arguments", "values", "message"),
    [
        (["{folder}/missing.keras", "{target}"], {}, "missing.keras does not exist"),
        (["{folder}/text.keras", "{target}"], {}, "text.keras is not a .keras file"),
        (["{source}", "{folder}/no/model.tflite"], {}, "existing, writable folder"),
        (["{source}", "{folder}/model.bin"], {}, "must end in .tflite"),
        (["{source}", "{target}"], {"precision": "int4"}, "`precision` must be one of"),
        (["{source}", "{target}"], {"precision": "int8_dynamic", "sparse": True}, "sparse int8"),
        (["{source}", "{target}"], {"precision": "int8_full"}, "`representative_data`"),
        (
            ["{source}", "{target}"],
            {"representative_data": "missing.npy"},
            "missing.npy does not exist",
        ),
        (
            ["{source}", "{target}"],
            {"representative_data": "{folder}/text.keras"},
            "text.keras is not a .npy file",
        ),
    ],
)
def test_wrong_input_is_one_line(run, source, tmp_path, arguments, values, message):
    target = tmp_path / "model.tflite"
    target.write_bytes(b"older")
    (tmp_path / "text.keras").write_text("text")
    names = {"source": source, "target": target, "folder": tmp_path}
    values = {k: v.format(**names) if isinstance(v, str) else v for k, v in values.items()}
    with pytest.raises(SystemExit) as stopped:
        run(*(argument.format(**names) for argument in arguments), **values)
    # Python prints a text exit code to stderr and exits with 1.
    assert stopped.value.code.startswith("error: ") and message in stopped.value.code
    assert "\n" not in stopped.value.code
    assert target.read_bytes() == b"older"


def test_both_files_are_needed(run, source):
    with pytest.raises(app.UsageError, match="A .keras and a .tflite file are needed. Received: "):
        run(source)
