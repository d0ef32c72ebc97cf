"""Running files in sparse mode: the protocol with this machine's LiteRT, the rest with the kit."""

import json
import pathlib
import shutil

import keras
import numpy as np
import pytest
from keras import layers

import spfde_keras
from spfde_keras.export import export_tflite, run_tflite
from spfde_keras.export.conversion import convert_models
from spfde_keras.export.sparse_mode import (
    available_runtimes,
    check_sparse_mode,
    kit_folder,
    run_job,
    run_sparse_mode,
)

RUNNER = pathlib.Path(__file__).parents[2] / "tflite" / "kit" / "run_litert.py"
INPUTS = {"pair": np.array([[1, 0], [0, 1], [-1, 3]])}
OUTPUTS = [[1, 0, 2], [0, 1, 2], [-1, 3, 4]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sparse_mode")


@pytest.fixture(scope="module")
def path(folder):
    # Multiplies by [[1, 0, 2], [0, 1, 2]].
    model = keras.Sequential([layers.Input((2,), name="pair"), layers.Dense(3, use_bias=False)])
    model.layers[0].kernel.assign([[1.0, 0.0, 2.0], [0.0, 1.0, 2.0]])
    export_tflite(model, folder / "model.tflite", sparse=False)
    return folder / "model.tflite"


def use_kit(folder, monkeypatch, **commands):
    monkeypatch.setenv("SPFDE_MOBILE_KIT", str(folder))
    (folder / "kit.json").write_text(json.dumps(commands))


@pytest.fixture
def native(tmp_path, monkeypatch):
    """A kit whose only runtime is this machine's LiteRT: the protocol without an emulator."""
    shutil.copy(RUNNER, tmp_path)
    use_kit(tmp_path, monkeypatch, native=["{python}", "{kit}/run_litert.py"])


@pytest.fixture(params=["wasm", "x86-64", "arm64"])
def runtime(request):
    if request.param not in available_runtimes():
        pytest.skip(f"{request.param} is not installed: make mobile-kit")
    return request.param


def test_without_a_kit_the_remedy_is_named(path, tmp_path, monkeypatch):
    monkeypatch.setenv("SPFDE_MOBILE_KIT", str(tmp_path))
    assert available_runtimes() == []
    with pytest.raises(RuntimeError, match="No runtime .* run `make mobile-kit`"):
        run_sparse_mode(path, INPUTS)
    monkeypatch.delenv("SPFDE_MOBILE_KIT")
    assert kit_folder() == RUNNER.parents[2] / ".mobile-kit"


def test_a_runtime_whose_program_is_gone_is_not_available(tmp_path, monkeypatch):
    use_kit(tmp_path, monkeypatch, wasm=["{kit}/gone"], arm64=["{python}"])
    assert available_runtimes() == ["arm64"]


def test_outputs_by_hand(native, path):
    outputs = run_sparse_mode(path, INPUTS)
    assert list(outputs) == ["output_0"]
    np.testing.assert_allclose(outputs["output_0"], OUTPUTS)
    assert outputs["output_0"].dtype == np.float32


def test_a_job_runs_files_in_turns(native, path):
    runs = run_job([path, path], INPUTS, rounds=4)
    for run in runs:
        assert run.seconds.shape == (4, 3)
        assert (run.seconds > 0).all()
        np.testing.assert_allclose(run.outputs["output_0"], OUTPUTS)


def test_the_error_is_a_share_of_the_outputs_scale(native, path):
    # 1.0 of a scale of 4.
    expected = {"output_0": np.array(OUTPUTS) + [[0, 0, 0], [0, 0, 0], [0, 1, 0]]}
    assert check_sparse_mode(path, INPUTS, expected, 0.3) == pytest.approx(0.25)
    with pytest.raises(RuntimeError, match=r"mode \(native\) the outputs are off by 0.25 of their"):
        check_sparse_mode(path, INPUTS, expected, 0.2)
    with pytest.raises(RuntimeError, match="off by nan"):
        check_sparse_mode(path, INPUTS, {"output_0": np.full((3, 3), np.nan)}, 1e9)
    with pytest.raises(RuntimeError, match=r"are \['output_0'\], not \['other'\]"):
        check_sparse_mode(path, INPUTS, {"other": np.array(OUTPUTS)}, 1)


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        ({"other": np.ones((1, 2))}, {}, "must have the names pair. Received: other"),
        ({"pair": np.ones((1, 3))}, {}, r"'pair' must be \(samples, 2\). Received: shape \(1, 3\)"),
        ({"pair": np.ones((0, 2))}, {}, "at least one sample for every input. Received"),
        ({"pair": np.float32(1)}, {}, "at least one sample for every input. Received"),
        ({}, {}, "at least one sample for every input. Received"),
        (INPUTS, {"signature": "other"}, "must be one of serving_default. Received: other"),
        (INPUTS, {"runtime": "phone"}, "`runtime` must be one of the installed .*'phone'"),
    ],
)
def test_what_does_not_fit_is_refused(native, path, inputs, options, message):
    with pytest.raises(ValueError, match=message):
        run_sparse_mode(path, inputs, **options)


def test_bad_files_are_refused(native, tmp_path):
    with pytest.raises(ValueError, match="`path` must be a .tflite file"):
        run_sparse_mode(tmp_path / "missing.tflite", INPUTS)
    (tmp_path / "text.tflite").write_text("text")
    with pytest.raises(RuntimeError, match="cannot run the file: "):
        run_sparse_mode(tmp_path / "text.tflite", INPUTS)


