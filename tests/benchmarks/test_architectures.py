"""The benchmark of transformers and WaveNets: one short run."""

import json

from benchmarks import architectures


def test_short_run(tmp_path, capsys, sparse_kernels):
    path = tmp_path / "architectures.json"
    arguments = ["--width=0.125", "--batch_size=4", "--length=16", "--layers=1", "--steps=2"]
    assert architectures.main([*arguments, f"--json={path}"]) == 0
    nets = json.loads(path.read_text())["nets"]
    # Patches, four projections, two dense layers; the residual of the last layer is not used.
    kernels = {"transformer": 1 + 6, "wavenet": 3 * 4 - 1 + 1}
    assert {name: net["kernels"] for name, net in nets.items()} == kernels
    printed = capsys.readouterr().out
    for name, net in nets.items():
        assert net["skipping_kernels"] == net["kernels"]
        assert net["speedup"] > 0 and len(net["quartiles_s"]["sparse"]) == 2
        assert name in printed
