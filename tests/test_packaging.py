"""What is in the sdist and in wheels, what they are called, and that they train where installed."""

import email
import importlib.metadata
import os
import platform
import shutil
import stat
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import tensorflow as tf

from spfde_keras.kernels import compilation

ROOT = Path(__file__).parents[1]
FOLDERS = (".ci", "apps", "benchmarks", "docs", "spfde_keras", "tests", "tflite")
FILES = (
    *("BUILD.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "MANIFEST.in", "Makefile"),
    *("README.md", "mkdocs.yml", "pyproject.toml", "setup.py", ".clang-format", ".clang-tidy"),
)
MACHINE = platform.machine()

pytestmark = pytest.mark.skipif(
    int(importlib.metadata.version("setuptools").partition(".")[0]) < 77,
    reason="setuptools is older than the extra `dev` asks for",
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the repository, with the left-overs of earlier builds."""
    tree = tmp_path_factory.mktemp("tree")
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().split()]
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns(*ignored))
    for file in FILES:
        shutil.copy(ROOT / file, tree)
    for folder in (
        "spfde_keras/kernels",
        "build/lib/spfde_keras/kernels",
        "tflite/kit/.mobile-kit",
    ):
        (tree / folder).mkdir(parents=True, exist_ok=True)
        (tree / folder / "sparse-tf0.0.1-x86_64.so").write_text("of an earlier build")
    return tree


def build(tree, folder, kind="wheel", **environment):
    """Builds as pip does, by what is installed here; returns the file."""
    code = f"from setuptools import build_meta; print(build_meta.build_{kind}({str(folder)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tree,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.splitlines()[-1], done


@pytest.fixture
def compiler(tmp_path):
    """A compiler whose libraries need a C library of version 2.17."""
    script = tmp_path / "compiler"
    script.write_text(
        "#!/bin/sh\n"
        'while [ "$1" != -o ]; do shift; done; printf "GLIBC_2.2.5\\0GLIBC_2.17\\0" > "$2"\n'
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return str(script)


def names(wheel):
    return set(zipfile.ZipFile(wheel).namelist())


def text(wheel, name):
    with zipfile.ZipFile(wheel) as archive:
        (path,) = (path for path in archive.namelist() if path.endswith(f".dist-info/{name}"))
        return archive.read(path).decode()


def test_the_sdist_is_the_repository(tree, tmp_path):
    path, _ = build(tree, tmp_path, "sdist")
    with tarfile.open(path) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    kept = {
        str(file.relative_to(tree))
        for folder in FOLDERS
        for file in (tree / folder).rglob("*")
        if file.is_file() and file.suffix not in (".so", ".pyc")
    }
    assert kept | set(FILES) <= packed
    assert not any(name.endswith(".so") or name.startswith(("build/", "runs")) for name in packed)


def test_a_wheel_without_kernels_is_for_any_platform(tree, tmp_path):
    wheel, _ = build(tree, tmp_path, SPFDE_BUILD_KERNELS="no")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert "Root-Is-Purelib: true" in text(wheel, "WHEEL")
    packed = names(wheel)
    assert not any(name.endswith(".so") for name in packed)
    top = {name.partition("/")[0] for name in packed}
    assert {name for name in top if not name.endswith(".dist-info")} == {
        "spfde_apps",
        "spfde_keras",
    }
    sources = {str(file.relative_to(compilation.FOLDER)) for file in compilation.source_files()}
    assert {f"spfde_keras/kernels/{file}" for file in sources} <= packed
    modules = {str(file.relative_to(ROOT)) for file in (ROOT / "spfde_keras").rglob("*.py")}
    programs = {f"spfde_apps/{file.name}" for file in (ROOT / "apps").glob("*.py")}
    assert modules | programs | {"spfde_keras/py.typed"} <= packed


def test_metadata(tree, tmp_path):
    wheel, _ = build(tree, tmp_path, SPFDE_BUILD_KERNELS="no")
    metadata = email.message_from_string(text(wheel, "METADATA"))
    needed = metadata.get_all("Requires-Dist")
    assert [line.partition(">=")[0] for line in needed if "extra ==" not in line] == [
        "keras",
        "numpy",
    ]
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert set(metadata.get_all("Provides-Extra")) >= {"export", "apps", "all"}
    assert "spfde = spfde_apps.__main__:main" in text(wheel, "entry_points.txt")


def test_a_wheel_with_kernels_names_its_platform(tree, tmp_path, compiler):
    wheel, _ = build(tree, tmp_path, SPFDE_BUILD_KERNELS="yes", CXX=compiler)
    assert wheel.name.endswith(f"-py3-none-manylinux_2_17_{MACHINE}.whl")
    assert "Root-Is-Purelib: false" in text(wheel, "WHEEL")
    assert f"Tag: py3-none-manylinux_2_17_{MACHINE}\n" in text(wheel, "WHEEL")
    libraries = {name for name in names(wheel) if name.endswith(".so")}
    assert libraries == {f"spfde_keras/kernels/sparse-tf{tf.__version__}-{MACHINE}.so"}


def test_kernels_that_cannot_be_built_are_left_out_unless_asked_for(tree, tmp_path):
    wheel, done = build(tree, tmp_path, CXX="/nonexistent")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert "are not built: there is no C++ compiler (/nonexistent)." in done.stdout
    with pytest.raises(AssertionError, match=r"not built: there is no C\+\+ compiler"):
        build(tree, tmp_path, CXX="/nonexistent", SPFDE_BUILD_KERNELS="yes")


TRAIN = """
import keras, numpy as np, spfde_keras
net = keras.Sequential([keras.Input((8, 8, 16)), keras.layers.Conv2D(32, 3),
                        keras.layers.Conv2D(32, 3), keras.layers.Flatten(), keras.layers.Dense(4)])
model = spfde_keras.sparsify(net, 0.9)
model.compile("sgd", "mse")
x, y = np.ones((64, 8, 8, 16), "float32"), np.ones((64, 4), "float32")
model.fit(x, y, epochs=2, callbacks=[spfde_keras.SpFDE(interval=1)], verbose=2)
print(spfde_keras.__file__)
print(spfde_keras.kernels.status())
"""


@pytest.fixture
def clean(tmp_path):
    """Installs a wheel and a TensorFlow into an environment of its own, and returns its Python."""

    def install(wheel):
        subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
        python = tmp_path / "venv" / "bin" / "python"
        tensorflow = f"tensorflow-cpu=={tf.__version__}"
        pip = [python, "-m", "pip", "install", "--quiet", "--no-compile"]
        subprocess.run([*pip, wheel, tensorflow], check=True, cwd=tmp_path)
        return python

    yield install
    shutil.rmtree(tmp_path / "venv", ignore_errors=True)


def printed(command, folder, **environment):
    bare = {"PATH": os.environ["PATH"], "HOME": str(folder.parent)}
    done = subprocess.run(
        command, cwd=folder, env=bare | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_wheel_without_kernels_trains_and_tells_how_to_build_them(tree, tmp_path, clean):
    wheel, _ = build(tree, tmp_path, SPFDE_BUILD_KERNELS="no")
    python = clean(wheel)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    without = printed([python, "-c", TRAIN], elsewhere, CXX="/nonexistent")
    assert without.count("spfde_keras computes zeros, too") == 1
    assert str(tmp_path / "venv") in without and "sparse kernels off (auto)" in without
    assert not list(elsewhere.iterdir())
    printed([python, "-W", "error::RuntimeWarning", "-m", "spfde_keras.kernels.build"], elsewhere)
    with_kernels = printed([python, "-c", TRAIN], elsewhere)
    assert "zeros" not in with_kernels and "sparse kernels on (auto)" in with_kernels
    listed = printed([python.with_name("spfde"), "--help"], elsewhere)
    assert "  train " in listed


@pytest.mark.slow
def test_a_wheel_with_kernels_trains_without_a_compiler(tree, tmp_path, clean):
    wheel, _ = build(tree, tmp_path, SPFDE_BUILD_KERNELS="yes")
    python = clean(wheel)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    out = printed([python, "-c", TRAIN], elsewhere, CXX="/nonexistent")
    assert "zeros" not in out and "sparse kernels on (auto)" in out
    assert str(tmp_path / "venv") in out
