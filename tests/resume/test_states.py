"""States on disk: whole, or not there."""

import os

import pytest

from spfde_keras.resume.folder import MARK, OwnFolder
from spfde_keras.resume.states import States


@pytest.fixture
def states(tmp_path):
    states = States(tmp_path / "states")
    states.open()
    yield states
    states.close()


def write(states, epoch, text="whole"):
    states.write(epoch, lambda folder: (folder / "weights").write_text(text))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_last_two_are_kept(states):
    assert states.epochs() == []
    for epoch in (1, 2, 9, 10):
        write(states, epoch, str(epoch))
    assert states.epochs() == [10, 9]
    assert names(states.path) == ["epoch-0009", "epoch-0010", MARK]
    assert (states.of(10) / "weights").read_text() == "10"


def test_more_than_four_digits_are_in_order(states):
    for epoch in (9999, 10000, 10001):
        write(states, epoch)
    assert states.epochs() == [10001, 10000]


def test_what_is_damaged_is_replaced_when_its_epoch_comes_again(states):
    for epoch in (6, 7):
        write(states, epoch)
    write(states, 7, "again")
    assert states.epochs() == [7, 6]
    assert (states.of(7) / "weights").read_text() == "again"
    write(states, 6, "again")  # both were damaged by hand, say: what came after it is not kept
    assert states.epochs() == [6]


def test_a_state_that_fails_leaves_nothing_behind(states):
    write(states, 1)

    def fail(folder):
        (folder / "weights").write_text("half")
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        states.write(2, fail)
    assert names(states.path) == ["epoch-0001", MARK]


def test_what_a_killed_process_left_is_removed_by_the_next_state(states):
    write(states, 1)
    for name in ("writing", "removing"):
        (states.path / name).mkdir()
        (states.path / name / "weights").write_text("half")
    write(states, 2)
    assert names(states.path) == ["epoch-0001", "epoch-0002", MARK]


def test_nothing_is_visible_before_it_is_whole(states, monkeypatch):
    seen = []
    rename = os.rename

    def watched(*paths):
        seen.append(states.epochs())
        rename(*paths)

    monkeypatch.setattr(os, "rename", watched)
    for epoch in (1, 2, 3):
        write(states, epoch)
    assert seen == [[], [1], [2, 1], [3, 2, 1]]  # the last one removes


def test_a_folder_is_removed_with_what_is_its_own_alone(tmp_path):
    folder = OwnFolder(tmp_path / "run", "a|b")
    folder.open()
    (folder.path / "a").mkdir()
    (folder.path / "a" / "file").write_text("")
    (folder.path / "mine").write_text("")
    folder.remove()
    assert names(folder.path) == ["mine"]
    (folder.path / "mine").unlink()
    folder.open()
    folder.remove()
    assert not folder.path.exists()


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="`output_dir` must be a folder. Received: .*file"):
        OwnFolder(tmp_path / "file", ".*", "output_dir").check()


def test_a_folder_that_nobody_works_in_any_more_is_free(tmp_path):
    first, second = (OwnFolder(tmp_path / "run", "a") for _ in range(2))
    first.open()
    first.close()
    second.open()
    second.close()
    assert names(tmp_path / "run") == [MARK]
