"""Wherever a file trains, its losses are the same: WebAssembly, ARM64, and the C interface."""

import re
import subprocess

import keras
import numpy as np
import pytest

import spfde_keras
from spfde_keras.export.sparse_mode import available_runtimes, run_sparse_mode
from tests.device.nets import App, batches
from tests.tflite.test_android import runner  # noqa: F401  a fixture

STEPS, BATCH = 5, 8


@pytest.fixture
def samples():
    x, y = (np.concatenate(arrays) for arrays in zip(*batches(STEPS), strict=True))
    return x, y


@pytest.fixture
def losses(app, samples):
    """Those of LiteRT's interpreter on this machine."""
    pairs = zip(*(np.split(array, STEPS) for array in samples), strict=True)
    return [app.step(x, y)["loss"][0] for x, y in pairs]


@pytest.fixture(params=["wasm", "x86-64", "arm64"])
def runtime(request):
    if request.param not in available_runtimes():
        pytest.skip(f"{request.param} is not installed: make mobile-kit")
    return request.param


def test_runtimes(exported, samples, losses, runtime):
    x, y = samples
    inputs = {"x": x, "y": y, "rate": np.full(STEPS, 0.1, "float32")}
    found = run_sparse_mode(exported[0].path, inputs, "train", runtime)
    np.testing.assert_allclose(found["loss"], losses, rtol=1e-5)
    assert found["correct"].shape == (STEPS * BATCH,)


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"rate": np.zeros(4)}, "the same number of samples for every input.*rate.*4"),
        ({"x": np.zeros((12, 8, 8, 1))}, r"'x' must be \(runs x 8, 8, 8, 1\)"),
    ],
)
def test_samples_that_make_no_batches_are_refused(exported, samples, runtime, wrong, said):
    x, y = samples
    inputs = {"x": x, "y": y, "rate": np.full(STEPS, 0.1, "float32")} | wrong
    with pytest.raises(ValueError, match=said):
        run_sparse_mode(exported[0].path, inputs, "train", runtime)


class TestRunner:
    """The C interface, from raw files."""

    @pytest.fixture
    def call(self, runner, exported, tmp_path):  # noqa: F811
        def call(*flags):
            command = [runner, exported[0].path, *flags]
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
            return done.stdout if done.returncode == 0 else done.stderr

        return call

    @pytest.fixture(autouse=True)
    def folder(self, samples, tmp_path):
        (tmp_path / "day").mkdir()
        for name, array in zip("xy", samples, strict=True):
            array.tofile(tmp_path / "day" / f"{name}.raw")
        return tmp_path

    def test_trains_tests_and_saves(self, call, exported, app, samples, losses, folder):
        said = call("--train=day", "--test=day", "--save=learned.f32")
        (loss,) = re.findall("loss ([0-9.]+),", said)
        assert float(loss) == pytest.approx(np.mean(losses), rel=1e-5)
        other = App(exported[0].path)
        state = np.fromfile(folder / "learned.f32", "float32")
        assert other.restore(state=state)["restored"] == 1
        right = [other.infer(x=x[None])["outputs"].argmax() for x in samples[0]] == samples[1]
        assert f"test: {np.count_nonzero(right)} of {STEPS * BATCH} right" in said
        again = call("--restore=learned.f32", "--test=day")
        assert again == said.splitlines()[-1] + "\n"

    def test_wrong_files_are_refused_in_one_line(self, call, folder, samples):
        x, y = samples
        np.full_like(y, 10).tofile(folder / "day" / "y.raw")
        assert "error: Step 1 of epoch 1 changed nothing: a label is no class" in call(
            "--train=day"
        )
        assert "y.raw must hold int32 classes below " in call("--test=day")
        (folder / "day" / "y.raw").write_bytes(y.tobytes() + b"1")
        assert "y.raw must hold int32 classes below " in call("--test=day")
        x[:9].tofile(folder / "day" / "x.raw")
        assert "x.raw must have a multiple of 2048 bytes" in call("--train=day")
        (folder / "state").write_bytes(b"1234")
        assert "error: state is no state of this file" in call("--restore=state")
        assert "error: --rate must be a number of at least 0" in call("--train=day", "--rate=-1")
        assert "error: nowhere/x.raw cannot be read" in call("--test=nowhere")

    def test_one_output_tells_two_classes(self, runner, tmp_path):  # noqa: F811
        """Whether it is above a half, as `evaluate_tflite` has it."""
        net = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, "sigmoid", name="only")])
        net.layers[0].set_weights([np.array([[4.0], [0.0]]), np.zeros(1)])
        path = tmp_path / "binary.tflite"
        spfde_keras.export_trainable_tflite(net, path, "sgd", "binary_crossentropy", 1)
        np.array([[1, 0], [-1, 0], [2, 0], [-2, 0]], "float32").tofile(tmp_path / "x.raw")
        np.array([1, 0, 1, 1], "int32").tofile(tmp_path / "y.raw")
        command = [runner, path, f"--test={tmp_path}"]
        assert (
            subprocess.run(command, capture_output=True, text=True).stdout == "test: 3 of 4 right\n"
        )
