"""`spfde convert`: what its flags do, and what is wrong is one line."""

import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

from apps import convert, errors
from spfde_keras.export import PRECISIONS, run_tflite
from spfde_keras.sparsify import sparsify

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "tflite" / "convert.py"


def run(*arguments):
    return convert.main(list(map(str, arguments)))


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


def test_flags_reach_the_export(source, tmp_path, capsys):
    data = tmp_path / "samples.npy"
    np.save(data, np.random.default_rng(0).random((9, 64)))
    target = tmp_path / "model.tflite"
    assert not run(source, target, "--precision=int8_full", f"--representative_data={data}")
    assert "int8_full, dense" in capsys.readouterr().out
    assert not run(source, target, "--nosparse")
    assert "float32, dense" in capsys.readouterr().out


def test_the_precisions_are_those_of_the_library():
    assert convert.PRECISIONS == tuple(PRECISIONS)


def test_all_signatures_are_printed(tmp_path, capsys):
    model = keras.Sequential([layers.Input((8,)), layers.Dense(16), layers.Dense(2)])
    sparsify(model, sparsity=[0.5, 0.75], initial="random").save(tmp_path / "model.keras")
    run(tmp_path / "model.keras", tmp_path / "model.tflite")
    printed = capsys.readouterr().out
    assert "subnet_50, subnet_75: largest error" in printed and printed.count("\n") == 3


def test_a_file_for_phones_or_none(source, tmp_path, capsys):
    image = layers.Input((8, 8, 3))
    x = layers.Conv2D(16, 3, 2, "same", activation="relu")(image)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(32, 1, activation="relu")(x))
    model = keras.Model(image, layers.Dense(4)(x))
    sparsify(model, sparsity=0.9).save(tmp_path / "image.keras")
    target = tmp_path / "model.tflite"
    assert not run(tmp_path / "image.keras", target, "--mobile")
    assert "\nruns sparse on phones" in capsys.readouterr().out
    written = target.read_bytes()
    assert run(source, target, "--mobile") == errors.FAILED
    assert capsys.readouterr().err.startswith("error: `model` cannot run sparse on phones")
    assert target.read_bytes() == written


@pytest.mark.parametrize(
    "arguments",
    [
        "{here}/missing.keras a.tflite",
        "{here} a.h5",
        "{here} {folder}/no/a.tflite",
        "{here} a.tflite --precision=int8_full",
        "{here} a.tflite --representative_data={here}/missing.npy",
    ],
)
def test_what_needs_no_tensorflow_is_checked_without_it(arguments, tmp_path):
    options = arguments.format(here=__file__, folder=tmp_path).split()
    code = (
        f"import sys; from apps import convert; status = convert.main({options}); "
        "sys.exit(99 if 'tensorflow' in sys.modules else status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=ROOT, check=False)
    assert done.returncode == errors.MISUSED, done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("{folder}/missing.keras {target}", "`source` must be an existing file. Received: "),
        ("{folder}/text.keras {target}", "text.keras is not a .keras file"),
        ("{source} {folder}/no/model.tflite", "in a folder that can be written"),
        ("{source} {folder}/model.bin", "must end in .tflite"),
        ("{source} {target} --precision=int4", "`precision` must be one of"),
        ("{source} {target} --precision=int8_dynamic --sparse", "sparse int8"),
        ("{source} {target} --precision=int8_full", "`representative_data`"),
        (
            "{source} {target} --representative_data=missing.npy",
            "must be an existing file. Received: missing.npy",
        ),
        (
            "{source} {target} --representative_data={folder}/text.keras",
            "text.keras is not a .npy file",
        ),
        ("{source}", "A .keras and a .tflite file are needed. Received: "),
        ("", "A .keras and a .tflite file are needed. Received: none"),
    ],
)
def test_wrong_input_is_one_line(source, tmp_path, capsys, arguments, message):
    target = tmp_path / "model.tflite"
    target.write_bytes(b"older")
    (tmp_path / "text.keras").write_text("text")
    assert run(*arguments.format(source=source, target=target, folder=tmp_path).split())
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and message in printed
    assert printed.count("\n") == 1
    assert target.read_bytes() == b"older"
