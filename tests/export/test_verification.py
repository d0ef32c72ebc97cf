import contextlib

import keras
import numpy as np
import pytest
from keras import layers

from spfde_keras.export import (
    evaluate_tflite,
    export_tflite,
    run_tflite,
    verification,
    verify_tflite,
)
from spfde_keras.export.interpreting import Interpreted, InterpretedApart
from spfde_keras.export.verification import compare, largest_error
from spfde_keras.masking import find_masks
from spfde_keras.sparsify import densify, sparsify


@pytest.fixture
def model():
    # Multiplies by [[1, 0, 2], [0, 1, 2]].
    model = keras.Sequential([layers.Input((2,), name="pair"), layers.Dense(3, use_bias=False)])
    model.layers[0].kernel.assign([[1.0, 0.0, 2.0], [0.0, 1.0, 2.0]])
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("export")


@pytest.fixture
def path(model, folder):
    path = folder / "model.tflite"
    if not path.exists():
        export_tflite(model, path, sparse=False)
    return path


def test_run_gives_the_outputs_of_every_sample(path):
    outputs = run_tflite(path, [[1, 0], [0, 1], [-1, 3]])
    np.testing.assert_allclose(outputs, [[1, 0, 2], [0, 1, 2], [-1, 3, 4]])
    np.testing.assert_array_equal(run_tflite(path, {"pair": [[1, 0]]}), outputs[:1])


def test_run_works_where_a_resized_batch_would_not(tmp_path):
    # Reshape((2, 3)) is stored as (1, 2, 3).
    path = tmp_path / "model.tflite"
    model = keras.Sequential([layers.Input((6,)), layers.Reshape((2, 3)), layers.Dense(4)])
    export_tflite(model, path)
    x = np.random.default_rng(0).random((5, 6), dtype="float32")
    np.testing.assert_allclose(run_tflite(path, x), model(x), atol=1e-6)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 3)), r"must be \(samples, 2\) for input 'pair'. Received: shape \(2, 3\)"),
        (np.zeros(2), r"must be \(samples, 2\) for input 'pair'"),
        (np.zeros((0, 2)), "at least one"),
        ({"other": np.zeros((1, 2))}, r"inputs \['pair'\] of .*Received: \['other'\]"),
    ],
)
def test_run_refuses_other_inputs(path, x, message):
    with pytest.raises(ValueError, match=message):
        run_tflite(path, x)


def test_run_refuses_what_is_no_tflite_file(tmp_path):
    with pytest.raises(ValueError, match="`path` must be a .tflite file"):
        run_tflite(tmp_path / "missing.tflite", [[0, 0]])
    (tmp_path / "text.tflite").write_text("text")
    with pytest.raises(RuntimeError, match="LiteRT cannot load"):
        run_tflite(tmp_path / "text.tflite", [[0, 0]])


def test_verify_measures_the_error_against_the_output_scale(path, model):
    # The file gives (1, 0, 2) where the changed model gives (1.5, 0, 2): 0.5 of a scale of 2.
    model.layers[0].kernel.assign([[1.5, 0.0, 2.0], [0.0, 1.0, 2.0]])
    assert verify_tflite(path, model, np.array([[1.0, 0.0]]), tolerance=0.3) == pytest.approx(0.25)
    with pytest.raises(RuntimeError, match="off by 0.25 of their scale, more than 0.2"):
        verify_tflite(path, model, np.array([[1.0, 0.0]]), tolerance=0.2)


