"""The benchmark of faults: what it counts. `tests/faults` has the faults themselves."""

import json

import pytest

from benchmarks import faults


class Fake:
    """Goes on after a fault at each point but the first and the last."""

    touches = 6

    def __init__(self, scratch):
        assert scratch.is_dir()

    def struck(self, mode, at):
        if mode != "kill" or at == self.touches:
            raise AssertionError("files are lost")
        return "refused" if at == 1 else "equal"

    def close(self):
        pass


@pytest.mark.parametrize("every", [1, 5])
def test_outcomes_are_counted(monkeypatch, tmp_path, capsys, every):
    name, _, tries = faults.KINDS["kill"]
    monkeypatch.setattr(faults, "Faults", Fake)
    monkeypatch.setitem(faults.KINDS, "kill", (name, Fake.struck, tries))
    path = tmp_path / "faults.json"
    assert faults.main(["--only=kill", f"--every={every}", "--jobs=2", f"--json={path}"]) == 0
    found = json.loads(path.read_text())
    assert found["faults"]["kill"] == {
        1: {"tries": 6, "equal": 4, "refused": 1, "lost": 1},
        5: {"tries": 2, "equal": 0, "refused": 1, "lost": 1},
    }[every] | {"others": [["kill", 1], ["kill", 6, "files are lost"]]}
    (row,) = faults.tables(found)["faults"].rows
    assert row[1:] == {1: ["6", "4", "1", "1"], 5: ["2, one in 5", "0", "1", "1"]}[every]
    assert found["command"].startswith("python benchmarks/faults.py --only=kill")
    assert "killed half-way" in capsys.readouterr().out


def test_what_needs_root_is_said(monkeypatch, tmp_path, capfd):
    monkeypatch.setattr(faults, "can_mount", lambda scratch: False)
    assert faults.main(["--only=small"]) == 2
    assert "`only` must be a kind that needs no root. Received: small" in capfd.readouterr().err
