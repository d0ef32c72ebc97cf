"""Installs what runs .tflite files in XNNPACK's sparse mode, without a phone and without root.

python tflite/kit/install.py [wasm] [x86-64] [arm64]

It needs the network; what it installs does not. It goes into .mobile-kit next to the repository's
files, or where SPFDE_MOBILE_KIT points, and what is there already is kept:

- wasm:   LiteRT.js, in Node. Real time; the default.
- x86-64: this Python and its LiteRT, on QEMU's Nehalem: a processor without AVX.
- arm64:  LiteRT and a Python for ARM64, on QEMU's Cortex-A76: the kernels of phones.

QEMU and the ARM64 Python are unpacked from Debian's packages; the system stays as it is.
"""

import dataclasses
import importlib.metadata
import json
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from apps import program  # first: no log of TensorFlow

# isort: split
from spfde_keras.export.sparse_mode import kit_folder, read_job

HERE = Path(__file__).resolve().parent
OLDEST_NODE = 20
# Version 7.2, of Debian 12 itself, crashes in LiteRT for ARM64; 10 comes from its backports. Its
# programs have no dependencies, so any Debian or Ubuntu that offers the suite runs them.
QEMU = ("bookworm-backports", ["qemu-user"])
QEMU_PROGRAMS = ("qemu-x86_64", "qemu-aarch64")
PYTHON = (
    "bookworm",
    "python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libc6 libgcc-s1 libstdc++6 "
    "zlib1g libexpat1 libffi8 libbz2-1.0 liblzma5 libcrypt1 libssl3".split(),
)
WHEELS = ("ai-edge-litert", "numpy", "flatbuffers", "typing-extensions", "backports.strenum")
WHEEL_PLATFORMS = ("manylinux_2_27_aarch64", "manylinux_2_17_aarch64")

EMULATED_X86_64 = [
    *("{kit}/qemu/qemu-x86_64", "-cpu", "Nehalem"),
    # NumPy's OpenBLAS looks at the model's number only, and would use AVX.
    *("-E", "OPENBLAS_CORETYPE=Nehalem", "{python}"),
]
EMULATED_ARM64 = [
    *("{kit}/qemu/qemu-aarch64", "-cpu", "cortex-a76", "-L", "{kit}/arm64/system"),
    *("-E", "PYTHONHOME={kit}/arm64/system/usr", "-E", "PYTHONPATH={kit}/arm64/wheels"),
    "{kit}/arm64/system/usr/bin/python3.11",
]


class Missing(Exception):
    """What stands in the way of a runtime, and how to get it."""


@dataclasses.dataclass(frozen=True)
class Options(program.Options):
    """The options of the program."""

    runtimes: tuple[str, ...] = program.option(
        (), "runtimes to install; all if none is named", several=str, positional=True
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status, as of `program.run`."""
    return program.run(install, Options, __doc__, arguments)


def install(options: Options) -> None:
    """Installs the runtimes named, or all, and reports on each.

    Raises:
        ValueError: if there is no such runtime.
        RuntimeError: if none of them could be installed.
    """
    chosen = options.runtimes or tuple(RUNTIMES)
    if unknown := sorted(set(chosen) - RUNTIMES.keys()):
        raise ValueError(f"Runtimes are {', '.join(RUNTIMES)}. Received: {', '.join(unknown)}")
    kit = kit_folder()
    kit.mkdir(parents=True, exist_ok=True)
    (kit / ".gitignore").write_text("*\n")
    ready = {}
    for name in chosen:
        print(f"{name}: ...", flush=True)
        try:
            ready[name] = RUNTIMES[name](kit)
            try_out(ready[name], kit)
            print(f"{name}: ready")
        except Missing as reason:
            ready.pop(name, None)
            print(f"{name}: NOT installed: {reason}")
    register(kit, ready, set(chosen))
    if not ready:
        raise RuntimeError(f"none of {', '.join(chosen)} is installed")


def install_wasm(kit: Path) -> list[str]:
    """LiteRT.js, as package-lock.json pins it; returns the command that runs jobs."""
    remedy = f"install Node {OLDEST_NODE} or newer, with npm"
    version = run(["node", "--version"], remedy).strip()
    number = re.match(r"v(\d+)", version)
    if number is None or int(number[1]) < OLDEST_NODE:
        raise Missing(f"this is Node {version}: {remedy}")

    def make(folder: Path) -> None:
        for file in ("package.json", "package-lock.json"):
            shutil.copy(HERE / file, folder)
        run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], remedy, cwd=folder)

    once(kit / "wasm", (HERE / "package-lock.json").read_text(), make)
    # Beside the module that it imports.
    shutil.copy(HERE / "run_litertjs.mjs", kit / "wasm")
    return ["node", "{kit}/wasm/run_litertjs.mjs"]


def install_x86_64(kit: Path) -> list[str]:
    """This Python on an emulated processor without AVX; returns the command that runs jobs."""
    if platform.machine() != "x86_64":
        raise Missing(f"this Python is for {platform.machine()}: use another runtime")
    install_qemu(kit)
    shutil.copy(HERE / "run_litert.py", kit)
    return [*EMULATED_X86_64, "{kit}/run_litert.py"]


def install_arm64(kit: Path) -> list[str]:
    """A Python and LiteRT for ARM64, emulated; returns the command that runs jobs."""
    install_qemu(kit)
    wheels = [f"{name}=={importlib.metadata.version(name)}" for name in WHEELS[:2]] + [*WHEELS[2:]]

    def make(folder: Path) -> None:
        unpack(*PYTHON, "arm64", folder / "system")
        platforms = [option for name in WHEEL_PLATFORMS for option in ("--platform", name)]
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", *platforms]
        pip += ["--only-binary=:all:", "--python-version=3.11", f"--target={folder / 'wheels'}"]
        run([*pip, *wheels], "install pip into this Python: python -m ensurepip")

    once(kit / "arm64", json.dumps([PYTHON, wheels]), make)
    shutil.copy(HERE / "run_litert.py", kit)
    return [*EMULATED_ARM64, "{kit}/run_litert.py"]


def install_qemu(kit: Path) -> None:
    """QEMU's emulators of one program at a time."""

    def make(folder: Path) -> None:
        with tempfile.TemporaryDirectory(dir=kit) as scratch:
            architecture = run(["dpkg", "--print-architecture"], DEBIAN).strip()
            unpack(*QEMU, architecture, Path(scratch))
            for program in QEMU_PROGRAMS:
                shutil.move(Path(scratch, "usr/bin", program), folder)

    once(kit / "qemu", json.dumps(QEMU), make)


RUNTIMES: dict[str, Callable[[Path], list[str]]] = {
    "wasm": install_wasm,
    "x86-64": install_x86_64,
    "arm64": install_arm64,
}
DEBIAN = "it needs a Debian machine with apt-get, or the `wasm` runtime instead"


def once(folder: Path, contents: str, make: Callable[[Path], None]) -> None:
    """Makes a folder, unless it has been made with the same contents; a failure changes nothing."""
    stamp = "contents.txt"
    if (folder / stamp).is_file() and (folder / stamp).read_text() == contents:
        return
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        made = Path(scratch, folder.name)
        made.mkdir()
        make(made)
        (made / stamp).write_text(contents)
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)


