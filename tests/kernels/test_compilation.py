"""Building the kernels where something is missing: one line that says what, and nothing left."""

import importlib.machinery
import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from spfde_keras.kernels import compilation
from spfde_keras.kernels.library import BUILD_COMMAND

SITE = Path(sysconfig.get_paths()["purelib"])
PACKAGE = Path(compilation.__file__).resolve().parents[1]


@pytest.fixture
def site(tmp_path):
    """A folder of packages with TensorFlow's metadata, headers and library, all empty."""
    site = tmp_path / "site"
    (site / "tensorflow-2.99.0.dist-info").mkdir(parents=True)
    (site / "tensorflow-2.99.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: tensorflow\nVersion: 2.99.0\n"
    )
    (site / "tensorflow-2.99.0.dist-info" / "RECORD").write_text("tensorflow/__init__.py,,\n")
    (site / "tensorflow" / "include" / "tensorflow").mkdir(parents=True)
    (site / "tensorflow" / "libtensorflow_framework.so.2").touch()
    return site


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "kernels"


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    """Makes the compiler a shell script of this text."""

    def install(text):
        script = tmp_path / "compiler"
        script.write_text(f"#!/bin/sh\n{text}\n")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("CXX", str(script))

    return install


def refusal(folder, site):
    """The one line that says why nothing was built."""
    with pytest.raises(compilation.CannotBuild) as raised:
        compilation.build(folder, site)
    assert not folder.is_dir() or not list(folder.iterdir()), "something was left behind"
    message = str(raised.value)
    assert "\n" not in message
    return message


WRITE_OUTPUT = 'while [ "$1" != -o ]; do shift; done; echo made > "$2"'


def test_the_name_tells_version_and_machine(folder):
    expected = f"sparse-tf2.21.0-{os.uname().machine}.so"
    assert compilation.library_path("2.21.0", folder) == folder / expected


def test_what_was_compiled_is_put_in_place_whole(folder, site, compiler):
    compiler(WRITE_OUTPUT)
    path = compilation.build(folder, site)
    assert path == compilation.library_path("2.99.0", folder)
    assert path.read_text() == "made\n"
    assert list(folder.iterdir()) == [path]


def test_a_compiler_may_have_arguments(folder, site, compiler, monkeypatch):
    compiler(f'test "$1" = --quick || exit 1; {WRITE_OUTPUT}')
    monkeypatch.setenv("CXX", f"{os.environ['CXX']} --quick")
    assert compilation.build(folder, site).is_file()


@pytest.mark.parametrize("command", ["/nonexistent", "/nonexistent -O0"])
def test_no_compiler(folder, site, monkeypatch, command):
    monkeypatch.setenv("CXX", command)
    assert refusal(folder, site) == "there is no C++ compiler (/nonexistent)"


def test_an_empty_name_of_a_compiler_is_none(folder, site, monkeypatch):
    monkeypatch.setenv("CXX", "")
    monkeypatch.setenv("PATH", "")
    assert refusal(folder, site) == "there is no C++ compiler (g++)"


def test_no_tensorflow(folder, tmp_path):
    assert refusal(folder, tmp_path) == f"TensorFlow is not installed in {tmp_path}"


@pytest.mark.parametrize("missing", ["include", "libtensorflow_framework.so.2"])
def test_tensorflow_without_what_is_needed(folder, site, missing):
    (site / "tensorflow" / missing).rename(site / "elsewhere")
    assert "TensorFlow 2.99.0 came without headers" in refusal(folder, site)


@pytest.mark.parametrize("name", ["tensorflow_cpu", "tf_nightly"])
def test_tensorflow_by_another_name(folder, site, compiler, name):
    compiler(WRITE_OUTPUT)
    metadata = site / "tensorflow-2.99.0.dist-info"
    metadata = metadata.rename(site / f"{name}-2.99.0.dev7.dist-info")
    (metadata / "METADATA").write_text(f"Name: {name}\nVersion: 2.99.0.dev7\n")
    # What TensorFlow itself calls this version.
    assert compilation.build(folder, site) == compilation.library_path("2.99.0-dev7", folder)


def test_the_command_runs_by_its_name_without_a_warning(monkeypatch):
    monkeypatch.setenv("CXX", "/nonexistent")
    result = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-m", "spfde_keras.kernels.build"],
        capture_output=True,
        text=True,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last == "The kernels are not built: there is no C++ compiler (/nonexistent)."
    assert "RuntimeWarning" not in result.stderr


def test_a_folder_that_cannot_be_written_to(site, compiler, tmp_path):
    compiler(WRITE_OUTPUT)
    (tmp_path / "file").touch()  # no permission keeps root from writing; this does
    message = refusal(tmp_path / "file" / "kernels", site)
    assert message == f"{tmp_path / 'file' / 'kernels'} is not writable (Not a directory)"


def test_compilation_that_fails(folder, site, compiler):
    def fail(text):
        compiler(f'case "$*" in *probe.cc*) exit 0;; esac; {text}')
        return refusal(folder, site)

    lines = "echo 'src.cc:1: note: odd' >&2; echo 'src.cc:2: error: no such thing' >&2; exit 1"
    assert fail(lines) == "compilation failed: src.cc:2: error: no such thing"
    assert fail("exit 3") == "compilation failed: no reason given"


