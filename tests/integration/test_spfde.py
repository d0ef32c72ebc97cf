"""Freezing, sieving and export on the digits, together, and the default run of the app."""

import json

import keras
import numpy as np
import pytest

import spfde_keras
from apps import models, train
from spfde_keras.export import evaluate_tflite
from spfde_keras.masking import find_masks


def test_all_parts_together(digits, tmp_path):
    keras_model = models.build("small_cnn", digits.input_shape, digits.classes, width=0.5)
    x_train, x_test = (np.asarray(digits.normalize(x)) for x in (digits.train_x, digits.test_x))
    model = spfde_keras.sparsify(keras_model, sparsity=0.9)
    sieve = spfde_keras.DataSieve((x_train, digits.train_y), fraction=0.2)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss, metrics=["accuracy"])
    spfde = spfde_keras.SpFDE(
        epochs=20, updater="mest_ems", interval=1, freeze=0.2, sieve=sieve, seed=0
    )
    history = model.fit(
        sieve.batches(32), epochs=20, shuffle=False, verbose=0, callbacks=[spfde]
    ).history
    spfde_keras.export_tflite(model, tmp_path / "model.tflite")

    accuracy = model.evaluate(x_test, digits.test_y, verbose=0)[1]
    assert accuracy > 0.93
    assert evaluate_tflite(tmp_path / "model.tflite", x_test, digits.test_y) == pytest.approx(
        accuracy, abs=0.005
    )
    assert history["sparsity"][-1] == pytest.approx(0.9, abs=0.001)
    assert history["active_samples"] == [round(0.8 * sieve.total)] * 20
    # The plan is what the run then spends.
    planned = spfde.planned_cost(sieve.active, batch_size=32)
    assert spfde.training_flops == pytest.approx(planned.total, rel=0.01)
    plain = spfde_keras.densify(model)
    np.testing.assert_allclose(
        plain.predict(x_test, verbose=0), model.predict(x_test, verbose=0), atol=1e-4
    )
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    for one, other in zip(find_masks(again), find_masks(model), strict=True):
        np.testing.assert_array_equal(one.read()[0], other.read()[0])
        np.testing.assert_array_equal(one.read()[1], other.read()[1])


@pytest.mark.slow
def test_default_run_keeps_its_promises(tmp_path):
    assert train.main([f"--output_dir={tmp_path / 'run'}"]) == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["test_accuracy"] >= 0.95
    assert results["sparsity"] == pytest.approx(0.9, abs=0.001)
    assert results["flops_share"] <= 0.12
    # Of so small a net, a third of the file is not weights.
    assert results["tflite_bytes"] <= 0.45 * results["tflite_dense_bytes"]
    assert results["tflite_test_accuracy"] == pytest.approx(results["test_accuracy"], abs=0.005)