def test_a_runtime_that_dies_is_reported_with_its_last_words(path, tmp_path, monkeypatch):
    script = "import sys; print('stack\\nlast words', file=sys.stderr); sys.exit(3)"
    use_kit(tmp_path, monkeypatch, native=["{python}", "-c", script])
    with pytest.raises(RuntimeError, match="ended with code 3: last words$"):
        run_sparse_mode(path, INPUTS)


def net(size=32, width=16, depthwise_padding="valid", keepdims=False):
    """A net that qualifies for sparse kernels, but for what the arguments spoil."""
    image = keras.Input((size, size, 3), name="image")
    x = layers.ZeroPadding2D(1)(image)
    x = layers.Conv2D(width, 3, strides=2, activation="relu")(x)
    x = layers.Conv2D(2 * width, 1, activation="relu")(x)
    if depthwise_padding == "valid":
        x = layers.ZeroPadding2D(1)(x)
    x = layers.DepthwiseConv2D(3, strides=2, padding=depthwise_padding, activation="relu")(x)
    x = layers.Conv2D(4 * width, 1, activation="relu")(x)
    x = layers.GlobalAveragePooling2D(keepdims=keepdims)(x)
    x = layers.Conv2D(10, 1)(x) if keepdims else layers.Dense(10)(x)
    dense = ("first", "last", ".*depthwise.*")
    return spfde_keras.sparsify(keras.Model(image, x), sparsity=0.9, dense=dense)


@pytest.fixture(scope="module")
def images():
    return {"image": np.random.default_rng(0).uniform(size=(2, 32, 32, 3))}


@pytest.fixture(scope="module")
def nets(folder):
    """A net that runs sparse rightly, and the two that are known to go wrong on phones."""
    spoiled = {"right": {}, "same": {"depthwise_padding": "same"}, "keepdims": {"keepdims": True}}
    for name, how in spoiled.items():
        keras.utils.set_random_seed(0)  # by some weights the hazards hardly show
        models = {"serving_default": spfde_keras.densify(net(**how))}
        # `export_tflite` refuses the last two.
        content = convert_models(models, "float32", True, {"image": np.ones((1, 32, 32, 3), "f")})
        (folder / f"{name}.tflite").write_bytes(content)
    return {name: folder / f"{name}.tflite" for name in spoiled}


@pytest.mark.mobile_kit
def test_only_sparse_mode_shows_the_hazards(nets, images, runtime):
    # What this machine's dense kernels give.
    expected = {name: {"output_0": run_tflite(file, images)} for name, file in nets.items()}
    assert check_sparse_mode(nets["right"], images, expected["right"], 1e-5, None, runtime) < 1e-5
    with pytest.raises(RuntimeError, match=f"mode .{runtime}. the outputs are off by [0-9.]+ of"):
        check_sparse_mode(nets["same"], images, expected["same"], 0.5, None, runtime)
    with pytest.raises(RuntimeError, match="off by|XNNPack delegate failed to reshape"):
        check_sparse_mode(nets["keepdims"], images, expected["keepdims"], 0.5, None, runtime)


@pytest.mark.mobile_kit
@pytest.mark.parametrize("runtime", ["wasm"], indirect=True)
def test_a_sparse_file_is_faster_than_its_dense_twin(folder, runtime):
    model = net(size=64, width=64)
    files = [folder / "dense_twin.tflite", folder / "sparse_twin.tflite"]
    for file in files:
        export_tflite(model, file, sparse=file == files[1])
    dense, sparse = run_job(files, {"image": np.ones((1, 64, 64, 3))}, 25, runtime=runtime)
    # Measured: 0.35 of the time.
    assert np.median(sparse.seconds / dense.seconds) < 0.8


@pytest.mark.mobile_kit
@pytest.mark.parametrize("runtime", ["wasm"], indirect=True)
def test_webassembly_refuses_what_does_not_fit(path, tmp_path, runtime):
    for inputs, options, message in [
        ({"other": np.ones((1, 2))}, {}, "must have the names pair. Received: other"),
        ({"pair": np.ones((1, 3))}, {}, r"'pair' must be \(samples, 2\). Received: shape \(1, 3\)"),
        (INPUTS, {"signature": "other"}, "must be one of serving_default. Received: other"),
    ]:
        with pytest.raises(ValueError, match=message):
            run_sparse_mode(path, inputs, runtime=runtime, **options)
    (tmp_path / "text.tflite").write_text("text")
    with pytest.raises(RuntimeError, match="sparse-mode runtime"):
        run_sparse_mode(tmp_path / "text.tflite", INPUTS, runtime=runtime)


def check_signatures(folder):
    model = keras.Sequential([layers.Input((8,), name="x"), layers.Dense(6), layers.Dense(4)])
    model = spfde_keras.sparsify(model, [0.25, 0.75], dense=(), initial="random")
    export_tflite(model, folder / "subnets.tflite", sparse=False)
    inputs = {"x": np.random.default_rng(0).normal(size=(3, 8))}
    found = []
    for index, name in enumerate(model.subnets):
        found.append(run_sparse_mode(folder / "subnets.tflite", inputs, name)["output_0"])
        with model.at(index):
            np.testing.assert_allclose(found[-1], model(inputs["x"]), atol=1e-5)
    assert not np.allclose(*found)
    with pytest.raises(ValueError, match="`signature` must be one of subnet_.* Received"):
        run_sparse_mode(folder / "subnets.tflite", inputs)


def test_every_signature_gives_its_own_outputs(native, folder):
    check_signatures(folder)


@pytest.mark.mobile_kit
@pytest.mark.parametrize("runtime", ["wasm"], indirect=True)
def test_every_signature_gives_its_own_outputs_in_webassembly(folder, runtime):
    assert available_runtimes()[0] == runtime
    check_signatures(folder)
