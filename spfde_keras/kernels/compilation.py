"""Compiles the kernels for the TensorFlow that is installed.

python -m spfde_keras.kernels.build            # compiles
python -m spfde_keras.kernels.build --sources  # names the C++ files
python -m spfde_keras.kernels.build --flags    # names what a compiler, or clang-tidy, needs to know

Needs g++ 12 or newer, or Clang 13 or newer where CXX names it. setup.py and the Makefile run this
file, too, where TensorFlow is not to be imported and may be missing: everything here is the
standard library.
"""

import argparse
import os
import platform
import re
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
_COMPILERS = "GCC 12 or newer, or Clang 13 or newer"
# What older compilers lack.
_PROBE = """
typedef float Vector __attribute__((vector_size(16)));
Vector probe(Vector a, Vector b) {
  Vector c = __builtin_shufflevector(a, b, 0, 4, 1, 5);
  return c < Vector{} ? Vector{} : c * (1.0f - Vector{});
}
template <int... N> constexpr int sum() { return (N + ...); }
static_assert(sum<1, 2>() == 3, "C++17");
"""


class CannotBuild(Exception):
    """Says in one line what is missing."""


def library_path(version: str, folder: Path = FOLDER) -> Path:
    """Returns where the library for a version of TensorFlow is, or would be.

    Args:
        version: of TensorFlow, such as "2.21.0"; as TensorFlow spells it ("2.22.0-rc1") or as
            its package does ("2.22.0rc1").
        folder: of the library.

    Example:

    >>> library_path("2.21.0").name.startswith("sparse-tf2.21.0-")
    True
    >>> library_path("2.22.0-dev20260701") == library_path("2.22.0.dev20260701")
    True
    """
    spelled = re.sub(r"[.-]?(dev|rc)", r"\1", version)
    return folder / f"sparse-tf{spelled}-{platform.machine()}.so"


def isa_flags(machine: str | None = None) -> dict[str, str]:
    """Returns the source files that need special flags, with those flags.

    Args:
        machine: as `platform.machine()` names it; this one by default.

    Example:

    >>> isa_flags("aarch64")
    {}
    """
    return dict(_X86_64) if (machine or platform.machine()) == "x86_64" else {}


def source_files() -> list[Path]:
    """Returns all C++ files of the kernels: what is packaged, checked, and asks for a new build.

    Example:

    >>> {file.parent.name for file in source_files()} == {"engine", "ops"}
    True
    """
    return sorted(file for file in SOURCES.rglob("*") if file.suffix in (".h", ".cc"))


def engine_files(machine: str | None = None) -> list[Path]:
    """Returns the C++ files to compile, without TensorFlow's operators.

    Args:
        machine: as `platform.machine()` names it; this one by default.

    Example:

    >>> [file.stem for file in engine_files("aarch64") if "isa" in file.stem]
    ['isa', 'isa_baseline']
    """
    others = _X86_64.keys() - isa_flags(machine).keys()
    files = (SOURCES / "engine").glob("*.cc")
    return sorted(file for file in files if file.stem not in others)


def operator_files() -> list[Path]:
    """Returns the C++ files that need TensorFlow's headers."""
    return sorted((SOURCES / "ops").glob("*.cc"))


