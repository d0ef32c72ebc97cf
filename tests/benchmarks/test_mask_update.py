"""The update benchmark runs every pair and reports each."""

import json

from benchmarks import mask_update
from spfde_keras import updaters


def test_short_run(tmp_path, capsys):
    path = tmp_path / "update.json"
    flags = ["--model=mlp", "--repeats=1", "--schemes=block,2:4", f"--json={path}"]
    assert mask_update.main(flags) == 0
    seconds = json.loads(path.read_text())["seconds"]
    assert list(seconds) == ["block", "2:4"]
    for row in seconds.values():
        assert set(row) == set(updaters.names())
        assert all(len(times) == 1 and times[0] > 0 for times in row.values())
    assert "slowest:" in capsys.readouterr().out
