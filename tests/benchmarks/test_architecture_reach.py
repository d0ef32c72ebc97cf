"""The table of architectures: one small net, and one that cannot be trained."""

import dataclasses
import json

from benchmarks import architecture_reach
from tests.architectures import nets


def test_short_run(tmp_path, capsys, monkeypatch):
    wide = nets.EXAMPLES["wide and deep"]
    broken = dataclasses.replace(wide, loss="no_such_loss")
    monkeypatch.setitem(architecture_reach.GROUPS, "examples", {"wide": wide, "broken": broken})
    path = tmp_path / "reach.json"
    assert architecture_reach.main([f"--json={path}"]) == 0
    found = json.loads(path.read_text())
    assert found["command"] == "python benchmarks/architecture_reach.py"
    one = found["reach"]["wide"]
    assert (one["blocks"], one["saved"], one["dense"]) == (
        4,
        "model",
        {"classifier (last layer)": 1},
    )
    assert one["file"] < 1e-3
    rows = architecture_reach.tables(found)["models"].rows
    assert rows[0][1:] == ["65%", "4, 36%", "classifier (last layer)", "model"]
    assert "no_such_loss" in found["reach"]["broken"]["failed"] == rows[1][1]
    assert "65%" in capsys.readouterr().out


def test_a_name_that_is_not_there_is_refused(capfd):
    assert architecture_reach.main(["--only=AlexNet"]) == 2
    assert "`only` must be part of one of vision transformer" in capfd.readouterr().err