def test_a_compiler_that_is_too_old(folder, site, compiler, tmp_path):
    # As GCC 11: it compiles, but not the built-ins for vectors.
    compiler(
        f'echo "$*" >> {tmp_path}/calls; for last; do case "$last" in *.cc) grep -q '
        f'__builtin_shufflevector "$last" && echo "error: not declared" >&2 && exit 1;; esac; '
        f"done; {WRITE_OUTPUT}"
    )
    assert refusal(folder, site) == (
        f"the C++ compiler ({os.environ['CXX']}) does not know the vectors that the kernels are "
        "written in; GCC 12 or newer, or Clang 13 or newer does: name it in CXX"
    )
    calls = (tmp_path / "calls").read_text().splitlines()
    assert len(calls) == 1 and "probe.cc" in calls[0], "no kernel is tried"


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
def test_the_compiler_at_hand_is_new_enough():
    compilation.require_compiler(["g++"])
    with pytest.raises(compilation.CannotBuild):
        compilation.require_compiler(["g++", "-D__builtin_shufflevector=unknown"])


def test_all_sources_are_listed():
    everything = {path for path in compilation.SOURCES.rglob("*") if path.suffix in (".h", ".cc")}
    assert set(compilation.source_files()) == everything
    compiled = {*compilation.engine_files("x86_64"), *compilation.operator_files()}
    assert compiled == {path for path in everything if path.suffix == ".cc"}
    assert {path.stem for path in compiled - {*compilation.engine_files("aarch64")}} == {
        *("isa_avx2", "isa_avx512", "activation_ops", "batch_norm_ops", "conv_ops")
    }


def test_the_engine_knows_no_tensorflow():
    for file in compilation.source_files():
        if file.parent.name == "engine":
            assert not re.search('#include [<"](tensorflow|ops)/', file.read_text()), file


def test_linking_that_fails(folder, site, compiler):
    compiler(
        f'case "$*" in *-shared*) echo "ld: cannot find it" >&2; exit 1;; esac; {WRITE_OUTPUT}'
    )
    assert refusal(folder, site) == "compilation failed: ld: cannot find it"


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
def test_a_broken_source(folder, tmp_path, monkeypatch):
    broken = tmp_path / "src"
    shutil.copytree(compilation.SOURCES, broken)
    for file in broken.rglob("*.cc"):
        file.write_text("")  # what is right takes long
    (broken / "engine" / "structure.cc").write_text("int structure() { return nothing; }\n")
    monkeypatch.setattr(compilation, "SOURCES", broken)
    assert "structure.cc:1:26: error: 'nothing' was not" in refusal(folder, SITE).translate(
        {ord("‘"): "'", ord("’"): "'"}
    )


def test_an_older_library_survives_a_failure(folder, site, compiler):
    compiler("exit 1")
    older = compilation.library_path("2.99.0", folder)
    folder.mkdir()
    older.write_text("older")
    with pytest.raises(compilation.CannotBuild):
        compilation.build(folder, site)
    assert older.read_text() == "older"
    assert list(folder.iterdir()) == [older]


def test_a_library_in_use_is_not_written_into(folder, site, compiler):
    compiler(WRITE_OUTPUT)
    older = compilation.library_path("2.99.0", folder)
    folder.mkdir()
    older.write_text("older")
    with older.open() as in_use:
        compilation.build(folder, site)
        assert in_use.read() == "older"
    assert older.read_text() == "made\n"


def test_the_command_says_why_in_one_line():
    command = [sys.executable, compilation.__file__]
    options = {"env": os.environ | {"CXX": "/nonexistent"}, "capture_output": True, "text": True}
    result = subprocess.run(command, **options)
    assert result.returncode == 1
    assert result.stderr == (
        "The kernels are not built: there is no C++ compiler (/nonexistent).\n"
    )
    # As setup.py may run it: with nothing but the standard library.
    result = subprocess.run([command[0], "-S", *command[1:]], **options)
    assert result.returncode == 1
    assert re.fullmatch("The kernels are not built: .*\n", result.stderr)


WITHOUT = """
import numpy as np
import spfde_keras
from spfde_keras.kernels import status
assert spfde_keras.__file__.startswith({folder!r}), spfde_keras.__file__
layer = spfde_keras.layers.MaskedConv2D(2, 3, sparsity=0.9)
assert layer(np.ones((1, 4, 4, 1), "float32")).shape == (1, 2, 2, 2)
assert not layer.kernel_choice.sparse
print(layer.kernel_choice.reason == status().reason, status())
"""


def test_an_installation_without_the_library_computes_and_compiles_nothing(tmp_path, compiler):
    marker = tmp_path / "compiled"
    compiler(f"touch {marker}; exit 1")
    suffixes = importlib.machinery.EXTENSION_SUFFIXES[-1:]
    ignored = shutil.ignore_patterns(*(f"*{suffix}" for suffix in suffixes), "__pycache__")
    shutil.copytree(PACKAGE, tmp_path / "spfde_keras", ignore=ignored)
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "SPFDE_KERNELS": "auto"}
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(folder=str(tmp_path))],
        env=environment,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("True sparse kernels off (auto): not built for TensorFlow")
    assert result.stdout.endswith(f"(none are built); run `{BUILD_COMMAND}`\n")
    assert not marker.exists()
