"""Models: shapes, counts known from the papers, names, and padding."""

import math
import re

import numpy as np
import pytest
from keras import layers

from apps import models

# The dense layers of VGG-19 but one are left out for small images; WRN-22 counts shortcuts.
DEPTHS = [("resnet18", 18), ("resnet20", 20), ("resnet32", 32), ("resnet50", 50)]
DEPTHS += [("vgg19", 17), ("wrn22_2", 20)]


def kernels(model):
    return [layer for layer in model.layers if isinstance(layer, layers.Conv2D | layers.Dense)]


def macs(model):
    return sum(
        math.prod(layer.kernel.shape) * math.prod(layer.output.shape[1:-1])
        for layer in kernels(model)
    )


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (32, 32, 3)])
@pytest.mark.parametrize("name", [n for n in models.names() if n != "resnet50"])
def test_every_model_gives_finite_logits(name, shape):
    model = models.build(name, shape, classes=7, width=0.25)
    logits = model(np.random.default_rng(0).random((2, *shape), "float32")).numpy()
    assert logits.shape == (2, 7)
    assert np.isfinite(logits).all()


def test_resnet32_twice_as_wide_has_the_papers_macs():
    model = models.build("resnet32", (32, 32, 3), classes=100, width=2)
    assert macs(model) == pytest.approx(275.6e6, rel=0.005)


@pytest.mark.parametrize(
    ("name", "weights"), [("resnet18", 11.17e6), ("vgg19", 20.04e6), ("wrn22_2", 1.08e6)]
)
def test_nets_for_small_images_have_as_many_weights_as_published(name, weights):
    model = models.build(name, (32, 32, 3), classes=10)
    assert model.count_params() == pytest.approx(weights, rel=0.01)


def test_resnet50_has_the_papers_flops_and_weights():
    model = models.build("resnet50", (224, 224, 3), classes=1000)
    assert 2 * macs(model) == pytest.approx(8.2e9, rel=0.01)
    assert model.count_params() == pytest.approx(25.6e6, rel=0.01)


@pytest.mark.parametrize(("name", "depth"), DEPTHS)
def test_depth_counts_layers_outside_of_shortcuts(name, depth):
    model = models.build(name, (32, 32, 3), classes=10)
    assert sum("shortcut" not in layer.name for layer in kernels(model)) == depth


def test_small_cnn_is_mostly_sparse_weights():
    """The first convolution and the classifier, which stay dense, hardly count."""
    model = models.build("small_cnn", (8, 8, 1), classes=10)
    first, *_, last = kernels(model)
    assert (first.kernel.shape, last.kernel.shape) == ((3, 3, 1, 32), (128, 10))
    assert macs(model) == 9 * 32 * 64 + 9 * (32 * 64 * 64 + (64 + 128) * 128 * 16) + 1280
    assert (288 + 1280) / sum(layer.kernel.numpy().size for layer in kernels(model)) < 0.01


def kernels_of_convolutions(model):
    return [
        layer for layer in model.layers if isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D)
    ]


@pytest.mark.parametrize("name", models.names())
def test_dense_layers_match_layers_of_the_model(name):
    model = models.build(name, (32, 32, 3), classes=10)
    patterns = models.dense_layers(name)
    assert patterns[:2] == ("first", "last")
    for pattern in patterns[2:]:
        assert any(re.fullmatch(pattern, layer.name) for layer in kernels_of_convolutions(model))


def test_residual_layers_have_telling_names():
    names = {layer.name for layer in models.build("resnet20", (32, 32, 3), classes=10).layers}
    assert {"stem_conv", "stage1_block0_conv1", "stage3_block2_conv2", "classifier"} <= names
    assert {n for n in names if n.endswith("_shortcut")} == {
        "stage2_block0_shortcut",
        "stage3_block0_shortcut",
    }


def test_width_scales_channels_in_steps_of_8():
    model = models.build("resnet20", (32, 32, 3), classes=10, width=0.6)
    assert model.get_layer("stage1_block0_conv1").filters == 8  # 16 * 0.6 = 9.6
    assert model.get_layer("stage3_block0_conv1").filters == 40  # 64 * 0.6 = 38.4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("vgg", (8, 8, 1), 10),
            "`model` must be one of tiny_cnn, small_cnn, mlp, .*Received: vgg",
        ),
        (("mlp", (8, 8), 10), "`input_shape` must be"),
        (("mlp", (8, 8, 1), 1), "`classes` must be an integer of at least 2. Received: 1"),
        (("mlp", (8, 8, 1), 10, 0), "`width` must be a finite number greater than 0. Received: 0"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        models.build(*arguments)
