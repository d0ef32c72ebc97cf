"""The phone benchmark: ratios by hand, arguments, and one short run."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from apps import mobilenets
from benchmarks import mobile
from spfde_keras.export import sparse_mode


def test_ratios_are_medians_of_rounds(monkeypatch):
    seconds = {"dense": [9.0] * 3 + [1.0, 2.0, 4.0], "90% sparse": [9.0] * 3 + [0.5, 0.5, 3.0]}

    def run_job(files, sample, rounds, runtime):
        assert (files, rounds, runtime) == (list(seconds), 6, "wasm")
        return [SimpleNamespace(seconds=np.array(seconds[name])[:, None]) for name in files]

    monkeypatch.setattr(mobile, "run_job", run_job)
    results = {name: {} for name in seconds}
    files = dict(zip(seconds, seconds, strict=True))
    mobile.measure_time(results, files, {}, SimpleNamespace(rounds=3))
    assert results["dense"]["wasm_ms"] == 2000
    assert results["dense"]["wasm_to_dense"] == 1
    assert results["90% sparse"]["wasm_ms"] == 500
    assert results["90% sparse"]["wasm_to_dense"] == 0.5  # 0.5, 0.25, 0.75


def test_instructions_are_compared_with_the_dense_file(monkeypatch):
    counts = {"dense.tflite": 400, "sparse.tflite": 100}
    monkeypatch.setattr(mobile.arm64_instructions, "count", lambda path, sample: counts[path])
    results = {"dense": {}, "90% sparse": {}}
    files = dict(zip(results, counts, strict=True))
    mobile.measure_instructions(results, files, {}, SimpleNamespace())
    assert results == {
        "dense": {"arm64_instructions": 400, "arm64_to_dense": 1},
        "90% sparse": {"arm64_instructions": 100, "arm64_to_dense": 0.25},
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "not installed: wasm, arm64. Run `make mobile-kit`"),
        (["--runtimes", "arm64"], "not installed: arm64. Run"),
        (["--sparsity", "0.8,1.5"], "`sparsity` must be a number in [0, 1). Received: 1.5"),
        (["--precision", "int8_full"], "must be one of float32, float16. Received: int8_full"),
    ],
)
def test_wrong_arguments_are_one_line(monkeypatch, tmp_path, capsys, arguments, message):
    monkeypatch.setenv("SPFDE_MOBILE_KIT", str(tmp_path))
    assert mobile.main(arguments) in (1, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line


@pytest.mark.mobile_kit
def test_short_run(tmp_path, capsys, monkeypatch):
    if "wasm" not in sparse_mode.available_runtimes():
        pytest.skip("wasm is not installed: make mobile-kit")
    # The front stages alone convert in a fraction of the time.
    monkeypatch.setattr(mobilenets, "VERSION1_STAGES", mobilenets.VERSION1_STAGES[:3])
    path = tmp_path / "mobile.json"
    arguments = ["--size=32", "--width=0.5", "--rounds=3", "--runtimes", "wasm"]
    assert mobile.main([*arguments, f"--json={path}"]) == 0
    files = json.loads(path.read_text())["files"]
    assert list(files) == ["dense", "90% sparse"]
    assert files["90% sparse"]["bytes"] < 0.5 * files["dense"]["bytes"]
    assert all(result["error"] < 1e-4 for result in files.values())
    assert all(result["wasm_ms"] > 0 for result in files.values())
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("mobilenet_sparse", "WebAssembly ms", *files))
    assert "ARM64" not in printed
