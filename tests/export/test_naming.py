import keras
import numpy as np
import pytest
from keras import layers

from spfde_keras.export import export_tflite, run_tflite
from spfde_keras.export.naming import input_names, named_outputs, renamed

pytestmark = pytest.mark.usefixtures("no_kit")


def weighed(names):
    """A net whose output tells its inputs apart."""
    inputs = [layers.Input((2,), name=name) for name in names]
    return inputs, layers.Add()([(i + 1) * tensor for i, tensor in enumerate(inputs)])


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["b-first", "a_second", "3"], ["b_first", "a_second", "3"]),
        (["a-b", "a_b"], ["a_b_1", "a_b"]),
        (["x", "X"], ["x", "X_1"]),
        (["class", "self", "None"], ["class_", "self_", "None_"]),
        (["_x", "-", "Größe"], ["x", "input_1", "Gr__e"]),
        ([None, None], ["input_0", "input_1"]),
        (["input_1", None], ["input_1", "input_1_1"]),
        ([None, "input_0"], ["input_0_1", "input_0"]),
    ],
)
def test_inputs_are_called_what_a_file_can_call_them(names, expected):
    inputs, total = weighed(names)
    model = keras.Model(inputs, total)
    assert input_names(model) == expected
    changed = {a: b for a, b in zip(names, expected, strict=True) if a is not None and a != b}
    assert renamed(model) == changed


@pytest.mark.parametrize(
    ("outputs", "names"),
    [
        (1, ["output_0"]),
        ([1], ["output_0"]),
        ((1, 2), ["output_0", "output_1"]),
        ({"a-b": 1, "a_b": 2, "class": 3}, ["a-b", "a_b", "class"]),
        ([1, [2, {"z": 3}]], ["output_0", "output_1_0", "output_1_1_z"]),
        ({"a": [1, 2], "a_0": 3}, ["a_0", "a_1", "a_0_1"]),
        ({"a": 1, "b": None}, ["a"]),
    ],
)
def test_outputs_are_called_by_their_keys_and_positions(outputs, names):
    assert named_outputs(outputs) == {name: i + 1 for i, name in enumerate(names)}


def test_a_file_of_awkward_names_computes_what_the_model_does(tmp_path):
    inputs, total = weighed(["x", "X", "a-b", "a_b", "class", "self", "_y", "input_8", None])
    model = keras.Model(inputs, {"b": [total, layers.Dense(3)(total)], "a": {"c": -total}})
    x = list(np.random.default_rng(0).random((9, 4, 2), dtype="float32"))
    report = export_tflite(model, tmp_path / "names.tflite")
    found = run_tflite(report.path, dict(zip(input_names(model), x, strict=True)))

    (first, second), last = (expected := model(x))["b"], expected["a"]["c"]
    for name, value in {"b_0": first, "b_1": second, "a_c": last}.items():
        np.testing.assert_allclose(found.pop(name), value, atol=1e-5)
    assert not found
    assert report.renamed["b/1"] == "b_1" and "'X' as 'X_1'" in str(report)
