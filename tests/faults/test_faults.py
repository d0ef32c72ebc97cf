"""Runs that are killed, stopped, or find the disk full at anything they do to a file.

The slow tests do so at each of them: `make slow ARGS=tests/faults` prints what docs/reliability.md
has.
"""

import shutil

import numpy as np
import pytest

from tests.faults.runs import Runs, contents, copied, is_one_line, results

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    runs = Runs(tmp_path_factory.mktemp("runs"))
    yield runs
    runs.close()


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    """The results of a run that nothing happens to, and how often it touches a file."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    ended = run(folder)
    assert ended["status"] == 0, ended["console"]
    return results(folder), ended["seen"]


def struck(run, folder, mode, at, expected):
    """Has a run fail at its n-th touch, goes on, and returns how it went on."""
    shutil.rmtree(folder, ignore_errors=True)
    ended = run(folder, mode, at)
    if mode == "kill":
        assert ended["status"] == -9, ended
    elif ended["status"] == 0:  # all was written, and moving it needs no space
        assert mode == "full" and results(folder) == expected
        return "equal"
    elif mode == "term":
        assert ended["status"] == 75 and is_one_line(ended, "stopped: "), ended
    else:
        assert ended["status"] in (1, 2) and is_one_line(ended, "error: "), ended
        assert "No space left on device" in ended["console"], ended["console"]
    went_on = run.after(folder)
    if went_on == "refused":  # before there is anything to resume
        assert run(folder)["status"] == 0
    assert results(folder) == expected
    return went_on


def sweep(run, folder, mode, points, expected):
    """Strikes at each of some points; returns how many of which outcome there are."""
    outcomes, failed = [], {}
    for at in points:
        try:
            outcomes.append(struck(run, folder, mode, at, expected))
        except AssertionError as failure:
            failed[at] = str(failure)[:600]
    print(f"\n{mode}: {len(points)} tries,", *(f"{o}: {outcomes.count(o)}" for o in set(outcomes)))
    assert not failed, failed
    return outcomes


@pytest.mark.parametrize("mode", ["kill", "term", "full"])
def test_a_fault_at_some_point(run, whole, tmp_path, mode):
    expected, seen = whole
    (at,) = np.random.default_rng(len(mode)).choice(np.arange(10, seen - 10), 1).tolist()
    assert struck(run, tmp_path / "run", mode, at, expected) == "equal"


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["kill", "term", "full"])
def test_a_fault_at_every_point(run, whole, tmp_path, mode):
    expected, seen = whole
    outcomes = sweep(run, tmp_path / "run", mode, range(1, seen + 1), expected)
    assert outcomes.count("refused") < 12  # before its options are on disk


@pytest.mark.slow
def test_killed_again_and_again(run, whole, tmp_path):
    folder, rng = tmp_path / "run", np.random.default_rng(0)
    expected, seen = whole
    tries = 0
    while run(folder, "kill", int(rng.integers(8, seen // 2)), resume=tries > 0)["status"] != 0:
        tries += 1
        assert tries < 40
    assert results(folder) == expected
    print(f"\nkilled {tries} times in one run")


@pytest.fixture(scope="module")
def stopped(run, whole, tmp_path_factory):
    """A run that was killed after training, while what was trained was saved."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    assert run(folder, "kill", whole[1] * 17 // 20)["status"] == -9
    assert len(list((folder / "unfinished" / "states").glob("epoch-*"))) == 2
    return folder


def flipped(place):
    def change(content):
        changed = bytearray(content)
        changed[min(int(place * len(changed)), len(changed) - 1)] ^= 16
        return bytes(changed)

    return change


DAMAGES = {
    **{f"flipped at {place:.0%}": flipped(place) for place in (0, 0.1, 0.35, 0.5, 0.75, 0.9, 1)},
    "cut to a half": lambda content: content[: len(content) // 2],
    "without its last byte": lambda content: content[:-1],
    "empty": lambda content: b"",
    "of zeros": lambda content: bytes(len(content)),
    "missing": None,
}


def damaged(run, stopped, folder, file, how, expected):
    """Damages a file of a stopped run and goes on; returns how."""
    copied(stopped, folder)
    path = folder / file
    change = DAMAGES[how]
    if change is None:
        path.unlink()
    elif path.stat().st_size:
        path.write_bytes(change(path.read_bytes()))
    went_on = run.after(folder)
    if went_on == "equal":
        assert results(folder) == expected
    else:  # nothing is lost: it is all there
        left = {name for name in contents(stopped)} - {file}
        assert left <= set(contents(folder))
    return went_on


def test_a_damaged_file(run, whole, stopped, tmp_path):
    newest = sorted((stopped / "unfinished" / "states").glob("epoch-*"))[-1]
    file = str((newest / "state.data-00000-of-00001").relative_to(stopped))
    how = "flipped at 50%"
    assert damaged(run, stopped, tmp_path / "run", file, how, whole[0]) == "equal"


@pytest.mark.slow
def test_every_file_damaged_in_every_way(run, whole, stopped, tmp_path):
    found, failed = {}, {}
    for file in contents(stopped):
        for how in DAMAGES:
            try:
                found[file, how] = damaged(run, stopped, tmp_path / "run", file, how, whole[0])
            except AssertionError as failure:
                failed[file, how] = str(failure)[:600]
    outcomes = list(found.values())
    print(f"\ndamaged: {len(found)} tries,", *(f"{o}: {outcomes.count(o)}" for o in set(outcomes)))
    print("refused:", sorted(key for key, went_on in found.items() if went_on == "refused"))
    assert not failed, failed
