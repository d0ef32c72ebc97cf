"""The convolution benchmark: ratios by hand, parts that compute what they say, a short run."""

import json

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import sparse_conv
from spfde_keras import kernels
from tests.kernels import reference

CONVOLUTION = kernels.Convolution(3, 6, 5, 4, 8, (3, 3), 2, "same", density=0.5)


@pytest.mark.parametrize("sparse, gained", [(True, 3.0), (False, 1.0)])
def test_ratios_are_medians_of_rounds(sparse, gained):
    # Within the rounds 2, 4 and 3; the ratio of the medians would be 4.
    times = dict.fromkeys(sparse_conv.PARTS, np.array([[2.0, 1.0], [8.0, 2.0], [9.0, 3.0]]))
    choice = kernels.Choice(sparse, 1.5, "measured")
    result = sparse_conv.summarize(CONVOLUTION, times, 0.25, choice)
    assert result["speedup"] == dict.fromkeys(sparse_conv.PARTS, 3.0)
    assert result["seconds"]["step"] == {"dense": 8.0, "sparse": 2.0}
    assert result["seconds_of_memory"] == 0.25
    assert result["speedup_when_chosen"] == 1.5
    assert result["speedup_of_chosen"] == gained
    assert result["chosen"] == ("sparse" if sparse else "dense")
    assert sparse_conv.describe(result) == "3 x 6x5x4, 3x3x8 / 2"


def test_both_ways_compute_the_same(sparse_kernels):
    dense, sparse = sparse_conv.functions(CONVOLUTION)
    (of_kernel,) = sparse["kernel_gradient"]()
    kept = of_kernel != 0
    assert np.mean(kept) == pytest.approx(CONVOLUTION.density, abs=0.1)
    for part in sparse_conv.PARTS:
        found, expected = (tf.nest.flatten(way[part]()) for way in (sparse, dense))
        for one, other in zip(found, expected, strict=True):
            if one.shape == kept.shape:
                other = np.where(kept, other, 0)
            assert np.any(other) and reference.error(one, other) < 1e-5


def test_traffic_is_that_of_a_step():
    # Both gradients have the shape of what they are of.
    of_images, of_outputs = sparse_conv.traffic(CONVOLUTION)()
    assert of_images.shape == (3, 6, 5, 4) and of_outputs.shape == (3, 3, 3, 8)


def test_short_run(tmp_path, capsys, sparse_kernels, monkeypatch):
    monkeypatch.setenv("SPFDE_KERNELS", "sparse")  # it sets its own, and pytest puts it back
    path = tmp_path / "conv.json"
    assert sparse_conv.main(["--rounds=2", "--largest_batch=2", f"--json={path}"]) == 0
    convolutions = json.loads(path.read_text())["convolutions"]
    assert len(convolutions) == 4 * 3
    for result in convolutions:
        assert result["batch"] == 2
        assert result["chosen"] in ("sparse", "dense")
        assert result["speedup_when_chosen"] > 0
        assert set(result["speedup"]) == set(sparse_conv.PARTS)
    printed = capsys.readouterr().out
    assert all(sparse_conv.describe(result) in printed for result in convolutions)
    assert "least speed-up of a step as chosen" in printed


def test_without_the_library_it_says_what_to_do(monkeypatch, capsys):
    off = kernels.Status(False, "not built; run `this`", "auto", None, "2.3.4")
    monkeypatch.setattr(kernels, "status", lambda: off)
    assert sparse_conv.main([]) == 1
    assert "cannot be timed: not built; run `this`" in capsys.readouterr().err
