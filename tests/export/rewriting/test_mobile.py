"""Rewritten models: the same outputs, zeros that stay, and files that phones run sparse."""

import keras
import numpy as np
import pytest
from keras import layers

from spfde_keras.export import inspect_tflite, make_mobile_ready
from spfde_keras.export.conversion import convert_models
from spfde_keras.export.inspection.rules import RULES
from spfde_keras.export.sparse_mode import available_runtimes, check_sparse_mode
from spfde_keras.export.verification import reference
from spfde_keras.sparsify import densify, sparsify
from tests.export import sparse_nets
from tests.export.sparse_nets import (
    RULE_NETS,
    block,
    keepdims_head,
    net,
    squeeze_and_excite,
    stem,
    two_blocks,
)

SHAPE = (16, 16, 3)
REWRITTEN = [rule.name for rule in RULES if rule.rewritten]


@pytest.mark.parametrize("name", REWRITTEN)
def test_what_the_inspector_says_is_rewritten_is(written, tmp_path, name):
    model = make_mobile_ready(written(name)[1]["serving_default"])
    sparse_nets.write(RULE_NETS[name], {"serving_default": model}, tmp_path / "m.tflite")
    before, after = inspect_tflite(written(name)[0]), inspect_tflite(tmp_path / "m.tflite")
    assert name in {problem.rule for problem in before.problems if problem.rewritten}
    assert name not in {problem.rule for problem in after.problems}


def same_stem(x):
    return layers.Conv2D(16, 3, 2, "same", activation="relu")(x)


def padded_stem(x):
    x = layers.ZeroPadding2D(((0, 1), (0, 1)))(layers.Rescaling(0.5, 0.1)(x))
    return layers.Conv2D(16, 3, 2, activation="hard_swish")(x)


def conv(x, **options):
    return layers.Conv2D(x.shape[-1], 1, **options)(x)


def normalized(x):
    return layers.BatchNormalization()(x)


def keras_gate(x):
    """As in Keras' EfficientNet and MobileNetV3."""
    gate = layers.Reshape((1, 1, x.shape[-1]))(layers.GlobalAveragePooling2D()(x))
    gate = layers.ReLU(6.0)(conv(conv(gate, activation="relu")) + 3.0) * (1 / 6)
    return layers.Multiply()([x, gate])


def dense_gate(x):
    gate = layers.Dense(8, activation="relu")(layers.GlobalAveragePooling2D()(x))
    gate = layers.Dense(x.shape[-1], activation="sigmoid")(gate)
    return layers.Multiply()([x, layers.Reshape((1, 1, x.shape[-1]))(gate)])


def long_head(x):
    x = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = normalized(layers.Conv2D(20, 1, groups=2, activation="hard_swish")(x))
    x = layers.Dropout(0.5)(layers.Dense(12, activation="relu")(x))
    return layers.Reshape((10,))(layers.Conv2D(10, 1)(x))


def reshaped_head(x):
    x = layers.Reshape((1, 1, x.shape[-1]))(layers.GlobalAveragePooling2D()(x))
    return layers.Flatten()(layers.Conv2D(10, 1)(x))


def shared(x):
    """Two layers that are each called twice, with images of different sizes."""
    halve = layers.DepthwiseConv2D(3, 2, padding="same")
    mix = layers.Conv2D(x.shape[-1], 1, groups=4, activation="relu")
    return mix(halve(mix(halve(x))))


def nested(x):
    """A model whose layers are named as others of the outer one."""
    image = layers.Input((None, None, x.shape[-1]))
    y = layers.Conv2D(x.shape[-1], 1, name="mix")(image)
    y = layers.DepthwiseConv2D(3, 2, "same", name="halve")(y)
    inner = keras.Model(image, y, name="inner")
    return layers.Conv2D(16, 1, name="mix")(inner(inner(x)))


def scaled_and_not(x):
    x = conv(x)
    return layers.Add()([normalized(x), x])


def to_a_pixel(x):
    for _ in range(3):
        x = layers.DepthwiseConv2D(3, 2, "same")(x)
    return x


def pooled(x):
    return layers.GlobalAveragePooling2D()(x)


