"""Compiles the kernels for the TensorFlow that is installed.

python -m spfde_keras.kernels.build

Needs g++ (or what CXX names). setup.py runs it, too, where TensorFlow is not to be imported and
may be missing: everything here comes from the standard library.
"""

import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from importlib import metadata
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
SOURCES = FOLDER / "src"
# What each file of instructions is compiled with; the others get none.
_X86_64 = {
    "isa_avx512": "-mavx512f -mavx512dq -mavx512bw -mavx512vl -mfma -mprefer-vector-width=512",
    "isa_avx2": "-mavx2 -mfma",
}
# TensorFlow's own binaries are compiled with NDEBUG, on which the layout of its classes depends.
_FLAGS = "-O3 -DNDEBUG -std=c++17 -fPIC -ffp-contract=fast -fvisibility=hidden -Wall -Wno-psabi"


class CannotBuild(Exception):
    """Says in one line what is missing."""


def library_path(version: str, folder: Path = FOLDER) -> Path:
    """Returns where the library for a version of TensorFlow is, or would be.

    Args:
        version: of TensorFlow, such as "2.21.0".
        folder: of the library.

    Example:

    >>> library_path("2.21.0").name.startswith("sparse-tf2.21.0-")
    True
    """
    return folder / f"sparse-tf{version}-{platform.machine()}.so"


def isa_flags(machine: str | None = None) -> dict[str, str]:
    """Returns the source files that have flags of their own, and these.

    Args:
        machine: as `platform.machine()` names it; this one by default.

    Example:

    >>> isa_flags("aarch64")
    {}
    """
    return dict(_X86_64) if (machine or platform.machine()) == "x86_64" else {}


def source_files(machine: str | None = None) -> list[Path]:
    """Returns the C++ files of the kernels, without TensorFlow's operators.

    Args:
        machine: as `platform.machine()` names it; this one by default.

    Example:

    >>> [file.stem for file in source_files("aarch64")]
    ['isa', 'isa_baseline', 'normalization', 'run', 'structure']
    """
    common = ["isa", "isa_baseline", "normalization", "run", "structure"]
    return [SOURCES / f"{name}.cc" for name in sorted({*common, *isa_flags(machine)})]


def compile_files(
    files: list[Path], output: Path, compiler: list[str], flags: str = _FLAGS, link: str = ""
) -> None:
    """Compiles C++ files, each with the flags of its instruction set, and links them.

    Args:
        files: the sources.
        output: what to write.
        compiler: its command.
        flags: for all files.
        link: what linking needs besides.

    Raises:
        CannotBuild: with the compiler's first error.
    """
    with tempfile.TemporaryDirectory() as folder:
        commands = []
        for file in files:
            own = isa_flags().get(file.stem, "")
            target = str(Path(folder, f"{file.stem}.o"))
            commands.append(
                [*compiler, *shlex.split(flags), *own.split(), "-c", str(file), "-o", target]
            )
        running = [subprocess.Popen(c, stderr=subprocess.PIPE, text=True) for c in commands]
        logs = [process.communicate()[1] for process in running]
        for process, log in zip(running, logs, strict=True):
            _check(process.returncode, log)
        objects = [command[-1] for command in commands]
        linked = subprocess.run(
            [*compiler, *objects, *shlex.split(link), "-o", str(output)],
            stderr=subprocess.PIPE,
            text=True,
        )
        _check(linked.returncode, linked.stderr)


def build(folder: Path = FOLDER, site: Path | None = None) -> Path:
    """Compiles the library and puts it in its place, whole or not at all.

    Args:
        folder: where to.
        site: the folder with the packages of the Python that will use it; this one's by default.

    Returns:
        The library.

    Raises:
        CannotBuild: if TensorFlow, its headers or the compiler are missing, the folder is
            read-only, or compilation fails.
    """
    site = site or Path(sysconfig.get_paths()["purelib"])
    version = tensorflow_version(site)
    if version is None:
        raise CannotBuild(f"TensorFlow is not installed in {site}")
    package = site / "tensorflow"
    framework = next(iter(sorted(package.glob("libtensorflow_framework.so*"))), None)
    if framework is None or not (package / "include" / "tensorflow").is_dir():
        raise CannotBuild(f"TensorFlow {version} came without headers, or without its library")
    compiler = shlex.split(os.environ.get("CXX") or "g++")
    if shutil.which(compiler[0]) is None:
        raise CannotBuild(f"there is no C++ compiler ({compiler[0]})")
    target = library_path(version, folder)
    temporary = target.with_name(f".{os.getpid()}-{target.name}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary.touch()
    except OSError as error:
        raise CannotBuild(f"{folder} is not writable ({error.strerror})") from error
    try:
        compile_files(
            [*source_files(), *SOURCES.glob("*_ops.cc")],
            temporary,
            compiler,
            flags=f"{_FLAGS} -isystem {shlex.quote(str(package / 'include'))} "
            "-D_GLIBCXX_USE_CXX11_ABI=1 -DEIGEN_MAX_ALIGN_BYTES=64",
            link=f"-shared {shlex.quote(str(framework))}",
        )
        os.replace(temporary, target)
    except OSError as error:
        raise CannotBuild(f"{error.strerror}: {error.filename}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return target


def tensorflow_version(site: Path) -> str | None:
    """Returns the version of TensorFlow in a folder of packages, None if it is not there."""
    found = next(iter(metadata.distributions(name="tensorflow", path=[str(site)])), None)
    return None if found is None else found.version


def _check(code: int, log: str) -> None:
    if code:
        lines = [line for line in log.splitlines() if "error" in line] or log.splitlines()
        raise CannotBuild(f"compilation failed: {(lines or ['no reason given'])[0]}")


if __name__ == "__main__":
    try:
        print(build())
    except CannotBuild as error:
        sys.exit(f"The kernels are not built: {error}.")
