"""What the inspector says of files, and that runs in sparse mode say the same."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from spfde_keras.export import PRECISIONS, export_tflite, inspect_tflite
from spfde_keras.export.inspection.rules import RULES
from spfde_keras.export.sparse_mode import available_runtimes, run_job
from spfde_keras.export.verification import reference
from tests.export import sparse_nets
from tests.export.sparse_nets import NETS, RULE_NETS


def test_every_rule_has_a_file_and_a_source():
    assert [rule.name for rule in RULES] == list(RULE_NETS)
    assert all(rule.source and rule.why and rule.fix for rule in RULES)
    assert all(name in net.rules for name, net in RULE_NETS.items())


@pytest.mark.parametrize("name", NETS)
def test_verdict(written, name):
    net, report = NETS[name], inspect_tflite(written(name)[0])
    assert {problem.rule for problem in report.problems} == set(net.rules)
    assert report.sparse_on_arm64 == net.sparse
    assert report.safe_on_arm64 != net.hazard
    assert any(problem.hazard for problem in report.problems) == net.hazard


@pytest.mark.mobile_kit
@pytest.mark.parametrize("name", NETS)
def test_sparse_mode_agrees(written, name, tmp_path):
    runtimes = available_runtimes()
    if not runtimes:
        pytest.skip("no sparse-mode runtime is installed: make mobile-kit")
    net, (path, models) = NETS[name], written(name)
    report, twin = inspect_tflite(path), tmp_path / "twin.tflite"
    sparse_nets.write(net, models, twin, encoded=False)
    samples = sparse_nets.inputs(models)
    graphs = {graph.name: graph for graph in report.graphs}
    assert graphs.keys() == models.keys()
    for signature, graph in graphs.items():
        expected = reference(models[signature], samples)
        try:
            runs = run_job([path, twin], samples, signature=signature, runtime=runtimes[0])
        except RuntimeError:
            assert not graph.safe_on_arm64
            continue
        found, dense = (run.outputs for run in runs)
        errors = [np.abs(found[k] - expected[k]).max() / np.abs(expected[k]).max() for k in found]
        assert (max(errors) <= PRECISIONS[net.precision].tolerance) == graph.safe_on_arm64
        if any(weights.stored == "sparse 1x4" for weights in graph.weights):
            continue  # LiteRT itself multiplies them, not XNNPACK, and adds up in another order
        # XNNPACK's dense kernels give a file and its dense twin the same bits; its sparse kernels
        # add up in another order.
        same = all(np.array_equal(found[k], dense[k], equal_nan=True) for k in found)
        assert (not same and graph.safe_on_arm64) == graph.sparse_on_arm64


@pytest.mark.parametrize(
    ("name", "operator", "layer", "fix"),
    [
        ("depthwise_same", "DEPTHWISE_CONV_2D", "depthwise_conv2d_1", "ZeroPadding2D"),
        ("pooled_head", "CONV_2D", "conv2d_3", "without keepdims"),
        ("too_dense", "CONV_2D", "conv2d_1", "sparsity above 0.67"),
        ("sparse_int8", "CONV_2D", "conv2d", "sparse=False"),
        ("no_stem", "DEPTHWISE_CONV_2D", "depthwise_conv2d", "strides=2"),
    ],
)
def test_problems_name_operator_place_and_remedy(written, name, operator, layer, fix):
    path, _ = written(name)
    problem = inspect_tflite(path).problems[0]
    assert problem.operator == operator
    assert layer in problem.place and "serving_default" in problem.place
    assert fix in problem.fix and problem.why in str(inspect_tflite(path))


@pytest.mark.parametrize("model_name", ["net", "net_1"])
@pytest.mark.parametrize("ours", [True, False])
def test_layers_are_named_as_in_the_model(tmp_path, model_name, ours):
    names = ["conv2d", "conv2d_1", "conv2d_2", "conv2d_1_2", "out"]
    convolutions = [layers.Conv2D(4, 1, activation="relu", name=name) for name in names]
    model = keras.Sequential([keras.Input((4, 4, 4)), *convolutions], name=model_name)
    if ours:
        export_tflite(model, tmp_path / "m.tflite", sparse=False)
    else:
        content = tf.lite.TFLiteConverter.from_keras_model(model).convert()
        (tmp_path / "m.tflite").write_bytes(content)
    found = inspect_tflite(tmp_path / "m.tflite").graphs[0].weights
    assert [weights.layer for weights in found] == names


@pytest.mark.parametrize("int8", [False, True])
def test_a_file_of_the_plain_converter_is_read_beyond_what_runs_together(tmp_path, int8):
    # It leaves the batch open, and LiteRT itself computes the sizes that Flatten needs.
    net = [layers.Conv2D(8, 3, strides=2), layers.Flatten(), layers.Dense(10)]
    converter = tf.lite.TFLiteConverter.from_keras_model(
        keras.Sequential([keras.Input((9, 9, 1)), *net])
    )
    if int8:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: [[np.ones((1, 9, 9, 1), "float32")]]
    (tmp_path / "m.tflite").write_bytes(converter.convert())
    found = {(p.operator, p.rule) for p in inspect_tflite(tmp_path / "m.tflite").problems}
    expected = [("CONV_2D", rule) for rule in ("stem_padding", "stem_channels", "stored_dense")]
    if int8:
        expected += [("CONV_2D", "not_float"), ("FULLY_CONNECTED", "not_float")]
    assert found == {*expected, ("RESHAPE", "flatten")}


def test_flatten_is_named_where_only_dense_layers_are_sparse(written):
    report = inspect_tflite(written("dense layers after convolutions")[0])
    problems = report.problems
    flatten, dense, _ = (p for p in problems if p.rule in ("flatten", "dense_layer"))
    assert flatten.layer == "flatten" and "GlobalAveragePooling2D" in flatten.fix
    assert dense.layer == "blocks" and "sparsify 1x1 convolutions" in dense.fix


def test_numbers_of_a_hand_counted_file(tmp_path):
    # 6x4 image -> 1x1 convolution of 2 to 4 channels, with 3 of its 8 weights, and a bias.
    model = keras.Sequential([keras.Input((6, 4, 2)), keras.layers.Conv2D(4, 1, name="mix")])
    model.layers[0].kernel.assign(np.reshape([1, 0, 0, 0, 0, 2, 0, 3], (1, 1, 2, 4)))
    model.layers[0].bias.assign([1, 2, 3, 4])
    export_tflite(model, tmp_path / "dense.tflite", sparse=False)
    report = inspect_tflite(tmp_path / "dense.tflite")

    (graph,) = report.graphs
    (weights,) = graph.weights
    assert weights.shape == (4, 1, 1, 2) and weights.stored == "dense"
    assert weights.sparsity == 5 / 8 and weights.bytes == 8 * 4
    assert graph.flops_dense == graph.flops_sparse == 2 * 6 * 4 * 8
    parts = report.bytes_by_part
    assert parts["weights"] == 32 and parts["positions"] == 0 and parts["constants"] == 16
    assert sum(parts.values()) == report.bytes == (tmp_path / "dense.tflite").stat().st_size


def test_flops_leave_out_zeros_where_they_are_skipped(written):
    graph = inspect_tflite(written("qualifying")[0]).graphs[0]
    weights = {shape: w for w in graph.weights if (shape := w.shape)}
    first, second = weights[32, 1, 1, 16], weights[48, 1, 1, 32]
    assert {first.stored, second.stored, weights[10, 48].stored} == {"sparse"}
    skipped = 2 * (8 * 8 * 512 * first.sparsity + 4 * 4 * 1536 * second.sparsity)
    assert graph.flops_dense - graph.flops_sparse == round(skipped)
    # Stem, two depthwise convolutions, two 1x1 convolutions, the dense layer.
    macs = 8 * 8 * (27 * 16 + 9 * 16 + 512) + 4 * 4 * (9 * 32 + 1536) + 480
    assert graph.flops_dense == 2 * macs

    kept = inspect_tflite(written("too_dense")[0]).graphs[0]
    assert kept.flops_sparse == kept.flops_dense == graph.flops_dense


def test_storage_of_weights(written):
    def stored(name):
        weights = inspect_tflite(written(name)[0]).graphs[0].weights
        return {(w.type, w.stored) for w in weights}

    assert stored("qualifying float16") == {("FLOAT16", "dense"), ("FLOAT16", "sparse")}
    assert stored("not_float") == {("INT8", "dense")}
    assert stored("dense_layer") == {("FLOAT32", "sparse 1x4")}


def test_each_signature_is_reported(written):
    path, models = written("two signatures")
    report = inspect_tflite(path)
    assert {graph.name for graph in report.graphs} == models.keys()
    assert all(name in str(report) for name in models)


def test_json_holds_what_is_promised(written):
    path, _ = written("depthwise_same")
    report = json.loads(json.dumps(inspect_tflite(path).to_json()))
    assert report["sparse_on_arm64"] is False and report["safe_on_arm64"] is False
    assert report["problems"][0].keys() >= {"operator", "place", "why", "fix"}
    assert report["problems"] == report["graphs"][0]["problems"]
    assert report["bytes"] == path.stat().st_size


def test_flops_of_a_dense_layer_are_those_of_the_blocks_that_are_stored(tmp_path):
    """Of one weight in each block, the other three are multiplied, too."""
    model = keras.Sequential([keras.Input((256,)), layers.Dense(256, use_bias=False)])
    kernel = np.zeros((256, 256), "float32")
    kernel[::32] = 1
    model.layers[0].kernel.assign(kernel)
    export_tflite(model, tmp_path / "sparse.tflite")
    (graph,) = inspect_tflite(tmp_path / "sparse.tflite").graphs
    (weights,) = graph.weights
    assert weights.stored == "sparse 1x4" and weights.sparsity == 31 / 32
    assert graph.flops_dense == 2 * 256 * 256
    assert graph.flops_sparse == 2 * 4 * 8 * 256