def arithmetic(x):
    return 1.5 - 2 * x


def branch_of_sum(x):
    return normalized(layers.Add()([x, conv(x)]))


# What is rewritten in the middle of a net, by the kind of rewriting.
BODIES = {
    "depthwise": {
        "4x4": lambda x: layers.DepthwiseConv2D(4, padding="same")(x),
        "wide": lambda x: layers.DepthwiseConv2D((1, 5), padding="same")(x),
        "dilated": lambda x: layers.DepthwiseConv2D(3, padding="same", dilation_rate=2)(x),
        "multiplier": lambda x: layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(x),
        "same": lambda x: layers.DepthwiseConv2D(3, 2, padding="same", activation="relu")(x),
        "2x2": lambda x: layers.DepthwiseConv2D(2, 2)(x),
    },
    "pointwise": {
        "strides": lambda x: conv(x, strides=2, activation="relu"),
        "dilation": lambda x: conv(x, dilation_rate=2, groups=2),
        "groups": lambda x: conv(x, groups=4),
        "separable": lambda x: layers.SeparableConv2D(48, 3, 2, padding="same")(x),
    },
    "scales": {
        "behind_relu": normalized,
        "of_sum": branch_of_sum,
        "read_twice": scaled_and_not,
        "rescaling": lambda x: layers.Rescaling(2.0, 1.0)(x),
        "normalization": lambda x: layers.Normalization(
            mean=np.arange(x.shape[-1]) / 9, variance=np.arange(1, x.shape[-1] + 1) / 5
        )(layers.ReLU()(x)),
        "arithmetic": arithmetic,
        "doubled": lambda x: layers.Add()([x, x]),
    },
    "activations": {
        "hard_sigmoid": lambda x: conv(layers.Activation("hard_sigmoid")(x)),
        "selu": lambda x: layers.DepthwiseConv2D(3, padding="same", activation="selu")(x),
        "elu": lambda x: layers.ELU(alpha=0.5)(conv(x)),
        "prelu": lambda x: layers.PReLU(shared_axes=[1, 2])(conv(x)),
        "gate": keras_gate,
        "dense_gate": dense_gate,
        "average": lambda x: layers.AveragePooling2D(2)(x),
    },
    "calls": {"shared": shared, "nested": nested},
}
HEADS = {
    "keepdims": keepdims_head,
    "long": long_head,
    "reshaped": reshaped_head,
    "flattened": lambda x: layers.Dense(10)(layers.Flatten()(layers.AveragePooling2D(4)(x))),
}
STEMS = {
    "2x2": net(first=lambda x: layers.Conv2D(16, 2, 2, activation="relu")(x)),
    "one_channel": net(first=same_stem, shape=(16, 16, 1)),
    "two_channels": net(first=stem, shape=(16, 16, 2)),
}
FLIPPED = {
    "gates": lambda x: squeeze_and_excite(layers.Add()([x, keras_gate(block(x, x.shape[-1]))])),
    "average": lambda x: layers.AveragePooling2D(2)(x),
    "wide": lambda x: layers.DepthwiseConv2D((5, 3), padding="same")(x),
    "to_a_pixel": to_a_pixel,
}
# Each rewriting alone.
NETS = (
    {
        f"{kind}_{name}": net(b, last=pooled)
        for kind, bodies in BODIES.items()
        for name, b in bodies.items()
    }
    | {f"head_{name}": net(last=last) for name, last in HEADS.items()}
    | {f"stem_{name}": build for name, build in STEMS.items()}
    | {f"flipped_{name}": net(b, same_stem, pooled) for name, b in FLIPPED.items()}
    | {"flipped_padding": net(first=padded_stem)}
)


def chained(bodies, first=stem):
    """A net of all these bodies, one after the other."""

    def body(x):
        for build in bodies.values():
            x = build(x)
        return x

    return net(lambda x: block(body(block(x, 32)), 48), first, shape=(32, 32, 3))


def many_headed():
    image = layers.Input(SHAPE)
    x = two_blocks(stem(image))
    return keras.Model(image, {name: last(x) for name, last in HEADS.items()})


