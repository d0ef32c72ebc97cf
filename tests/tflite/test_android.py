"""The C++ runner gives what LiteRT's Python interpreter gives."""

import pathlib
import re
import shutil
import subprocess

import ai_edge_litert
import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers

from apps import models
from spfde_keras import export_tflite, sparsify
from spfde_keras.export.sparse_mode import kit_folder

SOURCE = pathlib.Path(__file__).parents[2] / "tflite" / "android"
LIBRARY = pathlib.Path(ai_edge_litert.__file__).with_name("libLiteRt.so")


def build(folder, library, *flags):
    """Builds the runner, without warnings, and returns its path."""
    configure = ["cmake", "-S", SOURCE, "-B", folder, f"-DLITERT_LIBRARY={library}", *flags]
    for command in configure, ["cmake", "--build", folder]:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0 and "warning" not in done.stderr, done.stdout + done.stderr
    return folder / "litert_runner"


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    for tool in "cmake", "g++":
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    return build(tmp_path_factory.mktemp("runner"), LIBRARY)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def mobilenet(files):
    """Two sub-nets of a network that XNNPACK runs sparse on ARM64."""
    net = models.build("mobilenet_sparse", (16, 16, 3), 10, width=0.25)
    model = sparsify(net, [0.9, 0.95], initial="random")
    random = np.random.default_rng(0)
    for weight in model.weights:
        # Without these a sparse net's signal dies out on its way: its logits would be all 0.
        if weight.name == "beta":
            weight.assign(random.normal(size=weight.shape))
    path = files / "mobilenet.tflite"
    assert export_tflite(model, path).signatures == ("subnet_90", "subnet_95")
    return path


@pytest.fixture(scope="module")
def doubling(files):
    x = keras.Input((4,), name="x")
    return write(keras.Model(x, layers.Rescaling(2.0)(x)), files / "doubling.tflite")


@pytest.fixture(scope="module")
def two_inputs(files):
    ids = keras.Input((2,), dtype="int32", name="ids")
    x = keras.Input((2,), name="x")
    product = layers.Multiply()([layers.Rescaling(1.0)(ids), x])
    return write(keras.Model([ids, x], product), files / "two_inputs.tflite")


def write(model, path):
    export_tflite(model, path, sparse=False)
    return path


def run(*command):
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)


def outputs(*command):
    """What the runner prints below `output ...`, as {index: value} in its order."""
    done = run(*command)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("output "))
    pairs = [line.split(":") for line in lines[start + 1 :]]
    return {int(index): np.float32(value) for index, value in pairs}


def error(*command):
    """The one line by which the runner refuses."""
    done = run(*command)
    assert done.returncode == 1 and not done.stdout
    (line,) = done.stderr.splitlines()
    return line


def interpreted(path, signature, **inputs):
    run = Interpreter(str(path)).get_signature_runner(signature)
    (output,) = run(**inputs).values()
    return output.ravel()


def check_subnets(path, folder, *command):
    x = np.random.default_rng(1).random((1, 16, 16, 3), dtype="float32")
    x.tofile(folder / "x")
    results = []
    for signature in "subnet_90", "subnet_95":
        expected = interpreted(path, signature, image=x)
        arguments = [path, f"--signature={signature}", f"--input={folder / 'x'}", "--top=10"]
        got = outputs(*command, *arguments, "--warmup=0", "--runs=1")
        assert list(got) == sorted(got, key=got.get, reverse=True)
        results.append([got[i] for i in range(10)])
        np.testing.assert_allclose(results[-1], expected, rtol=0, atol=1e-4 * np.ptp(expected))
    assert np.ptp(results[0]) > 0.1 and not np.allclose(*results, rtol=0.1)


def test_equals_python(runner, mobilenet, tmp_path):
    check_subnets(mobilenet, tmp_path, runner)


@pytest.fixture
def emulated(tmp_path):
    """The command that runs the runner as an ARM64 processor would."""
    kit = kit_folder()
    emulator, system = kit / "qemu" / "qemu-aarch64", kit / "arm64" / "system"
    library = kit / "arm64" / "wheels" / "ai_edge_litert" / "libLiteRt.so"
    compiler = shutil.which("aarch64-linux-gnu-g++")
    if not (emulator.exists() and library.exists()):
        pytest.skip("the mobile kit's arm64 is not installed: make mobile-kit")
    if compiler is None or shutil.which("cmake") is None:
        pytest.skip("g++-aarch64-linux-gnu or cmake is not installed")
    target = ["-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64"]
    runner = build(tmp_path / "build", library, *target, f"-DCMAKE_CXX_COMPILER={compiler}")
    return [emulator, "-cpu", "cortex-a76", "-L", system, runner]


@pytest.mark.mobile_kit
def test_equals_python_on_aarch64(emulated, mobilenet, tmp_path):
    check_subnets(mobilenet, tmp_path, *emulated)


def test_list(runner, mobilenet, two_inputs):
    listed = run(runner, mobilenet, "--list")
    tensors = "  input image: float32 [1, 16, 16, 3]\n  output output_0: float32 [1, 10]\n"
    assert listed.stdout == f"signature subnet_90\n{tensors}signature subnet_95\n{tensors}"
    assert run(runner, two_inputs, "--list").stdout == (
        "signature serving_default\n"
        "  input ids: int32 [1, 2]\n"
        "  input x: float32 [1, 2]\n"
        "  output output_0: float32 [1, 2]\n"
    )


