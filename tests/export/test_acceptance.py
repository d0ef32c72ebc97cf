"""Files with sparse weights: refused where phones would run them wrong, run in sparse mode else."""

import keras
import numpy as np
import pytest
from keras import layers

from spfde_keras import export_tflite, sparsify
from spfde_keras.export import acceptance, available_runtimes, exporter, inspect_tflite, run_tflite
from spfde_keras.export.sparse_mode import check_sparse_mode
from spfde_keras.export.verification import reference
from spfde_keras.sparsify import densify
from tests.export import sparse_nets
from tests.export.sparse_nets import NETS, RULE_NETS

HAZARDS = [
    name
    for name, net in RULE_NETS.items()
    if net.hazard and net.encoded and net.precision.startswith("float")
]
MISWRITTEN = ("sparse_blocks", "sparse_reader")
# A SAME-padded depthwise convolution with strides, and 1x1 convolutions after the pooling.
REPAIRED = ("depthwise_same", "pooled_head")


@pytest.fixture
def path(tmp_path):
    (tmp_path / "model.tflite").write_bytes(b"older")
    return tmp_path / "model.tflite"


def is_untouched(path):
    return [f.name for f in path.parent.iterdir()] == [path.name] and path.read_bytes() == b"older"


@pytest.fixture
def convert_once(written, monkeypatch):
    """Makes `export_tflite` take a net's sparse file from where it has been written already."""

    def take(name):
        real = exporter.convert_models

        def convert_models(models, precision, sparse, samples):
            if sparse:
                return written(name)[0].read_bytes()
            return real(models, precision, sparse, samples)

        monkeypatch.setattr(exporter, "convert_models", convert_models)
        return next(iter(written(name)[1].values()))

    return take


@pytest.mark.usefixtures("no_kit")
@pytest.mark.parametrize("name", HAZARDS)
def test_every_hazard_is_refused(path, convert_once, written, name):
    model = convert_once(name)
    with pytest.raises(RuntimeError, match="wrong results, or not load. No file") as refused:
        export_tflite(model, path, NETS[name].precision, sparse=True)
    message = str(refused.value)
    hazards = [p for p in inspect_tflite(written(name)[0]).problems if p.hazard]
    assert hazards and f" {hazards[0].operator} ({hazards[0].layer}" in message
    assert all(f": {p.why}. Fix: {p.fix}." in message for p in hazards)
    assert message.splitlines()[0].endswith("or use sparse=False.")
    assert all(line.startswith("- ") for line in message.splitlines()[1:])
    assert ("mobile=True, which rewrites" in message) == (name not in MISWRITTEN)
    assert is_untouched(path)


@pytest.mark.usefixtures("no_kit")
@pytest.mark.parametrize("name", MISWRITTEN)
def test_what_the_converter_writes_wrong_is_stored_dense_by_default(path, convert_once, name):
    report = export_tflite(convert_once(name), path, NETS[name].precision)
    assert not report.sparse and not report.runs_sparse and report.sparse_mode is None
    (weights,) = inspect_tflite(path).graphs[0].weights
    assert weights.stored == "dense" and f"stored dense: {report.obstacle}" in str(report)


@pytest.mark.mobile_kit
@pytest.mark.parametrize("name", REPAIRED)
def test_hazards_are_written_repaired_on_demand(path, written, name):
    if not available_runtimes():
        pytest.skip("no sparse-mode runtime is installed: make mobile-kit")
    model = written(name)[1]["serving_default"]
    report = export_tflite(model, path, mobile=True)
    assert report.sparse and report.runs_sparse and not report.obstacle
    assert report.sparse_mode == available_runtimes()[0]
    assert 0 < report.sparse_mode_error <= report.tolerance
    assert inspect_tflite(path).sparse_on_arm64
    lines = str(report).splitlines()
    assert 0 < report.flops_share < 1
    assert lines[1:] == [
        f"runs sparse on phones (ARM64, ARM, WebAssembly): {report.flops_share:.1%} of dense FLOPs",
        f"run in sparse mode ({report.sparse_mode}): largest error {report.sparse_mode_error:.1e}",
    ]
    x = sparse_nets.inputs({"serving_default": model})
    assert check_sparse_mode(path, x, reference(model, x), 1e-4) < 1e-5


