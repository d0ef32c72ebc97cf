"""The inspector's report, line by line."""

import dataclasses

import pytest

from spfde_keras.export.inspection.printing import layer_of
from spfde_keras.export.inspection.report import (
    GraphReport,
    InspectReport,
    Problem,
    WeightReport,
)

WEIGHTS = (
    WeightReport("a", (8, 1, 1, 4), "FLOAT32", "sparse", 0.75, 100, "first", "CONV_2D"),
    WeightReport("b", (2, 16), "FLOAT16", "dense", 0.25, 64, "head", "FULLY_CONNECTED"),
)


def problem(rule, layer, hazard=False, operator="CONV_2D"):
    return Problem(operator, "", f"it is {rule}", f"mend {rule}", hazard, rule, layer)


def report(*problems, sparse=False, weights=WEIGHTS):
    safe = not any(one.hazard for one in problems)
    inputs = (("x", (1, 4, 4, 4)),)
    graph = GraphReport("serving_default", sparse, safe, problems, weights, 200, 50, inputs)
    return InspectReport("m.tflite", 1000, {"weights": 164, "structure": 836}, (graph,))


def test_a_verdict_then_a_table_with_headings():
    assert str(report(sparse=True)).splitlines() == [
        "m.tflite: runs sparse on phones (ARM64, ARM, WebAssembly)",
        "1,000 bytes (weights 164, structure 836)",
        "",
        "serving_default (inputs: x 1x4x4x4): 50.0% of its kernels' weights are zero, "
        "FLOPs 200 dense, 50 on ARM64 (0.25)",
        "  layer  operator         shape    type     stored  zeros  bytes",
        "  first  CONV_2D          8x1x1x4  FLOAT32  sparse  75.0%  100",
        "  head   FULLY_CONNECTED  2x16     FLOAT16  dense   25.0%  64",
    ]


def test_every_kind_of_operator_in_the_way_is_one_entry_with_its_layers():
    many = [problem("odd", f"conv{index}") for index in range(6)]
    lines = str(report(*many, problem("new", "pool", operator="RESHAPE"))).splitlines()
    assert lines[0].endswith(", for 2 reasons")
    assert lines[-4:] == [
        "  in the way: 6 CONV_2D (conv0, conv1, conv2, conv3, ...): it is odd.",
        "    Fix: mend odd.",
        "  in the way: 1 RESHAPE (pool): it is new.",
        "    Fix: mend new.",
    ]


def test_what_a_rewrite_mends_is_marked_and_said_once():
    mended = [
        dataclasses.replace(problem(rule, "a", hazard=hazard), rewritten=True)
        for rule, hazard in (("odd", False), ("bad", True))
    ]
    lines = str(report(*mended, problem("new", "b"))).splitlines()
    assert [line.split(":")[0].strip() for line in lines[-7:]] == [
        *("ERROR", "Fix*", "in the way", "Fix*", "in the way", "Fix"),
        "* By hand, or by itself where there is an exact equivalent",
    ]
    assert "spfde convert --mobile" in lines[-1]
    assert "--mobile" not in str(report(problem("new", "b")))


def test_what_goes_wrong_comes_before_what_is_slow():
    lines = str(report(problem("odd", "a"), problem("bad", "b", hazard=True))).splitlines()
    assert lines[0].startswith("m.tflite: NOT SAFE on phones")
    assert lines[-4] == "  ERROR: 1 CONV_2D (b): it is bad."


def test_a_file_without_kernels_has_no_table():
    lines = str(report(weights=())).splitlines()
    assert len(lines) == 4 and "none of its kernels' weights" in lines[3]


@pytest.mark.parametrize(
    ("tensor", "layer"),
    [
        ("net_1/dense_2_1/MatMul", "dense_2"),
        ("net_1/r_1/Relu;net_1/conv_1_1/convolution", "conv_1"),
        ("net_1/conv_1_2/convolution", "conv_1"),
        ("model/net_1/conv_1/convolution", "conv_1"),
        ("model/block/conv/Conv2D", "conv"),
        ("model/conv_1/BiasAdd;model/conv_1/convolution", "conv_1"),
        ("logits", "logits"),
        ("StatefulPartitionedCall:0", "(output)"),
    ],
)
def test_layers_are_named_as_the_converter_wrote_them(tensor, layer):
    assert layer_of(tensor) == layer
