"""The table of what schemes reach counts masks, and reasons in `sparsify`'s own words."""

import json
import re

import keras
import pytest
from keras import layers

from benchmarks import scheme_reach


@pytest.fixture
def small(monkeypatch):
    """Kernels of 72, 576, 72 (depthwise), 128 and 48 weights; the first and last stay dense."""

    def build():
        return keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                layers.Conv2D(8, 3),
                layers.Conv2D(8, 3),
                layers.DepthwiseConv2D(3),
                layers.Conv2D(16, 1),
                layers.Flatten(),
                layers.Dense(3),
            ]
        )

    monkeypatch.setattr(scheme_reach, "MODELS", {"ViT-Tiny": build})


@pytest.mark.usefixtures("small")
def test_short_run(tmp_path, capsys):
    path = tmp_path / "reach.json"
    flags = ["--models=ViT-Tiny", "--schemes=unstructured,2:4", "--dense=first,last"]
    flags.append(f"--json={path}")
    assert scheme_reach.main(flags) == 0
    every = 72 + 576 + 72 + 128 + 4 * 16 * 3
    found = json.loads(path.read_text())["reach"]["ViT-Tiny"]
    assert found["unstructured"]["share"] == pytest.approx((576 + 72 + 128) / every)
    assert found["2:4"]["share"] == pytest.approx((576 + 128) / every)
    assert (found["2:4"]["masked"], found["2:4"]["kernels"]) == (2, 5)
    reason = "NM(n=2, m=4) needs a multiple of 4 inputs; it has 1 input"
    assert found["2:4"]["reasons"][reason] == 1
    printed = capsys.readouterr().out.splitlines()
    rows = [re.split("  +", line) for line in printed]
    assert rows[0] == ["scheme", "ViT-Tiny"]
    assert ["ViT-Tiny", "2:4", "1", reason] in rows
    assert ["ViT-Tiny", "all", "1", "first convolution"] in rows
