"""The comparison with other libraries: what is left out, the table, and short runs."""

import json
import subprocess
import sys

import pytest

from benchmarks import peer_keras, peers
from benchmarks.peer_process import LeftOut


class Fake:
    """A peer whose steps take what is given, and whose loss falls."""

    def __init__(self, seconds, losses=None, **facts):
        self.facts = {"weights": 3, "macs": 5, "lines": 1, "versions": {}} | facts
        self.seconds = iter(seconds)
        self.losses = iter(losses or range(len(seconds), 0, -1))
        self.closed = False

    def train(self, steps):
        try:
            seconds = next(self.seconds)
        except StopIteration:
            raise LeftOut("it ended with status -9") from None
        return {"seconds": seconds, "loss": next(self.losses), "added_bytes": 2**21}

    def close(self):
        self.closed = True


def run(monkeypatch, tmp_path, made, *flags):
    """Runs the benchmark with these peers; an exception stands for one that cannot start."""

    def start(kind, name, options):
        if isinstance(made[name], Exception):
            raise made[name]
        return made[name]

    monkeypatch.setattr(peers, "start", start)
    path = tmp_path / "peers.json"
    status = peers.main([f"--peers={','.join(made)}", f"--json={path}", *flags])
    return status, json.loads(path.read_text()) if path.exists() else None


def test_ratios_are_medians_of_rounds(monkeypatch, tmp_path, capsys):
    made = {
        "ours": Fake([9, 9, 1.0, 2.0, 4.0], skipping=7, sparse_kernels=8),
        "keras": Fake([1, 1, 3.0, 2.0, 4.0]),
    }
    status, written = run(monkeypatch, tmp_path, made, "--rounds=3")
    assert status == 0
    assert written["peers"]["ours"]["median_s"] == 2.0
    assert written["peers"]["ours"]["to_ours"] == 1.0
    assert written["peers"]["keras"]["median_s"] == 3.0
    assert written["peers"]["keras"]["to_ours"] == 1.0  # 3, 1, 1
    assert written["peers"]["keras"]["losses"] == [5, 4, 3, 2, 1]
    assert written["settings"]["peers"] == ["ours", "keras"]
    assert written["left_out"] == {}
    table = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "ours 2.000 1.00 2 1 7 of 8 5.00 to 1.00" in table
    assert "dense Keras 3 3.000 1.00 2 1 5.00 to 1.00" in table
    assert all(peer.closed for peer in made.values())


def test_what_cannot_be_measured_is_left_out_and_the_rest_runs(monkeypatch, tmp_path, capsys):
    made = {
        "ours": LeftOut("no kernels"),
        "keras": Fake([1, 1, 1]),
        "tfmot": Fake([1, 1]),
        "pytorch": Fake([1, 1, 1], losses=[1, 2, 2]),
    }
    status, written = run(monkeypatch, tmp_path, made, "--rounds=1")
    assert status == 0
    assert list(written["peers"]) == ["keras"]
    assert written["peers"]["keras"]["to_ours"] is None
    assert list(written["left_out"]) == ["ours", "tfmot", "pytorch"]
    assert capsys.readouterr().err.splitlines() == [
        "ours left out: no kernels",
        "tfmot, Keras 2 left out: it ended with status -9",
        "dense PyTorch left out: its loss must fall. Received: 1, then 2",
    ]


def test_another_net_is_refused(monkeypatch, tmp_path, capsys):
    made = {"ours": Fake([1, 1, 1]), "pytorch": Fake([1, 1, 1], macs=6)}
    status, written = run(monkeypatch, tmp_path, made)
    assert status != 0 and written is None
    assert "{'ours': (3, 5), 'pytorch': (3, 6)}" in capsys.readouterr().err
    assert all(peer.closed for peer in made.values())


def test_pip_that_fails_is_one_line(monkeypatch, tmp_path):
    called = []

    def pip(command, **options):
        called.append(command)
        assert options["env"]["PATH"].startswith(f"{tmp_path / 'bin'}:")
        raise subprocess.CalledProcessError(1, command, "", "ERROR: no compiler\nnote: ask\n")

    monkeypatch.setattr(peers.subprocess, "run", pip)
    monkeypatch.setattr(peers.venv, "create", lambda folder, with_pip: None)
    reason = "`-m pip install --quiet a b` failed: ERROR: no compiler$"
    with pytest.raises(LeftOut, match=reason):
        peers.installed(("a b", "c"), tmp_path)
    assert len(called) == 1


def test_an_environment_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LeftOut, match="no environment in .*file.peers: "):
        peers.installed(("a",), tmp_path / "file" / "peers")


def test_what_is_refused(capsys):
    assert peers.main(["--sparsity=0.8"]) == 2
    assert "`sparsity`" in capsys.readouterr().err
    assert peers.main(["--peers=ours,jax"]) == 2
    assert "Received: jax" in capsys.readouterr().err


def test_lines_of_user_code():
    counted = {name: peer_keras.lines(*peer.added) for name, peer in peer_keras.PEERS.items()}
    assert counted == {"ours": 2, "keras": 0, "bfloat16": 1, "tfmot": 8}


def short_run(tmp_path, names):
    path = tmp_path / "peers.json"
    small = ["--model=resnet20", "--width=0.5", "--batch_size=16", "--rounds=4"]
    command = [sys.executable, peers.__file__, f"--peers={names}", *small, f"--json={path}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(path.read_text()), done


@pytest.mark.slow
def test_short_run_of_keras(tmp_path, sparse_kernels):
    written, done = short_run(tmp_path, "ours,keras,bfloat16,tfmot")
    assert list(written["peers"]) == ["ours", "keras", "bfloat16", "tfmot"], done.stderr
    for result in written["peers"].values():
        assert result["losses"][-1] < result["losses"][0]
        assert 2**22 < result["added_bytes"] < 2**31
    assert written["peers"]["ours"]["skipping"] > 0


@pytest.mark.slow
def test_short_run_of_pytorch_beside_keras(tmp_path):
    written, _ = short_run(tmp_path, "keras,pytorch,sparseprop")
    if written["left_out"]:
        pytest.skip(str(written["left_out"]))
    # That they are the same net has been checked, and what SparseProp computes as well.
    assert written["peers"]["sparseprop"]["lines"] == 7
    assert written["peers"]["pytorch"]["weights"] == written["peers"]["keras"]["weights"]