@pytest.mark.usefixtures("no_kit")
def test_subnets_are_rewritten_each(path):
    image = layers.Input((16, 16, 3))
    x = layers.Conv2D(16, 3, 2, "same", use_bias=False)(image)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(32, 1)(x)))
    x = layers.GlobalAveragePooling2D(keepdims=True)(x)
    plain = keras.Model(image, layers.Flatten()(layers.Conv2D(10, 1, name="logits")(x)))
    model = sparsify(plain, sparsity=[0.8, 0.9], dense=("first", "last"), initial="random")
    report = export_tflite(model, path, "float16", mobile=True)
    assert report.signatures == tuple(model.subnets) and report.runs_sparse
    assert [graph.sparse_on_arm64 for graph in inspect_tflite(path).graphs] == [True, True]
    assert str(report).splitlines()[-1] == (
        "not run in sparse mode: that needs the mobile kit (in the repository, `make mobile-kit`)"
    )
    x = np.random.default_rng(0).random((3, 16, 16, 3), dtype="float32")
    for index, name in enumerate(model.subnets):
        expected = densify(model, subnet=index)(x)
        np.testing.assert_allclose(run_tflite(path, x, name), expected, atol=1e-2)


@pytest.mark.usefixtures("no_kit")
def test_what_cannot_run_sparse_is_refused_on_demand(path, written):
    model = written("resnet")[1]["serving_default"]
    with pytest.raises(RuntimeError, match="without changing what it computes. No file") as refused:
        export_tflite(model, path, mobile=True)
    first, *lines = str(refused.value).splitlines()
    assert lines[0].startswith("- 1 CONV_2D (conv2d") and "first convolution without" in lines[0]
    assert lines[1].startswith("- 4 CONV_2D (conv2d") and "larger than 1x1" in lines[1]
    assert len(lines) == 2 and "Fix: use a depthwise and a 1x1 convolution." in lines[1]
    assert is_untouched(path)


@pytest.mark.usefixtures("no_kit")
def test_the_report_says_why_a_file_does_not_run_sparse(path, convert_once):
    report = export_tflite(convert_once("too_dense"), path)
    assert report.sparse and not report.runs_sparse
    assert report.obstacle.startswith("1 CONV_2D (conv2d") and "2/3" in report.obstacle
    line = str(report).splitlines()[1]
    assert line.startswith("does not run sparse on phones") and report.obstacle in line


@pytest.mark.usefixtures("no_kit")
@pytest.mark.parametrize("sparse", [None, False])
def test_a_file_without_sparse_weights_is_reported_in_one_line(path, sparse):
    model = keras.Sequential([layers.Input((8,)), layers.Dense(4)])
    report = export_tflite(model, path, sparse=sparse)
    assert not report.sparse and "\n" not in str(report)


def test_every_signature_is_run_before_a_file_gets_its_name(path, monkeypatch):
    image = layers.Input((8,), name="x")
    model = sparsify(
        keras.Model(image, layers.Dense(32)(image)), [0.6, 0.9], dense=(), initial="random"
    )
    seen = []

    def check(file, inputs, expected, tolerance, signature, runtime):
        assert path.read_bytes() == b"older" and file != path
        seen.append((signature, runtime, tolerance, expected["output_0"]))
        if len(seen) == fails_at:
            raise RuntimeError("in sparse mode (wasm) the outputs are off by 1")
        return 1e-7 * len(seen)

    monkeypatch.setattr(acceptance, "available_runtimes", lambda: ["wasm", "arm64"])
    monkeypatch.setattr(acceptance, "check_sparse_mode", check)
    fails_at = 2
    with pytest.raises(RuntimeError, match="in sparse mode .wasm. .* Use sparse=False instead"):
        export_tflite(model, path, tolerance=0.01)
    assert is_untouched(path)
    seen, fails_at = [], None
    report = export_tflite(model, path, tolerance=0.01)
    assert [call[:3] for call in seen] == [(name, "wasm", 0.01) for name in model.subnets]
    assert not np.allclose(seen[0][3], seen[1][3])
    assert (report.sparse_mode, report.sparse_mode_error) == ("wasm", pytest.approx(2e-7))


def test_the_report_tells_target_and_dense_size(tmp_path):
    net = keras.Sequential(
        [keras.Input((64,)), keras.layers.Dense(64), keras.layers.Dense(64), keras.layers.Dense(2)]
    )
    model = sparsify(net, 0.9)
    report = export_tflite(model, tmp_path / "sparse.tflite")
    dense = export_tflite(model, tmp_path / "dense.tflite", sparse=False)
    assert report.at_target and report.target_sparsity == pytest.approx((0.9,))
    assert dense.dense_bytes is None
    assert report.dense_bytes == pytest.approx(dense.bytes, rel=0.05) and report.sparse
    assert f"stored dense {report.dense_bytes:,}" in str(report)
    with pytest.warns(UserWarning, match="keeps more weights than its target of 90.0% zeros"):
        early = export_tflite(sparsify(net, 0.9, initial="dense"), tmp_path / "early.tflite")
    assert not early.at_target
    assert "NOT AT ITS TARGET of 90.0%: train to the end" in str(early).splitlines()
