"""The update benchmark runs every pair and reports each."""

import json

from benchmarks import mask_update


def test_short_run(tmp_path, capsys):
    path = tmp_path / "update.json"
    mask_update.main(["--model=mlp", "--repeats=1", "--schemes", "block", "2:4", f"--json={path}"])
    seconds = json.loads(path.read_text())["seconds"]
    assert list(seconds) == ["block", "2:4"]
    for row in seconds.values():
        assert set(row) == set(mask_update.UPDATERS)
        assert all(len(times) == 1 and times[0] > 0 for times in row.values())
    assert "slowest:" in capsys.readouterr().out