# Those of a kind together, as each file takes more than a second.
FILES = (
    {kind: chained(bodies) for kind, bodies in BODIES.items()}
    | {"flipped": chained(FLIPPED, padded_stem), "heads": many_headed}
    | STEMS
)


def fill(model, seed=0):
    """Sets weights without symmetries, 9 of 10 of the 1x1 kernels' to zero."""
    random = np.random.default_rng(seed)
    for variable in model.weights:
        shape = variable.shape
        if variable.name in ("gamma", "moving_variance", "alpha"):
            values = random.uniform(0.5, 1.5, shape)
        elif len(shape) == 4:
            values = random.normal(0, 2 / np.sqrt(np.prod(shape[:2])), shape)
            values *= (random.random(shape) < 0.1) | (max(shape[:2]) > 1)
        else:
            values = random.normal(0, 0.3, shape)
        variable.assign(values)
    return model


def images(model, count=4):
    shape = (count, *model.input_shape[1:])
    return {"input_0": np.random.default_rng(9).normal(0, 2, shape).astype("float32")}


def largest_error(found, expected):
    return max(np.abs(found[k] - expected[k]).max() / np.abs(expected[k]).max() for k in expected)


@pytest.mark.parametrize("name", NETS)
def test_rewritten_nets_give_the_same_outputs(name):
    plain = fill(NETS[name]())
    ready, x = make_mobile_ready(plain), images(plain)
    (found,), (expected,) = reference(ready, x).values(), reference(plain, x).values()
    assert np.ptp(expected, axis=0).max() > 0.02 * np.abs(expected).max()
    assert largest_error({"": found}, {"": expected}) < 1e-5
    assert ready.input_shape == plain.input_shape and ready.output_shape == plain.output_shape
    assert [layer.name for layer in ready.layers] != [layer.name for layer in plain.layers]


@pytest.fixture(scope="module")
def rewritten(tmp_path_factory):
    """Returns (model, the file of its rewritten form) by name; built once."""
    folder, cache = tmp_path_factory.mktemp("mobile"), {}

    def rewritten(name):
        if name not in cache:
            model, file = fill(FILES[name]()), folder / f"{name}.tflite"
            models = {"serving_default": make_mobile_ready(model)}
            file.write_bytes(convert_models(models, "float32", True, images(model)))
            cache[name] = model, file
        return cache[name]

    return rewritten


@pytest.mark.parametrize("name", FILES)
def test_files_of_rewritten_nets_run_sparse(rewritten, name):
    report = inspect_tflite(rewritten(name)[1])
    assert report.sparse_on_arm64 and report.safe_on_arm64 and not report.problems


@pytest.mark.mobile_kit
@pytest.mark.parametrize("name", FILES)
def test_files_of_rewritten_nets_are_right_in_sparse_mode(rewritten, name):
    if not available_runtimes():
        pytest.skip("no sparse-mode runtime is installed: make mobile-kit")
    model, file = rewritten(name)
    x = images(model)
    assert check_sparse_mode(file, x, reference(model, x), 1e-5) < 1e-5


def test_layers_that_qualify_are_left_alone():
    def body(x):
        # The converter folds this scale.
        return squeeze_and_excite(normalized(layers.Dropout(0.5)(conv(two_blocks(x)))))

    model = fill(net(body)())
    ready = make_mobile_ready(model)
    assert [layer.name for layer in ready.layers[1:]] == [layer.name for layer in model.layers[1:]]


def test_images_are_flipped_only_where_they_must():
    for name, is_flipped in {
        "stem_2x2": False,
        "stem_two_channels": False,
        "flipped_wide": True,
    }.items():
        operations = make_mobile_ready(NETS[name]()).operations
        assert any(type(o).__name__ == "Flip" for o in operations) == is_flipped


def test_a_normalization_by_the_batch_is_no_scale_of_channels():
    plain = fill(net(lambda x: layers.BatchNormalization()(x, training=True), last=pooled)())
    ready, x = make_mobile_ready(plain), images(plain)["input_0"]
    moving = plain.non_trainable_variables[0].numpy()
    np.testing.assert_allclose(ready(x), plain(x), rtol=1e-4, atol=1e-5)
    assert not np.array_equal(plain.non_trainable_variables[0], moving)