def compile_files(
    files: list[Path], output: Path, compiler: list[str], flags: str = _FLAGS, link: str = ""
) -> None:
    """Compiles C++ files, each with the flags of its instruction set, and links them.

    Args:
        files: the sources.
        output: what to write.
        compiler: its command.
        flags: for all files.
        link: further arguments for linking.

    Raises:
        CannotBuild: with the compiler's first error.
    """
    with tempfile.TemporaryDirectory() as folder:
        commands = []
        for file in files:
            own = isa_flags().get(file.stem, "")
            target = str(Path(folder, f"{file.stem}.o"))
            commands.append(
                [*compiler, *shlex.split(flags), *own.split(), "-I", str(SOURCES)]
                + ["-c", str(file), "-o", target]
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


def require_compiler(compiler: list[str]) -> None:
    """Raises CannotBuild unless a compiler is there and compiles the vectors of the kernels.

    Args:
        compiler: its command.

    Raises:
        CannotBuild: says which compilers do.
    """
    if shutil.which(compiler[0]) is None:
        raise CannotBuild(f"there is no C++ compiler ({compiler[0]})")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.cc")
        source.write_text(_PROBE)
        command = [*compiler, "-std=c++17", "-c", str(source), "-o", str(Path(folder, "probe.o"))]
        if subprocess.run(command, capture_output=True).returncode:
            raise CannotBuild(
                f"the C++ compiler ({compiler[0]}) does not know the vectors that the kernels are "
                f"written in; {_COMPILERS} does: name it in CXX"
            )


def tensorflow_flags(site: Path | None = None) -> str:
    """Returns the flags with which code that includes TensorFlow's headers is compiled.

    Args:
        site: the folder with TensorFlow; that of this Python by default.
    """
    include = (site or _site()) / "tensorflow" / "include"
    return (
        f"-isystem {shlex.quote(str(include))} "
        "-D_GLIBCXX_USE_CXX11_ABI=1 -DEIGEN_MAX_ALIGN_BYTES=64"
    )


def build(folder: Path = FOLDER, site: Path | None = None) -> Path:
    """Compiles the library and puts it in place, complete or not at all.

    Args:
        folder: where to.
        site: the folder with the packages of the Python that will use it; this one's by default.

    Returns:
        The library.

    Raises:
        CannotBuild: if TensorFlow, its headers or the compiler are missing, the compiler is too
            old, the folder is read-only, or compilation fails.
    """
    site = site or _site()
    version = tensorflow_version(site)
    if version is None:
        raise CannotBuild(f"TensorFlow is not installed in {site}")
    package = site / "tensorflow"
    framework = next(iter(sorted(package.glob("libtensorflow_framework.so*"))), None)
    if framework is None or not (package / "include" / "tensorflow").is_dir():
        raise CannotBuild(f"TensorFlow {version} came without headers, or without its library")
    compiler = shlex.split(os.environ.get("CXX") or "g++")
    require_compiler(compiler)
    target = library_path(version, folder)
    temporary = target.with_name(f".{os.getpid()}-{target.name}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary.touch()
    except OSError as error:
        raise CannotBuild(f"{folder} is not writable ({error.strerror})") from error
    try:
        compile_files(
            [*engine_files(), *operator_files()],
            temporary,
            compiler,
            flags=f"{_FLAGS} {tensorflow_flags(site)}",
            link=f"-shared {shlex.quote(str(framework))}",
        )
        os.replace(temporary, target)
    except OSError as error:
        raise CannotBuild(f"{error.strerror}: {error.filename}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return target


def tensorflow_version(site: Path) -> str | None:
    """Returns the version of TensorFlow in a folder of packages, None if it is not there.

    It may have come as tensorflow, tensorflow-cpu, tf-nightly, ...: its files tell, not its name.
    """
    for found in metadata.distributions(path=[str(site)]):
        if "\ntensorflow/__init__.py," in "\n" + (found.read_text("RECORD") or ""):
            return found.version
    return None


def _site() -> Path:
    return Path(sysconfig.get_paths()["purelib"])


def _check(code: int, log: str) -> None:
    if code:
        lines = [line for line in log.splitlines() if "error" in line] or log.splitlines()
        raise CannotBuild(f"compilation failed: {(lines or ['no reason given'])[0]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sources", action="store_true", help="print the C++ files and stop")
    parser.add_argument("--flags", action="store_true", help="print the include flags and stop")
    arguments = parser.parse_args()
    if arguments.sources:
        print(*(os.path.relpath(file) for file in source_files()), sep="\n")
    elif arguments.flags:
        print(f"-std=c++17 -I{os.path.relpath(SOURCES)} {tensorflow_flags()}")
    else:
        try:
            print(build())
        except CannotBuild as error:
            sys.exit(f"The kernels are not built: {error}.")


if __name__ == "__main__":
    main()
