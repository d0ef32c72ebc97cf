"""The command `spfde`: finds programs by name, and imports no other."""

import importlib
import subprocess
import sys

import pytest

from apps import __main__ as command
from apps import errors


def test_help_names_each_program_and_imports_nothing_heavy():
    code = (
        "import runpy, sys; sys.argv[1:] = ['--help']\n"
        "try: runpy.run_module('apps', run_name='__main__')\n"
        "finally: assert not {'tensorflow', 'keras', 'numpy', 'absl'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    listed = dict(
        line.split(maxsplit=1) for line in done.stdout.splitlines()[-len(command.PROGRAMS) :]
    )
    assert list(listed) == list(command.PROGRAMS)
    for name, module in command.PROGRAMS.items():
        text = importlib.import_module(f"apps.{module}").__doc__
        assert text.splitlines()[0] == listed[name]
        assert f"\n    spfde {name} " in text


@pytest.mark.parametrize("name", command.PROGRAMS)
def test_no_program_s_help_waits_for_tensorflow(name):
    code = (
        f"import runpy, sys; sys.argv[1:] = [{name!r}, '--help']\n"
        "try: runpy.run_module('apps', run_name='__main__')\n"
        "finally: assert not {'tensorflow', 'keras', 'matplotlib'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert f"spfde {name} " in done.stdout


def test_nothing_is_asked_for_is_help(capsys):
    assert command.main([]) == command.main(["--help"]) == 0
    first, second = capsys.readouterr().out.split("Sparse training in Keras.")[1:]
    assert first == second


def test_an_unknown_program_is_one_line(capsys):
    assert command.main(["trian", "--help"]) == errors.MISUSED
    assert capsys.readouterr().err == (
        "error: `spfde` must be followed by one of train, report, compare, compare_subnets, "
        "costs, convert, inspect. Received: trian\n"
    )


def test_the_rest_of_the_line_is_the_program_s(capsys):
    assert command.main(["costs", "--epochs=0"]) == errors.MISUSED
    assert (
        capsys.readouterr().err == "error: `epochs` must be an integer of at least 1. Received: 0\n"
    )


def forget(monkeypatch, name):
    """Lets a module be imported anew, for the length of a test."""
    package, _, last = name.rpartition(".")
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.delattr(sys.modules[package], last, raising=False)


@pytest.mark.parametrize(
    ("program", "missing", "importers"),
    [
        ("compare_subnets a --picture=a.png", "matplotlib.figure", ["apps.plots"]),
        ("train", "ai_edge_litert.interpreter", ["spfde_keras.export.litert", "apps.training"]),
    ],
)
def test_a_missing_package_is_one_line(program, missing, importers, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, missing, None)
    for importer in importers:
        forget(monkeypatch, importer)
    assert command.main(program.split()) == errors.FAILED
    assert capsys.readouterr().err == (
        f"error: {missing} is not installed: pip install 'spfde-keras[apps]'\n"
    )


def test_packages_of_a_data_set_are_asked_for_where_it_is_loaded(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    assert command.main(["train", "--dataset=toy", f"--data_dir={tmp_path}"]) == errors.FAILED
    assert capsys.readouterr().err == (
        "error: tensorflow_datasets is not installed: pip install 'spfde-keras[apps]'\n"
    )
