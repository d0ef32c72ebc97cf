"""The MobileNets qualify for sparse kernels at every even image size, and refuse odd ones."""

import keras
import numpy as np
import pytest
from keras import layers

from apps import mobilenets, models
from benchmarks.mobile import normalize
from spfde_keras import densify, export_tflite, find_blocks, sparsify
from spfde_keras.cost.model import profile
from spfde_keras.export import inspect_tflite
from spfde_keras.export.inputs import named_inputs
from spfde_keras.export.sparse_mode import available_runtimes, check_sparse_mode
from spfde_keras.export.verification import reference

NAMES = ("mobilenet_sparse", "mobilenetv2_sparse")


def build(name, shape, classes=2, width=0.25):
    return models.build(name, shape, classes, width)


def sparse(name, shape):
    model = sparsify(build(name, shape), 0.9, dense=models.dense_layers(name))
    random = np.random.default_rng(0)
    for weight in model.weights:
        # Without these a sparse net's signal dies out on its way: its logits would be all 0.
        if weight.name == "beta":
            weight.assign(random.normal(size=weight.shape))
    return model


def convolutions(model):
    return [
        layer for layer in model.layers if isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D)
    ]


@pytest.fixture
def short(monkeypatch):
    """Nets with the front stages only, which convert in a fraction of the time."""
    monkeypatch.setattr(mobilenets, "VERSION1_STAGES", mobilenets.VERSION1_STAGES[:2])
    monkeypatch.setattr(mobilenets, "VERSION2_STAGES", mobilenets.VERSION2_STAGES[:2])


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("mobilenet_sparse", (8, 8, 1)),
        ("mobilenetv2_sparse", (28, 28, 1)),
        ("mobilenet_sparse", (32, 32, 3)),
        ("mobilenetv2_sparse", (224, 224, 3)),
        ("mobilenet_sparse", (96, 64, 3)),
        ("mobilenet_sparse", (28, 28, 4)),
    ],
)
def test_files_qualify_at_every_even_size(name, shape, short, tmp_path):
    export_tflite(sparse(name, shape), tmp_path / "model.tflite")
    report = inspect_tflite(tmp_path / "model.tflite")
    assert report.sparse_on_arm64 and not report.problems


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("shape", "received"),
    [
        ((29, 29, 1), "29x29; pad or resize the images to 30x30, or"),
        ((27, 28, 3), "27x28; pad or resize the images to 28x28, or"),
    ],
)
def test_odd_images_are_refused_with_the_remedy(name, shape, received):
    with pytest.raises(ValueError, match=f"`{name}` needs .* even height .*Received: {received}"):
        build(name, shape)


@pytest.mark.mobile_kit
@pytest.mark.parametrize(
    ("name", "shape"), [("mobilenet_sparse", (28, 28, 4)), ("mobilenetv2_sparse", (28, 28, 1))]
)
def test_whole_nets_are_right_in_sparse_mode(name, shape, tmp_path):
    if not available_runtimes():
        pytest.skip("no sparse-mode runtime is installed: make mobile-kit")
    images = np.random.default_rng(1).uniform(size=(4, *shape)).astype("float32")
    model = densify(sparse(name, shape))
    normalize(model, images)
    export_tflite(model, tmp_path / "model.tflite", representative_data=images, tolerance=1e-3)
    report = inspect_tflite(tmp_path / "model.tflite")
    assert report.sparse_on_arm64 and not report.problems
    inputs = named_inputs(model, images)
    expected = reference(model, inputs)
    assert np.ptp(expected["output_0"], axis=0).min() > 0.1  # the images make a difference
    assert check_sparse_mode(tmp_path / "model.tflite", inputs, expected, 1e-3) < 1e-3


@pytest.mark.parametrize(
    ("name", "size", "halvings"),
    [
        *[(NAMES[0], *case) for case in [(224, 5), (96, 4), (32, 3), (28, 2), (10, 1), (8, 1)]],
        *[(NAMES[1], *case) for case in [(224, 5), (28, 2)]],
    ],
)
def test_even_images_are_halved_with_explicit_padding(name, size, halvings):
    model = build(name, (size, size, 3))
    halving = [layer for layer in convolutions(model) if layer.strides != (1, 1)]
    assert len(halving) == halvings
    for layer in halving:
        assert layer.padding == "valid"
        before = layer.input.shape[1]
        assert before % 2 == 0  # padded by one on both sides
        assert layer.output.shape[1] * 2 == before - 2
    pads = [layer for layer in model.layers if isinstance(layer, layers.ZeroPadding2D)]
    assert [pad.padding for pad in pads] == [((1, 1), (1, 1))] * halvings


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 13])
def test_the_stem_reads_three_channels_and_stays_dense(name, channels, short):
    model = sparsify(build(name, (8, 8, channels)), 0.9, dense=models.dense_layers(name))
    assert model.input_shape == (None, 8, 8, channels)
    assert model.get_layer("stem_conv").kernel.shape[2] == 3
    expected = {"stem_conv"} | ({"stem_rgb"} if channels not in (1, 3) else set())
    assert {layer for layer in model.left_dense if layer.startswith("stem")} == expected


def test_a_grey_image_is_repeated():
    model = build("mobilenetv2_sparse", (8, 8, 1))
    grey = keras.Model(model.input, model.get_layer("stem_rgb").output)
    image = np.random.default_rng(0).random((1, 8, 8, 1), "float32")
    np.testing.assert_array_equal(grey(image), np.repeat(image, 3, axis=-1))


def macs_and_weights(model):
    """Of convolutions and classifier, by hand: batch normalisations are folded in a file."""
    kernels = [*convolutions(model), model.get_layer("classifier")]
    sizes = [int(np.prod(layer.kernel.shape)) for layer in kernels]
    positions = [int(np.prod(layer.output.shape[1:-1])) for layer in kernels]
    return sum(map(int.__mul__, sizes, positions)), sum(sizes)


def test_version2_is_the_papers():
    """300 M multiply-adds and 3.4 M weights (Sandler et al. 2018, table 4)."""
    model = models.build("mobilenetv2_sparse", (224, 224, 3), classes=1000)
    macs, weights = macs_and_weights(model)
    assert macs == pytest.approx(300e6, rel=0.01)
    assert weights == pytest.approx(3.4e6, rel=0.03)
    # 2 + 3 + 4 + 3 + 3 blocks after the first of stages 2 to 6, less one each
    assert sum(isinstance(layer, layers.Add) for layer in model.layers) == 1 + 2 + 3 + 2 + 2
    limits = {layer.max_value for layer in model.layers if isinstance(layer, layers.ReLU)}
    assert limits == {6}


def test_bottlenecks_of_version2_are_linear():
    model = build("mobilenetv2_sparse", (32, 32, 3))
    activated = [
        layer.input._keras_history.operation.name
        for layer in model.layers
        if isinstance(layer, layers.ReLU)
    ]
    assert len(activated) == len(convolutions(model)) - 17
    assert not any("project" in name or "add" in name for name in activated)


def test_a_residual_of_version2_freezes_as_a_whole():
    """Beside the 10 residuals: stem, head, classifier, stage 1, and 6 pairs without shortcut."""
    model = build("mobilenetv2_sparse", (32, 32, 3))
    blocks = [[layer.name for layer in block] for block in find_blocks(model)]
    assert len(blocks) == 10 + 4 + 6 * 2 == profile(model).blocks
    (block,) = [names for names in blocks if "stage2_block1_project" in names]
    assert {name for name in block if "bn" not in name} == {
        f"stage2_block1_{part}" for part in ("expand", "depthwise", "project")
    }
