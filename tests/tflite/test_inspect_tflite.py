"""`python tflite/inspect_tflite.py`, and that no program hides a module of the standard library."""

import importlib.util
import json
import pathlib
import subprocess
import sys

import keras
import pytest
from absl import app, flags
from absl.testing import flagsaver

from spfde_keras.export import export_tflite

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "tflite" / "inspect_tflite.py"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "model.tflite"
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)])
    export_tflite(model, path, sparse=False)
    return path


@pytest.fixture(scope="module")
def cli():
    spec = importlib.util.spec_from_file_location("inspect_tflite_cli", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(cli):
    def run(*arguments, **values):
        flags.FLAGS.mark_as_parsed()
        with flagsaver.flagsaver(**values):
            cli.main(["inspect_tflite.py", *map(str, arguments)])

    return run


def start(*command):
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, cwd=ROOT, check=False
    )


# A script's own folder comes first on the path, where it hides modules of the same name.
@pytest.mark.parametrize("folder", ["tflite", "benchmarks"])
def test_no_program_is_named_like_a_module_of_the_standard_library(folder):
    programs = {path.stem for path in (ROOT / folder).glob("**/*.py")}
    assert programs and not programs & sys.stdlib_module_names


@pytest.mark.parametrize(
    "command", [[SCRIPT], ["-m", "tflite.inspect_tflite"]], ids=["file", "module"]
)
def test_both_ways_to_start_it(command, file):
    done = start(*command, file)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert done.stdout.startswith(f"{file}: ") and "does not run sparse" in done.stdout


def test_json_is_one_object(run, file, capsys):
    run(file, json=True)
    report = json.loads(capsys.readouterr().out)
    assert report["sparse_on_arm64"] is False and report["safe_on_arm64"] is True
    assert [problem["rule"] for problem in report["problems"]] == ["stored_dense"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "error: `path` must be a .tflite file"), (b"no model", "error: ")],
)
def test_missing_and_bad_files_are_one_line(run, tmp_path, capsys, content, message):
    path = tmp_path / "model.tflite"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SystemExit) as stopped:
        run(path, json=True)
    # Python prints a text exit code to stderr and exits with 1.
    assert stopped.value.code.startswith(message) and "\n" not in stopped.value.code
    assert not capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["a.tflite", "b.tflite"]])
def test_one_file_is_needed(run, arguments):
    with pytest.raises(app.UsageError, match="One .tflite file is needed. Received: "):
        run(*arguments)


def test_a_wrong_command_line_shows_the_usage(file):
    done = start(SCRIPT, file, "--unknown")
    assert done.returncode == 1 and not done.stdout
    assert "flags" in done.stderr and "Traceback" not in done.stderr
