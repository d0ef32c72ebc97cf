"""Files that nobody vouches for are loaded, or refused in a line that says what cannot be."""

import io
import json
import math
import random
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

import spfde_keras
from spfde_keras.export import run_tflite
from spfde_keras.masking import find_masks

DATA = Path(__file__).parent / "data"
SAVED = (DATA / "sparse.keras").read_bytes()


def rewritten(content, configuration=None, weights=None):
    """A .keras file after changes of its configuration and of its weights."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            part = old.read(name)
            if name == "config.json" and configuration:
                found = json.loads(part)
                configuration(found["config"])
                part = json.dumps(found).encode()
            if name == "model.weights.h5" and weights:
                file = io.BytesIO(part)
                with h5py.File(file, "r+") as opened:
                    weights(opened)
                part = file.getvalue()
            new.writestr(name, part)
    return out.getvalue()


def refusal(content, tmp_path):
    path = tmp_path / "model.keras"
    path.write_bytes(content)
    with pytest.raises(ValueError) as refused:
        spfde_keras.load_model(path)
    assert list(tmp_path.iterdir()) == [path]
    return str(refused.value)


def of_mask(**arguments):
    def change(config):
        (layer,) = (one for one in config["layers"] if one["config"]["name"] == "conv")
        layer["config"].update(arguments)

    return change


@pytest.mark.parametrize("share", [-1, 1, 90, math.nan, math.inf, "x", None, True, [[0.5]]])
def test_sparsities_that_cannot_be(share, tmp_path):
    for sparsity in (share, {"kernel": share}):
        said = refusal(rewritten(SAVED, of_mask(sparsity=sparsity)), tmp_path)
        assert said.startswith("Layer 'conv': `sparsity` must be a number in [0, 1). Received: ")


@pytest.mark.parametrize("scheme", [3, "x", "block:0", "2:0", {"class_name": "x"}, {}, [1]])
def test_schemes_that_cannot_be(scheme, tmp_path):
    said = refusal(rewritten(SAVED, of_mask(scheme=scheme)), tmp_path)
    assert said.startswith("Layer 'conv': `") and " must be " in said and len(said) < 400


@pytest.mark.parametrize("value", [3, "x", [1], {"a": 1}, {"9999": {}}, {"0": {"scheme": "x"}}])
@pytest.mark.parametrize("name", ["inside", "subnets"])
def test_what_a_model_says_of_its_masks(name, value, tmp_path):
    if (name, value) != ("subnets", 3):  # which needs no layers to be there
        said = refusal(rewritten(SAVED, lambda config: config.update({name: value})), tmp_path)
        assert said.startswith(f"`{name}` must be ")


def stored_mask(change, form="0"):
    def put(file):
        path = f"layers/masked_conv2d/kernel_mask/vars/{form}"
        old = file[path][()]
        del file[path]
        file[path] = change(old)

    return put


@pytest.mark.parametrize(
    "change",
    [
        lambda mask: mask & False,
        lambda mask: mask.astype("uint8") * 2,
        lambda mask: np.full(mask.shape, np.nan),
        lambda mask: mask[..., :-1],
        lambda mask: mask[:0],
    ],
)
def test_masks_that_cannot_be(change, tmp_path):
    said = refusal(rewritten(SAVED, weights=stored_mask(change)), tmp_path)
    assert "A file must hold " in said and "of 'conv/kernel' " in said and "Received: " in said


@pytest.mark.parametrize("scheme", ["block", "channel", "filter", "pattern"])
def test_masks_that_are_not_of_their_scheme(scheme, tmp_path):
    layers = [keras.Input((6, 6, 4)), keras.layers.Conv2D(8, 3, name="conv")]
    model = spfde_keras.sparsify(keras.Sequential(layers), 0.75, scheme=scheme, dense=())
    path = tmp_path / "model.keras"
    model.save(path)
    (mask,), (loaded,) = find_masks(model), find_masks(spfde_keras.load_model(path))
    np.testing.assert_array_equal(mask.read()[1], loaded.read()[1])

    def but_one(bits):
        values = np.unpackbits(bits)
        values[np.argmax(values)] = 0
        return np.packbits(values)

    changed = rewritten(path.read_bytes(), weights=stored_mask(but_one, "bits"))
    said = refusal(changed, tmp_path)
    assert f"a mask of 'conv/kernel' that keeps whole units of {mask.subnets[0].scheme}" in said


FLIP = """
import random, sys, warnings
import spfde_keras
from spfde_keras.export import run_tflite
from spfde_keras.masking import find_masks

warnings.simplefilter("ignore")
path, count = sys.argv[1], int(sys.argv[2])
content = open(path, "rb").read()
chance, refused = random.Random(0), 0
for _ in range(count):
    changed = bytearray(content)
    for _ in range(chance.choice((1, 4, 64))):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    if chance.random() < 0.2:
        del changed[chance.randrange(len(changed)) :]
    open(path, "wb").write(changed)
    try:
        find_masks(spfde_keras.load_model(path))
    except Exception:
        refused += 1
print(refused)
"""


@pytest.mark.parametrize("count", [25, pytest.param(400, marks=pytest.mark.slow)])
def test_mutated_models_never_end_the_process(count, tmp_path):
    path = tmp_path / "model.keras"
    path.write_bytes(SAVED)
    command = [sys.executable, "-c", FLIP, str(path), str(count)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > count / 2
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("count", [8, pytest.param(300, marks=pytest.mark.slow)])
def test_mutated_tflite_files_never_end_the_process(count, tmp_path):
    path, chance, answers = tmp_path / "model.tflite", random.Random(1), []
    net = keras.Sequential([keras.Input((6, 6, 4)), keras.layers.Conv2D(8, 3, padding="same")])
    spfde_keras.export_tflite(net, path)
    content = path.read_bytes()
    for _ in range(count):
        changed = bytearray(content)
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        path.write_bytes(changed)
        try:
            answers.append(run_tflite(path, np.zeros((1, 6, 6, 4))))
        except RuntimeError as refusal:
            assert "LiteRT cannot" in str(refusal)
    assert answers


def test_code_is_not_run(tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Lambda(lambda x: x + 1)])
    model.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="safe_mode|unsafe"):
        spfde_keras.load_model(tmp_path / "model.keras")
