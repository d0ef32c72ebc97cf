"""Tests of the memory benchmark, on a net that takes seconds."""

import json

from benchmarks import step_memory


def test_each_way_is_measured_in_its_own_process(tmp_path, capfd, monkeypatch):
    # A process of its own takes seconds to begin: of the two that are sparse, one.
    ways = ("dense Keras 3", "zeros skipped")
    monkeypatch.setattr(step_memory, "VARIANTS", {way: step_memory.VARIANTS[way] for way in ways})
    path = tmp_path / "memory.json"
    options = ["--model=mlp", "--width=0.5", "--batch_size=2", "--steps=1"]
    assert step_memory.main([*options, "--json", str(path)]) == 0
    results = json.loads(path.read_text())
    printed = capfd.readouterr().out
    assert all(name in printed for name in step_memory.VARIANTS)
    assert results["settings"]["batch_size"] == 2
    assert list(results["variants"]) == list(step_memory.VARIANTS)
    for result in results["variants"].values():
        # TensorFlow alone takes hundreds of MiB; a step of this net some tens.
        assert 100 * 2**20 < result["before"] < 4 * 2**30
        assert 0 < result["steps"] < 2**30


def test_what_cannot_be_measured_is_refused(capfd):
    assert step_memory.main(["--sparsity=1.5"]) == 2
    assert "`sparsity` must be a number in [0, 1). Received: 1.5" in capfd.readouterr().err
