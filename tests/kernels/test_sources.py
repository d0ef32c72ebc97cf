"""The C++ code under sanitizers, and for another processor: no error, no race, no difference."""

import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from spfde_keras.export.sparse_mode import kit_folder
from spfde_keras.kernels import compilation

# Nothing is optimized: compiling takes longer than running, and no access is optimized away.
FLAGS = "-O0 -g -std=c++17 -Wall -Wno-psabi -pthread"


def check(folder, compiler, flags, cases, machine=None, link="", run=()):
    """Compiles the comparison with plain loops and runs it; returns the names of what ran."""
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    program = folder / "check"
    files = [*compilation.engine_files(machine), Path(__file__).with_name("check.cc")]
    compilation.compile_files(files, program, [compiler], f"{FLAGS} {flags}", link=link or flags)
    result = subprocess.run(
        [*map(str, run), str(program), str(cases)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    found = re.fullmatch(rf"{cases} cases: ([\w ]+), largest error \d.\de-\d\d\n", result.stdout)
    assert found, result.stdout
    return found[1].split()


def test_no_access_is_out_of_bounds_and_no_behaviour_undefined(tmp_path):
    sanitizers = "-fsanitize=address,undefined -fno-sanitize-recover=all"
    names = check(tmp_path, "g++", sanitizers, cases=15)
    if platform.machine() == "x86_64":
        assert names[-1] == "sse2"


def test_threads_do_not_race(tmp_path):
    # One, two and three threads in turn.
    check(tmp_path, "g++", "-fsanitize=thread", cases=6)


@pytest.mark.mobile_kit
def test_arm64(tmp_path):
    emulator = kit_folder() / "qemu" / "qemu-aarch64"
    if not emulator.is_file():
        pytest.skip("arm64 is not installed: make mobile-kit")
    names = check(
        tmp_path, "aarch64-linux-gnu-g++", "-O2", 20, "aarch64", "-static -pthread", [emulator]
    )
    assert names == ["neon"]
