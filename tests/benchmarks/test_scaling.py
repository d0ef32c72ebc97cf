"""Tests of the scaling benchmark, on sizes that take seconds."""

import json

from benchmarks import memory, scaling


def test_each_table_is_printed_and_written(tmp_path, capfd, monkeypatch):
    # A process of its own takes seconds to begin: of three ways, one.
    monkeypatch.setattr(scaling, "WAYS", {"sieve, a fifth rests": 0.2})
    path = tmp_path / "scaling.json"
    sizes = ["--samples=500,2000", "--weights=900,2500", "--images=40", "--epochs=2"]
    assert scaling.main([*sizes, "--updaters=set,mest_em", "--json", str(path)]) == 0
    found = json.loads(path.read_text())
    assert found["settings"]["samples"] == [500, 2000] and "child" not in found["settings"]
    assert list(found["samples"]) == ["500", "2000"]
    for result in found["samples"].values():
        # 1 + 8 + 1 + 1 for each, 8 for each that rests, 4 for each that is trained on.
        assert result["bytes_per_sample"] == 11 + 0.2 * 8 + 0.8 * 4
        assert min(result.values()) >= 0 and result["update_s"] > 0
    assert found["weights"]["2500"]["kernel_bytes"] == 10_000
    assert found["weights"]["2500"].keys() >= {"sparsify_s", "set_s", "mest_em_peak_bytes"}
    (trained,) = found["folder"].values()
    assert trained["samples"] == 32 and trained["epoch_s"] > 0
    printed = capfd.readouterr().out
    assert all(word in printed for word in ("samples of one byte", "mest_em", "a fifth rests"))


def test_memory_is_that_of_the_body():
    with memory.added() as added:
        block = bytearray(2**26)
        kept = block[: 2**25]
        del block
    assert 2**26 + 2**25 <= added.peak + 2**22 and added.peak < 2**28
    assert 2**25 <= added.held + 2**22 and len(kept) == 2**25
