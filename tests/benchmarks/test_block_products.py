"""The benchmark of products in blocks: what it computes, and a short run."""

import json

import numpy as np

from benchmarks import block_products


def test_a_product_in_blocks_is_that_with_the_whole_kernel():
    random = np.random.default_rng(0)
    x = random.random((5, 6), "float32")
    places = np.array([[0, 4], [1, 2]], "int32")
    weights = random.random((2, 2, 3), "float32")
    whole = np.zeros((6, 6), "float32")
    for block, inputs in enumerate(places):
        whole[inputs, 3 * block : 3 * block + 3] = weights[block]
    found = block_products.in_blocks(x, weights, places).numpy()
    np.testing.assert_allclose(np.concatenate(found, 1), x @ whole, rtol=1e-6)
    places = np.flatnonzero(whole.ravel()).astype("int32")
    found = block_products.unpacked(6, 6)(x, whole.ravel()[places], places)
    np.testing.assert_allclose(found, x @ whole, rtol=1e-6)


def test_short_run(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(block_products.os, "sched_setaffinity", lambda *_: None)
    monkeypatch.setattr(block_products, "SIZES", ((8, 16, 16),))
    path = tmp_path / "products.json"
    assert block_products.main(["--blocks=8", "--rounds=2", f"--json={path}"]) == 0
    (result,) = json.loads(path.read_text())["products"]
    assert list(result["to_dense"]) == ["dense", "blocks of 8", "unpacked"]
    assert result["to_dense"]["dense"] == 1 and min(result["median_s"].values()) > 0
    assert "8x16 by 16x16" in capfd.readouterr().out


def test_blocks_must_divide_the_outputs(capsys):
    assert block_products.main(["--blocks=7"]) != 0
    assert "`blocks` must divide 128 outputs. Received: 7" in capsys.readouterr().err
