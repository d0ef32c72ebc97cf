"""The step benchmark: ratios by hand, equal baselines, and one short run."""

import json

import numpy as np
import pytest

import spfde_keras
from apps import models
from benchmarks import step_time

tf_keras = pytest.importorskip("tf_keras")
tfmot = pytest.importorskip("tensorflow_model_optimization")


def test_ratios_are_medians_of_rounds():
    times = {"dense": [1.0, 2.0, 4.0], "tfmot": [2.0, 2.0, 2.0], "sparse": [0.5, 2.0, 3.0]}
    result = step_time.summarize(
        times | {"frozen": [0.25, 1.0, 3.0]},
        {"sparse": 1.0, "frozen": 0.4},
        {"sparse": (2, 3)},
    )
    assert result["dense"]["median_s"] == 2.0
    assert result["sparse"]["to_dense"] == 0.75  # 0.5, 1, 0.75
    assert result["sparse"]["to_tfmot"] == 1.0
    assert result["frozen"]["to_sparse"] == 0.5  # 0.5, 0.5, 1
    assert result["frozen"]["predicted_to_sparse"] == 0.4
    assert result["dense"]["to_sparse"] == 4 / 3  # 2, 1, 4/3
    assert "predicted_to_sparse" not in result["dense"]
    assert (result["sparse"]["skipping_kernels"], result["sparse"]["kernels"]) == (2, 3)
    assert "kernels" not in result["dense"]


def test_keras2_twin_is_the_same_function_with_the_same_layers_pruned():
    dense = models.build("resnet20", (32, 32, 3), 100, width=0.5)
    twin = step_time.keras2_twin(dense, tf_keras)
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    expected = dense(x).numpy()
    np.testing.assert_allclose(twin(x), expected, atol=1e-5 * np.abs(expected).max())

    dense_layers = models.dense_layers("resnet20")
    sparse = spfde_keras.sparsify(dense, 0.9, dense=dense_layers)
    masked = step_time.masked_layers(sparse)
    pruned = step_time.prune(twin, masked, 0.9, tfmot, tf_keras)
    batch = step_time.random_batch(4)
    callbacks = [tfmot.sparsity.keras.UpdatePruningStep()]
    step_time.train_step(pruned, tf_keras, batch, callbacks)
    masks = [w.numpy() for w in pruned.weights if "/mask" in w.name]
    assert len(masks) == len(masked) == 18
    for mask in masks:
        assert np.mean(mask) == pytest.approx(0.1, abs=2 / mask.size)


def test_short_run(tmp_path, capsys, sparse_kernels):
    path = tmp_path / "step.json"
    arguments = ["--model=small_cnn", "--width=0.25", "--batch_size=4", "--steps=2"]
    assert step_time.main([*arguments, f"--json={path}"]) == 0
    variants = json.loads(path.read_text())["variants"]
    assert list(variants) == [
        "dense",
        "tfmot",
        "sparse",
        "sparse, 3 sub-nets",
        "sparse, zeros computed",
        "sparse, 1/3 frozen",
        "sparse, 2/3 frozen",
    ]
    predicted = [variants[f"sparse, {third}/3 frozen"]["predicted_to_sparse"] for third in (1, 2)]
    assert 1 > predicted[0] > predicted[1] > 0
    for name in ("sparse", "sparse, 3 sub-nets", "sparse, 2/3 frozen"):
        assert variants[name]["skipping_kernels"] == variants[name]["kernels"] > 0
    assert variants["sparse, zeros computed"]["skipping_kernels"] == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("small_cnn", "predicted", "skipping", *variants))