def unpack(suite: str, packages: list[str], architecture: str, folder: Path) -> None:
    """Unpacks packages of a Debian suite into a folder, by its own lists."""
    with tempfile.TemporaryDirectory() as scratch:
        apt = ["apt-get", "--quiet", "--option", f"Dir::State={scratch}"]
        for option in (
            "Dir::State::status=/dev/null",
            f"Dir::Cache={scratch}/cache",
            f"Dir::Etc::sourcelist={scratch}/sources.list",
            "Dir::Etc::sourceparts=/dev/null",
            f"APT::Architecture={architecture}",
            "APT::Sandbox::User=",  # the folder is this user's
        ):
            apt += ["--option", option]
        for site in debian_sites():
            source = f"deb [arch={architecture}] {site} {suite} main\n"
            Path(scratch, "sources.list").write_text(source)
            try:
                run([*apt, "update"], DEBIAN)
                break
            except Missing:
                continue
        else:
            raise Missing(f"no package source of this machine answers with {suite}: {DEBIAN}")
        run([*apt, "download", *packages], DEBIAN, cwd=scratch)
        folder.mkdir(exist_ok=True)
        for package in Path(scratch).glob("*.deb"):
            run(["dpkg", "-x", str(package), str(folder)], DEBIAN)


def debian_sites() -> list[str]:
    """The addresses that this machine's apt-get takes its packages from."""
    # Each line has the address of an index: 'SITE/dists/SUITE/...'
    indices = run(["apt-get", "--print-uris", "update"], DEBIAN)
    return list(dict.fromkeys(re.findall(r"^'(.+?)/dists/", indices, re.MULTILINE)))


def try_out(command: list[str], kit: Path) -> None:
    """Runs a job without files, which loads the runtime all the same."""
    command = [part.format(kit=kit, python=sys.executable) for part in command]
    with tempfile.TemporaryDirectory() as folder:
        job: dict[str, Any] = {"files": [], "signature": None, "inputs": {}, "rounds": 0}
        Path(folder, "job.json").write_text(json.dumps(job))
        ended = subprocess.run([*command, folder], capture_output=True, text=True)
        try:
            read_job(Path(folder), ended.returncode, ended.stderr)
        except RuntimeError as error:
            raise Missing(f"it is installed but does not start: {error}") from error


def register(kit: Path, ready: dict[str, list[str]], chosen: set[str]) -> None:
    """Writes kit.json, which spfde_keras.export.sparse_mode reads."""
    path = kit / "kit.json"
    known = json.loads(path.read_text()) if path.is_file() else {}
    kept = {name: command for name, command in known.items() if name not in chosen} | ready
    program.write_json(path, {name: kept[name] for name in RUNTIMES if name in kept})
    print(f"{path}: {', '.join(json.loads(path.read_text())) or 'no runtimes'}")


def run(command: list[str], remedy: str, cwd: str | Path | None = None) -> str:
    """Returns what a program prints.

    Raises:
        Missing: with its last words and the remedy, if it is not there or fails.
    """
    try:
        ended = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    except FileNotFoundError:
        raise Missing(f"there is no {command[0]}: {remedy}") from None
    if ended.returncode:
        words = ended.stderr.strip().splitlines() or [f"it ended with code {ended.returncode}"]
        raise Missing(f"{command[0]}: {words[-1]}; {remedy}")
    return ended.stdout


if __name__ == "__main__":
    sys.exit(main())
