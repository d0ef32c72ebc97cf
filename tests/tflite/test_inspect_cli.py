"""`python tflite/inspect.py`, and that its name hides no module of the standard library."""

import importlib.util
import json
import pathlib
import subprocess
import sys

import keras
import pytest

from spfde_keras.export import export_tflite

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "tflite" / "inspect.py"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "model.tflite"
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)])
    export_tflite(model, path, sparse=False)
    return path


@pytest.fixture(scope="module")
def cli():
    spec = importlib.util.spec_from_file_location("inspect_cli", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("command", [[SCRIPT], ["-m", "tflite.inspect"]], ids=["file", "module"])
def test_both_ways_to_start_it(command, file):
    done = subprocess.run(
        [sys.executable, *command, file], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert done.stdout.startswith(f"{file}: ") and "does not run sparse" in done.stdout


def test_the_other_command_starts_beside_it():
    # tflite/convert.py imports the standard library's `inspect`, and not its neighbour.
    done = subprocess.run(
        [sys.executable, SCRIPT.with_name("convert.py")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and done.stderr.startswith("Usage: python tflite/convert.py")


def test_json_is_one_object(cli, file, capsys):
    cli.main([str(file), "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["sparse_on_arm64"] is False and report["safe_on_arm64"] is True
    assert [problem["rule"] for problem in report["problems"]] == ["stored_dense"]


def test_bad_files_are_one_line_and_exit_code_1(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"no model")
    done = subprocess.run(
        [sys.executable, SCRIPT, path, "--json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1


def test_missing_files(cli, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(tmp_path / "missing.tflite")])
    # Python prints a text exit code to stderr and exits with 1.
    assert stopped.value.code.startswith("error: `path` must be a .tflite file")
