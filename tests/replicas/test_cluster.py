"""The recipe for a cluster, as BUILD.md has it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def recipe():
    section = (ROOT / "BUILD.md").read_text().partition("## Training on a cluster")[2]
    return re.search(r"```bash\n(.*?)```", section, re.S)[1]


@pytest.mark.slow
def test_two_workers_of_the_app_are_one_run(tmp_path):
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    result = subprocess.run(
        ["bash", "-c", recipe()], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    found = json.loads((tmp_path / "runs/cluster/results.json").read_text())
    assert found["train_samples"] == 300 and found["config"]["strategy"] == "multiworker"
    assert not (tmp_path / "runs/cluster/unfinished").exists()
    assert result.stdout.count("results in") == 1, result.stderr[-2000:]


def test_workers_need_to_know_each_other(monkeypatch, capsys):
    from apps.train import main

    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert main(["--strategy=multiworker"]) == 2
    assert "TF_CONFIG" in capsys.readouterr().err