def test_times(runner, doubling):
    lines = run(runner, doubling, "--runs=7", "--warmup=0").stdout.splitlines()
    assert lines[0] == "signature serving_default"
    assert lines[1].startswith("loading: ") and lines[1].endswith(" ms")
    number = r"(\d+\.\d{3})"
    running = re.fullmatch(rf"running: {number} ms \(median of 7; {number} to {number}\)", lines[2])
    median, fastest, slowest = map(float, running.groups())
    assert 0 <= fastest <= median <= slowest


def test_top(runner, doubling, tmp_path):
    np.array([1, np.nan, -3, 5], "float32").tofile(tmp_path / "x")
    got = outputs(runner, doubling, f"--input={tmp_path / 'x'}", "--top=3")
    assert list(got) == [1, 3, 0]
    assert np.isnan(got[1]) and got[3] == 10 and got[0] == 2


def test_random_and_zeros(runner, doubling):
    # std::mt19937, which the C++ standard defines by its numbers.
    words = np.random.RandomState(0).randint(0, 2**32, 4, dtype=np.uint32)
    expected = dict(enumerate(2 * (words >> 8) / 2**24))
    assert outputs(runner, doubling) == outputs(runner, doubling, "--input=random") == expected
    assert outputs(runner, doubling, "--input=zeros") == dict.fromkeys(range(4), 0)


def test_inputs_in_order(runner, two_inputs, tmp_path):
    np.array([3, -4], "int32").tofile(tmp_path / "ids")
    np.array([0.5, 0.25], "float32").tofile(tmp_path / "x")
    given = [f"--input={tmp_path / name}" for name in ("ids", "x")]
    assert outputs(runner, two_inputs, *given) == {0: 1.5, 1: -1}
    assert outputs(runner, two_inputs, given[0], "--input=zeros") == {0: 0, 1: 0}


def test_input_errors(runner, two_inputs, doubling, tmp_path):
    (tmp_path / "x").write_bytes(b"12345")
    assert error(runner, doubling, f"--input={tmp_path / 'x'}") == (
        f"error: {tmp_path / 'x'} must have 16 bytes for x: float32 [1, 4]. Received: 5"
    )
    assert "cannot be read: No such file" in error(runner, doubling, f"--input={tmp_path / 'no'}")
    assert "cannot be read: Is a directory" in error(runner, doubling, f"--input={tmp_path}")
    assert "for all 2 inputs or for none. Received: 1" in error(runner, two_inputs, "--input=zeros")
    assert "not float32: ids: int32 [1, 2]" in error(runner, two_inputs)


@pytest.mark.parametrize(
    ("flags", "rule"),
    [
        (["--runs=0"], "--runs must be an integer of at least 1. Received: 0"),
        (["--runs=3x"], "--runs must be an integer of at least 1. Received: 3x"),
        (["--warmup=-1"], "--warmup must be an integer of at least 0. Received: -1"),
        (["--top="], "--top must be an integer of at least 1. Received: "),
        (["--threads=2"], "--threads=2 is not a flag; see --help"),
        (["--input"], "--input must have a value, as in --input=..."),
        (["other.tflite"], "one .tflite file must be given. Received: "),
        (["--train=day", "--signature=train_2"], "--signature must be left out with --train, "),
        (["--epochs=5"], "--epochs must be left out without --train"),
        (["--save=no/such"], "no/such cannot be written: No such file"),
    ],
)
def test_flag_errors(runner, doubling, flags, rule):
    assert error(runner, doubling, *flags).startswith(f"error: {rule}")


def test_signature_errors(runner, mobilenet):
    rule = "error: --signature must be one of: subnet_90, subnet_95. Received: "
    assert error(runner, mobilenet) == rule + "none"
    assert error(runner, mobilenet, "--signature=subnet_9") == rule + "subnet_9"


def test_bad_files(runner, doubling, tmp_path):
    bad = tmp_path / "bad.tflite"
    assert error(runner) == "error: one .tflite file must be given; see --help"
    assert error(runner, bad) == f"error: {bad} cannot be read: No such file or directory"
    content = doubling.read_bytes()
    for head in b"", content[:7], b"PK\3\4" + bytes(100):
        bad.write_bytes(head)
        assert error(runner, bad) == f"error: {bad} is not a .tflite file"
    for length in 8, 20, len(content) // 2:
        bad.write_bytes(content[:length])
        done = run(runner, bad)
        assert done.returncode == 1 and not done.stdout
        assert done.stderr.splitlines()[-1].startswith(f"error: {bad} is damaged")


def test_help(runner):
    done = run(runner, "--help")
    assert done.returncode == 0 and not done.stderr
    readme = (SOURCE / "README.md").read_text()
    assert done.stdout.strip() in readme


def test_library_must_exist(tmp_path):
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed")
    done = run("cmake", "-S", SOURCE, "-B", tmp_path, "-DLITERT_LIBRARY=nowhere.so")
    assert done.returncode != 0
    message = " ".join(done.stderr.split())
    assert re.search(r"must be the path of a libLiteRt\.so\. Received: \S*nowhere\.so$", message)
