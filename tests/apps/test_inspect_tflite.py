"""`spfde inspect`, and that no program hides a module of the standard library."""

import json
import pathlib
import subprocess
import sys

import keras
import pytest

from apps import errors, inspect_tflite
from spfde_keras.export import export_tflite

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "model.tflite"
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)])
    export_tflite(model, path, sparse=False)
    return path


# A script's own folder comes first on the path, where it hides modules of the same name.
@pytest.mark.parametrize("folder", ["tflite", "benchmarks", "apps"])
def test_no_program_is_named_like_a_module_of_the_standard_library(folder):
    programs = {path.stem for path in (ROOT / folder).glob("**/*.py")} - {"__main__"}
    assert programs and not programs & sys.stdlib_module_names


def test_the_script_runs_from_any_folder(file):
    command = [sys.executable, ROOT / "tflite" / "inspect_tflite.py", file]
    done = subprocess.run(command, capture_output=True, text=True, cwd=file.parent, check=False)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert done.stdout.startswith(f"{file}: ") and "does not run sparse" in done.stdout


def test_json_is_one_object(file, capsys):
    assert inspect_tflite.main([str(file), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["sparse_on_arm64"] is False and report["safe_on_arm64"] is True
    assert [problem["rule"] for problem in report["problems"]] == ["stem_stride", "stored_dense"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "error: `file` must be an existing file"),
        (b"no model", "error: "),
        (b"PK\x03\x04 and more", "error: {path} must be a .tflite file, not a saved model"),
    ],
)
def test_missing_and_bad_files_are_one_line(tmp_path, capsys, content, message):
    path = tmp_path / "model.tflite"
    if content is not None:
        path.write_bytes(content)
    assert inspect_tflite.main([str(path), "--json"]) == errors.MISUSED
    printed = capsys.readouterr()
    assert printed.err.startswith(message.format(path=path)) and printed.err.count("\n") == 1
    assert not printed.out


@pytest.mark.parametrize("arguments", [[], ["a.tflite", "b.tflite"], ["a.tflite", "--unknown"]])
def test_a_wrong_command_line_is_one_line(arguments, capsys):
    assert inspect_tflite.main(arguments) == errors.MISUSED
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1
    assert not printed.out