def test_zeros_stay_zero():
    model = fill(net(lambda x: shared(keras_gate(block(x, 32))), same_stem, long_head)())
    kernels = [
        layer.kernel for layer in make_mobile_ready(model).layers if hasattr(layer, "kernel")
    ]
    pointwise = [kernel for kernel in kernels if kernel.shape[:2] == (1, 1)]
    assert len(pointwise) == 5
    assert all(np.mean(np.asarray(kernel) != 0) < 0.2 for kernel in pointwise)


def test_masks_are_folded_and_subnets_are_the_active_one():
    model = sparsify(fill(net(first=same_stem)()), sparsity=[0.7, 0.9], initial="random")
    x = images(model)["input_0"]
    outputs = []
    for index in range(2):
        model.activate(index)
        outputs.append(make_mobile_ready(model)(x))
        np.testing.assert_allclose(outputs[-1], densify(model, subnet=index)(x), atol=1e-5)
    assert not np.allclose(*outputs)


def test_a_rewritten_model_is_saved_and_loaded(tmp_path):
    model = fill(net(lambda x: keras_gate(block(x, 32)), same_stem, long_head)())
    ready, x = make_mobile_ready(model), images(model)["input_0"]
    ready.save(tmp_path / "ready.keras")
    loaded = keras.saving.load_model(tmp_path / "ready.keras")
    np.testing.assert_array_equal(loaded(x), ready(x))


@pytest.mark.parametrize(
    "body",
    [
        lambda x: layers.MaxPooling2D(2)(x),
        lambda x: layers.DepthwiseConv2D(7, padding="same")(x),
        lambda x: layers.Conv2D(16, 3, padding="same")(x),
        lambda x: layers.AveragePooling2D(3, 1, "same")(x),
        lambda x: layers.PReLU()(x),
        lambda x: layers.Reshape((8, 8, 16))(layers.Permute((2, 1, 3))(x)),
        lambda x: x + np.arange(64.0).reshape(1, 8, 8, 1),
    ],
)
def test_images_are_not_flipped_where_a_layer_tells_the_difference(body):
    plain = fill(net(lambda x: block(body(x), 32), first=same_stem)())
    ready, x = make_mobile_ready(plain), images(plain)["input_0"]
    assert plain.layers[1].name in [layer.name for layer in ready.layers]
    np.testing.assert_allclose(ready(x), plain(x), rtol=1e-5, atol=1e-5)


def test_an_image_that_is_an_output_is_not_flipped():
    image = layers.Input(SHAPE)
    padded = layers.ZeroPadding2D(1)(same_stem(image))
    for output in (same_stem(image), block(same_stem(image), 8), padded):
        plain = fill(keras.Model(image, output))
        ready, x = make_mobile_ready(plain), images(plain)["input_0"]
        np.testing.assert_allclose(ready(x), plain(x), rtol=1e-5, atol=1e-5)


def test_a_sequential_model_and_several_inputs_keep_their_structure():
    image, number = layers.Input(SHAPE, name="image"), layers.Input((3,), name="number")
    features = layers.GlobalAveragePooling2D()(same_stem(image))
    model = keras.Model(
        {"image": image, "number": number},
        {"y": layers.Concatenate()([features, number]), "z": features},
    )
    ready = make_mobile_ready(model)
    x = {"image": np.ones((2, *SHAPE)), "number": np.ones((2, 3))}
    assert [tensor.name for tensor in ready.inputs] == ["image", "number"]
    assert ready(x).keys() == {"y", "z"} and ready.input.keys() == x.keys()
    np.testing.assert_allclose(ready(x)["y"], model(x)["y"], atol=1e-5)
    sequential = keras.Sequential([layers.Input(SHAPE), layers.Conv2D(4, 3, 2, "same")])
    ready = make_mobile_ready(sequential)
    assert ready.name == sequential.name
    np.testing.assert_allclose(ready(x["image"]), sequential(x["image"]), atol=1e-5)


def test_models_without_a_graph_are_refused():
    class Subclassed(keras.Model):
        pass

    with pytest.raises(ValueError, match="`model` must have been called once"):
        make_mobile_ready(Subclassed())
