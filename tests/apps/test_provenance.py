"""Where results come from."""

import datetime
import subprocess

import keras
import pytest

import spfde_keras
from apps import provenance


def git(folder, *arguments):
    name = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(
        ["git", "-C", folder, *name, *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def file(tmp_path):
    git(tmp_path, "init", "--quiet")
    (tmp_path / "a.py").write_text("1\n")
    git(tmp_path, "add", "a.py")
    git(tmp_path, "commit", "--quiet", "--message=a")
    return tmp_path / "a.py"


def test_the_commit_is_that_of_the_file(file):
    head = git(file.parent, "rev-parse", "HEAD")
    assert provenance.commit(file) == head
    file.write_text("2\n")
    assert provenance.commit(file) == f"{head}-dirty"


def test_what_git_does_not_know_has_no_commit(file, tmp_path_factory, monkeypatch):
    installed = file.parent / "environment" / "b.py"
    installed.parent.mkdir()
    installed.write_text("")
    assert provenance.commit(installed) is None
    assert provenance.commit(tmp_path_factory.mktemp("elsewhere") / "c.py") is None
    monkeypatch.setenv("PATH", "")
    assert provenance.commit(file) is None


def test_versions_and_date():
    found = provenance.provenance()
    assert found["versions"].keys() == {"keras", "tensorflow", "spfde_keras"}
    assert found["versions"]["keras"] == keras.__version__
    assert found["versions"]["spfde_keras"] == spfde_keras.__version__
    date = datetime.datetime.fromisoformat(found["date"])
    assert date.utcoffset() == datetime.timedelta(0)
    assert abs(datetime.datetime.now(datetime.UTC) - date) < datetime.timedelta(minutes=1)