def test_verify_accepts_the_model_after_saving_and_loading(path, model, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert verify_tflite(path, loaded, np.eye(2), tolerance=1e-4) < 1e-6


def test_nan_in_any_output_is_the_largest_error():
    one, nan = np.ones((1, 2)), np.full((1, 2), np.nan)
    assert np.isnan(largest_error({"a": one, "b": nan}, {"a": one, "b": one}))


def test_nan_is_no_class(path, model):
    with pytest.raises(ValueError, match="must give numbers for `x`. Received: NaN"):
        evaluate_tflite(path, [[np.nan, 0.0]], [0])


def test_nan_never_passes(path, model):
    nan = {"output_0": np.full((1, 3), np.nan, "float32")}
    with pytest.raises(RuntimeError, match="off by nan"):
        compare(path, {"pair": np.array([[np.nan, 0]])}, {"output_0": np.ones((1, 3))}, 1e9)
    with pytest.raises(RuntimeError, match="off by nan"):
        compare(path, {"pair": np.ones((1, 2))}, nan, 1e9)
    model.layers[0].kernel.assign(np.full((2, 3), np.nan))
    with pytest.raises(ValueError, match="Keras model itself gives NaN"):
        verify_tflite(path, model, np.ones((1, 2)), tolerance=1e9)


@pytest.mark.parametrize("labels", [[2, 2, 2, 0], [[2], [2], [2], [0]], np.eye(3)[[2, 2, 2, 0]]])
def test_accuracy_by_hand(path, labels):
    # Classes 2, 2, 0 and 1 have the largest outputs.
    x = [[1, 0], [1, 1], [1, -3], [-3, 1]]
    assert np.argmax(run_tflite(path, x), -1).tolist() == [2, 2, 0, 1]
    assert evaluate_tflite(path, x, labels) == 0.5


def test_accuracy_of_a_binary_classifier(tmp_path):
    path = tmp_path / "model.tflite"
    model = keras.Sequential([layers.Input((1,)), layers.Dense(1, activation="sigmoid")])
    model.layers[0].kernel.assign([[1.0]])
    export_tflite(model, path)
    x = [[-1], [2], [3], [-4]]
    assert evaluate_tflite(path, x, [0, 1, 1, 0]) == 1
    assert evaluate_tflite(path, x, [[0], [1], [0], [0]]) == 0.75


def test_accuracy_needs_a_label_for_each_sample(path):
    with pytest.raises(ValueError, match="`y` must hold 4 labels. Received: shape"):
        evaluate_tflite(path, np.ones((4, 2)), [0, 1])


@pytest.fixture(scope="module")
def subnets():
    # subnet_0 multiplies by [[1, 0, 2], [0, 1, 2]], subnet_50 by [[1, 0, 0], [0, 1, 0]].
    plain = keras.Sequential([layers.Input((2,)), layers.Dense(3, use_bias=False)])
    model = sparsify(plain, sparsity=[0, 0.5], dense=(), initial="random")
    kernel = np.array([[1.0, 0.0, 2.0], [0.0, 1.0, 2.0]])
    find_masks(model)[0].write(kernel, np.array([np.ones((2, 3)), [[1, 0, 0], [0, 1, 0]]], bool))
    return model


@pytest.fixture(scope="module")
def several(subnets, folder):
    return export_tflite(subnets, folder / "several.tflite", sparse=False).path


def test_run_takes_the_signature(several):
    assert run_tflite(several, [[1, 3]], signature="subnet_0").tolist() == [[1, 3, 8]]
    assert run_tflite(several, [[1, 3]], signature="subnet_50").tolist() == [[1, 3, 0]]


def test_accuracy_of_a_signature(several):
    x, y = [[1, 0], [0, 1]], [0, 2]
    assert evaluate_tflite(several, x, y, signature="subnet_0") == 0.5
    assert evaluate_tflite(several, x, [0, 1], signature="subnet_50") == 1


def test_verify_runs_the_model_as_the_subnet_of_the_signature(several, subnets):
    x = np.array([[1.0, 3.0]])
    sparser = densify(subnets, subnet=1)
    for active in (0, 1):
        subnets.activate(active)
        for name in subnets.subnets:
            assert verify_tflite(several, subnets, x, 1e-6, signature=name) < 1e-6
    assert verify_tflite(several, sparser, x, 1e-6, signature="subnet_50") < 1e-6
    # 8 where the sparser one gives 0, at a scale of 3.
    with pytest.raises(RuntimeError, match="outputs of subnet_0 are off by 2.7 of their scale"):
        verify_tflite(several, sparser, x, 1e-6, signature="subnet_0")


def test_a_single_signature_may_be_named(path):
    assert run_tflite(path, [[1, 3]], signature="serving_default").tolist() == [[1, 3, 8]]
    with pytest.raises(ValueError, match="`signature` must be .*'serving_default'.*: 'subnet_90'"):
        run_tflite(path, [[1, 3]], signature="subnet_90")


@pytest.mark.parametrize("signature", [None, "subnet_90"])
def test_one_of_several_signatures_must_be_named(several, subnets, signature):
    message = rf"`signature` must be .*\['subnet_0', 'subnet_50'\]. Received: {signature!r}"
    for call in (
        lambda: run_tflite(several, [[1, 3]], signature=signature),
        lambda: evaluate_tflite(several, [[1, 3]], [0], signature=signature),
        lambda: verify_tflite(several, subnets, np.ones((1, 2)), 1e-4, signature=signature),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_a_file_that_ends_the_process_that_runs_it(path, monkeypatch):
    class Struck(InterpretedApart):
        def run(self, signature, inputs):
            self._process.kill()
            return super().run(signature, inputs)

    monkeypatch.setattr(verification, "InterpretedApart", Struck)
    message = r"LiteRT cannot run .*model.tflite: it ended the process \(status -9\)"
    with pytest.raises(RuntimeError, match=message):
        run_tflite(path, [[1, 0]])


def test_files_run_apart_as_they_do_here(path):
    x = np.random.default_rng(0).normal(size=(4, 2)).astype("float32")
    here = Interpreted(path)
    (signature,) = here.signatures
    with contextlib.closing(InterpretedApart(path)) as apart:
        assert apart.signatures == {"serving_default": {"pair": [[1, 2], "float32"]}}
        for _ in range(2):
            np.testing.assert_array_equal(
                apart.run(signature, {"pair": x})["output_0"],
                here.run(signature, {"pair": x})["output_0"],
            )


def test_a_logit_is_no_probability(tmp_path):
    model = keras.Sequential([layers.Input((1,)), layers.Dense(1, kernel_initializer="ones")])
    path = tmp_path / "logit.tflite"
    export_tflite(model, path)
    assert evaluate_tflite(path, [[0.75], [0.25]], [1, 1]) == 0.5
    with pytest.raises(ValueError, match="must give probabilities .*: 4 among its .* a sigmoid"):
        evaluate_tflite(path, [[4.0], [0.25]], [1, 0])
