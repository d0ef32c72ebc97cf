"""Faults, one at a time, and how a run goes on after each."""

import functools
import itertools
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from tests.faults.runs import Runs, contents, copied, is_one_line, results


class Faults:
    """A run, and what becomes of it after faults.

    Each fault returns "equal", if the run that goes on ends as one that nothing happened to, or
    "refused", if it does not go on, in one line and without a change. Anything else raises
    `AssertionError`.

    Args:
        scratch: an empty folder.
    """

    def __init__(self, scratch: Path):
        self._scratch = scratch
        self._folder = scratch / "run"
        self._run = Runs(scratch)
        ended = self._run(scratch / "whole")
        assert ended["status"] == 0, ended["console"]
        self._expected = results(scratch / "whole")
        self.touches = ended["seen"]

    def close(self) -> None:
        self._run.close()

    def struck(self, mode: str, at: int) -> str:
        """A run that is killed ("kill"), told to end ("term"), or finds the disk full ("full").

        Args:
            mode: which.
            at: at which of the times that it touches a file; from 1.
        """
        shutil.rmtree(self._folder, ignore_errors=True)
        ended = self._run(self._folder, mode, at)
        if mode == "kill":
            assert ended["status"] == -9, ended
        elif mode == "term":
            assert ended["status"] == 75 and is_one_line(ended, "stopped: "), ended
        elif ended["status"] == 0:  # all was written, and moving it needs no space
            return self._ended(self._folder)
        else:
            assert _is_full(ended), ended
        return self._goes_on(self._folder)

    def killed_again(self, seed: int) -> str:
        """A run that is killed again and again, at random."""
        shutil.rmtree(self._folder, ignore_errors=True)
        chance = np.random.default_rng(seed)
        for tried in range(40):
            at = int(chance.integers(8, self.touches // 2))
            if self._run(self._folder, "kill", at, resume=tried > 0)["status"] == 0:
                return self._ended(self._folder)
        raise AssertionError("it does not come to its end")

    def damaged(self, file: str, how: str) -> str:
        """A stopped run, one of whose files is damaged.

        Args:
            file: its path in the folder of the run, of `stopped`.
            how: one of `DAMAGES`.
        """
        copied(self._stopped, self._folder)
        DAMAGES[how](self._folder / file)
        went_on = self._run.after(self._folder)
        if went_on == "equal":
            return self._ended(self._folder)
        assert set(self.stopped) - {file} <= set(contents(self._folder)), "files are lost"
        return went_on

    @property
    def stopped(self) -> list[str]:
        """The files of a run that was killed after training, while what was trained was saved."""
        return [*contents(self._stopped)]

    @functools.cached_property
    def _stopped(self) -> Path:
        folder = self._scratch / "stopped"
        assert self._run(folder, "kill", self.touches * 17 // 20)["status"] == -9
        assert len(list((folder / "unfinished" / "states").glob("epoch-*"))) == 2
        return folder

    def on_a_small_disk(self, kib: int) -> str:
        """A run on a file system that is too small, and is larger when it goes on. Needs root."""
        with _Disk(self._scratch / "disk", f"size={kib}k") as disk:
            ended = self._run(disk.folder / "run")
            assert _is_full(ended), ended
            disk.remount("size=64m")
            return self._goes_on(disk.folder / "run")

    def on_a_disk_to_read(self, resume: bool, begun: bool) -> str:
        """A run on a file system that cannot be written to. Needs root.

        Args:
            resume: whether it is to go on.
            begun: whether there is a stopped run.
        """
        with _Disk(self._scratch / "disk", "size=64m") as disk:
            folder = disk.folder / "run"
            folder.mkdir()
            if begun:
                copied(self._stopped, folder)
            before = contents(folder)
            disk.remount("ro")
            ended = self._run(folder, resume=resume)
            assert ended["status"] in (1, 2) and is_one_line(ended, "error: "), ended
            assert contents(folder) == before, "something has changed"
            disk.remount("rw")
            assert self._run(folder, resume=begun)["status"] == 0
            self._ended(folder)
            return "refused"

    def _goes_on(self, folder: Path) -> str:
        went_on = self._run.after(folder)
        if went_on == "refused":  # before there is anything to resume
            assert self._run(folder)["status"] == 0
        self._ended(folder)
        return went_on

    def _ended(self, folder: Path) -> str:
        assert results(folder) == self._expected, "it ends otherwise"
        return "equal"


def _is_full(ended: Mapping) -> bool:
    told = "No space left on device" in ended["console"] and is_one_line(ended, "error: ")
    return told and ended["status"] in (1, 2)


class _Disk:
    """A file system in memory, as a context. Needs root."""

    def __init__(self, folder: Path, options: str):
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self._options = options

    def __enter__(self) -> "_Disk":
        _mounting("mount", "-t", "tmpfs", "-o", self._options, "tmpfs", self.folder)
        return self

    def __exit__(self, *_: object) -> None:
        _mounting("umount", self.folder)

    def remount(self, options: str) -> None:
        _mounting("mount", "-o", f"remount,{options}", self.folder)


def _mounting(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True)


def can_mount(scratch: Path) -> bool:
    """Whether this process may mount file systems.

    Args:
        scratch: a folder in which to try.
    """
    try:
        with _Disk(scratch / "tried", "size=64k"):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def _written(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(change(path.read_bytes()))


def _flipped(place: float) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        changed = bytearray(content)
        if changed:
            changed[min(int(place * len(changed)), len(changed) - 1)] ^= 16
        return bytes(changed)

    return change


DAMAGES: dict[str, Callable[[Path], object]] = {
    **{
        f"flipped at {place:.0%}": _written(_flipped(place))
        for place in (0, 0.1, 0.35, 0.5, 0.75, 0.9, 1)
    },
    "cut to a half": _written(lambda content: content[: len(content) // 2]),
    "without its last byte": _written(lambda content: content[:-1]),
    "empty": _written(lambda content: b""),
    "of zeros": _written(lambda content: bytes(len(content))),
    "missing": Path.unlink,
}
"""Ways to damage a file, by their names."""

Tries = Callable[[Faults], list[tuple]]

KINDS: dict[str, tuple[str, Callable[..., str], Tries]] = {
    "kill": (
        "killed half-way in one write, rename or removal: each that a run does",
        Faults.struck,
        lambda faults: [("kill", at + 1) for at in range(faults.touches)],
    ),
    "full": (
        "the disk is full from one of them on",
        Faults.struck,
        lambda faults: [("full", at + 1) for at in range(faults.touches)],
    ),
    "term": (
        "SIGTERM during one of them; the run ends with status 75",
        Faults.struck,
        lambda faults: [("term", at + 1) for at in range(faults.touches)],
    ),
    "again": (
        "killed again and again at random, up to the end",
        Faults.killed_again,
        lambda faults: [(seed,) for seed in range(8)],
    ),
    "damage": (
        "a file of a killed run flipped at one of seven places, cut, emptied, zeroed, or missing: "
        "each file, each way",
        Faults.damaged,
        lambda faults: [*itertools.product(faults.stopped, DAMAGES)],
    ),
    "small": (
        "a file system of 16 to 512 KiB",
        Faults.on_a_small_disk,
        lambda faults: [(kib,) for kib in range(16, 513, 16)],
    ),
    "read": (
        "a read-only file system: empty, or with a killed run, which is to go on",
        Faults.on_a_disk_to_read,
        lambda faults: [(False, False), (True, False), (True, True)],
    ),
}
"""What was done, how, and all tries of it, by names."""

MOUNTED = ("small", "read")
"""Those of `KINDS` that mount file systems."""
