import keras
import pytest
from keras import layers

from spfde_keras.freezing.blocks import find_blocks
from spfde_keras.graph import trace


def names(model, blocks=None):
    return [[layer.name for layer in block] for block in find_blocks(model, blocks)]


def conv_bn(x, name, filters=4, size=1, **kwargs):
    x = layers.Conv2D(filters, size, padding="same", name=name, **kwargs)(x)
    return layers.ReLU()(layers.BatchNormalization(name=f"{name}_bn")(x))


def residual(x, name, filters=4, strides=1):
    y = conv_bn(x, f"{name}_1", filters, strides=strides)
    y = layers.BatchNormalization(name=f"{name}_2_bn")(
        layers.Conv2D(filters, 1, name=f"{name}_2")(y)
    )
    if x.shape != y.shape:
        x = layers.Conv2D(filters, 1, strides=strides, name=f"{name}_skip")(x)
    return layers.ReLU()(layers.Add()([x, y]))


def test_a_chain_has_a_block_per_weight_layer():
    x = inputs = keras.Input((8, 8, 3))
    x = layers.MaxPooling2D()(conv_bn(x, "a"))
    x = layers.GlobalAveragePooling2D()(conv_bn(x, "b"))
    model = keras.Model(inputs, layers.Dense(2, name="head")(layers.Dropout(0.5)(x)))
    assert names(model) == [["a", "a_bn"], ["b", "b_bn"], ["head"]]


def test_residual_nets_have_stem_residual_blocks_and_head():
    x = inputs = keras.Input((8, 8, 3))
    x = residual(residual(conv_bn(x, "stem"), "r1"), "r2", filters=8, strides=2)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, layers.Dense(2, name="head")(x))
    found = names(model)
    assert found[0] == ["stem", "stem_bn"]
    assert found[1] == ["r1_1", "r1_1_bn", "r1_2", "r1_2_bn"]
    assert set(found[2]) == {"r2_1", "r2_1_bn", "r2_2", "r2_2_bn", "r2_skip"}
    assert found[3] == ["head"]


def test_a_preactivation_in_front_of_a_branch_belongs_to_the_block_in_front():
    x = inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(4, 1, name="stem")(x)
    y = layers.Conv2D(4, 1, name="c")(layers.BatchNormalization(name="bn")(x))
    x = layers.BatchNormalization(name="final_bn")(layers.Add()([x, y]))
    model = keras.Model(inputs, layers.Dense(2, name="head")(x))
    assert names(model) == [["stem"], ["bn", "c", "final_bn"], ["head"]]


def test_inverted_residuals_with_squeeze_and_excite_are_one_block():
    x = inputs = keras.Input((8, 8, 4))
    x = conv_bn(x, "stem")
    y = conv_bn(x, "expand", 16)
    y = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(y)
    gate = layers.Dense(16, name="gate")(layers.GlobalAveragePooling2D(keepdims=True)(y))
    y = layers.Conv2D(4, 1, name="project")(layers.Multiply()([y, gate]))
    x = layers.Add()([x, y])
    model = keras.Model(inputs, layers.Dense(2, name="head")(layers.Flatten()(x)))
    found = names(model)
    assert [len(block) for block in found] == [2, 5, 1]
    assert set(found[1]) == {"expand", "expand_bn", "depthwise", "gate", "project"}


def test_keras_mobilenet_v2_gives_its_inverted_residuals():
    model = keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, weights=None, classes=10)
    found = names(model)
    assert found[0] == ["Conv1", "bn_Conv1"]
    assert ["block_2_expand", "block_2_expand_BN", "block_2_depthwise"] == next(
        block for block in found if "block_2_expand" in block
    )[:3]
    assert "block_2_project" in next(block for block in found if "block_2_expand" in block)
    assert found[-1] == ["predictions"]


def test_nested_models_are_expanded():
    inner = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4, name="d1"), layers.Dense(4, name="d2")], name="inner"
    )
    inputs = keras.Input((4,))
    outer = keras.Model(inputs, layers.Dense(2, name="head")(inner(inputs)))
    assert names(outer) == [["d1"], ["d2"], ["head"]]
    assert names(keras.Sequential([keras.Input((4,)), outer])) == [["d1"], ["d2"], ["head"]]


@pytest.mark.parametrize("stem", [False, True])
def test_a_nested_branch_is_one_block_unless_nothing_passes_by_that_needs_a_gradient(stem):
    part = keras.Input((4,))
    inner = keras.Model(part, layers.Dense(4, name="d2")(layers.Dense(4, name="d1")(part)))
    x = inputs = keras.Input((4,))
    if stem:
        x = layers.Dense(4, name="stem")(x)
    joined = layers.Add()([x, inner(x)])
    model = keras.Model(inputs, layers.Dense(2, name="head")(joined))
    assert names(model) == (
        [["stem"], ["d1", "d2"], ["head"]] if stem else [["d1"], ["d2"], ["head"]]
    )


def test_blocks_between_calls_of_a_shared_layer_merge():
    shared = layers.Dense(4, name="shared")
    x = inputs = keras.Input((4,))
    x = layers.Dense(4, name="first")(x)
    x = shared(layers.Dense(4, name="between")(shared(x)))
    x = layers.Dense(4, name="after")(x)
    assert names(keras.Model(inputs, x)) == [["first"], ["shared", "between"], ["after"]]


def test_overlapping_shared_layers_merge_into_one_block():
    a, b = layers.Dense(4, name="a"), layers.Dense(4, name="b")
    inputs = keras.Input((4,))
    x = b(a(b(a(inputs))))
    assert names(keras.Model(inputs, layers.Dense(2, name="head")(x))) == [["a", "b"], ["head"]]


def test_a_nested_model_called_twice_is_cut_as_if_it_were_called_once():
    tower = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4, name="t1"), layers.Dense(4, name="t2")]
    )
    left, right = keras.Input((4,)), keras.Input((4,))
    x = layers.Concatenate()([tower(left), tower(right)])
    model = keras.Model([left, right], layers.Dense(2, name="head")(x))
    assert names(model) == [["t1"], ["t2"], ["head"]]


def test_an_input_that_waits_needs_no_gradient():
    left, right = keras.Input((4,)), keras.Input((4,))
    x = layers.Add()([layers.Dense(4, name="l")(left), layers.Dense(4, name="r")(right)])
    model = keras.Model([left, right], layers.Dense(2, name="head")(x))
    assert names(model) == [["l"], ["r"], ["head"]]


def test_towers_are_one_block_until_they_meet():
    towers = [
        (inputs, layers.Dense(4, name=f"{name}2")(layers.Dense(4, name=f"{name}1")(inputs)))
        for name in "lr"
        for inputs in [keras.Input((4,))]
    ]
    x = layers.Dense(2, name="head")(layers.Add()([x for _, x in towers]))
    model = keras.Model([inputs for inputs, _ in towers], x)
    assert [len(block) for block in names(model)] == [1, 3, 1]


def test_everything_after_a_side_output_is_one_block():
    inputs = keras.Input((4,))
    x = layers.Dense(4, name="stem")(inputs)
    side = layers.Dense(1, name="side")(x)
    main = layers.Dense(2, name="main")(layers.Dense(4, name="body")(x))
    found = names(keras.Model(inputs, [side, main]))
    assert found[0] == ["stem"]
    assert set(found[1]) == {"side", "body", "main"}


def test_leading_normalisation_joins_the_first_kernel():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.BatchNormalization(name="bn"),
            layers.Dense(4, name="a"),
            layers.PReLU(name="prelu"),
            layers.Dense(2, name="b"),
        ]
    )
    assert names(model) == [["bn", "a", "prelu"], ["b"]]


def test_attention_counts_as_one_layer():
    inputs = keras.Input((6, 8))
    x = layers.Embedding(5, 8, name="table")(keras.ops.cast(inputs[..., 0], "int32"))
    x = layers.Add()([x, layers.MultiHeadAttention(2, 4, name="attention")(x, x)])
    model = keras.Model(inputs, layers.Dense(2, name="head")(x))
    assert names(model) == [["table"], ["attention"], ["head"]]


@pytest.fixture
def net():
    inner = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4, name="d1"), layers.Dense(4, name="d2")], name="inner"
    )
    inputs = keras.Input((4,))
    x = layers.BatchNormalization(name="bn")(layers.Dense(4, name="stem")(inputs))
    return keras.Model(inputs, layers.Dense(2, name="head")(inner(x)))


@pytest.mark.parametrize(
    "blocks, expected",
    [
        (["stem", ["bn", "d1", "d2"], "head"], [["stem"], ["bn", "d1", "d2"], ["head"]]),
        (["stem|bn", "d.", "head"], [["stem", "bn"], ["d1", "d2"], ["head"]]),
        ([["stem", "bn"], "inner", "head"], [["stem", "bn"], ["d1", "d2"], ["head"]]),
        (
            [["stem", "bn", "inner/d1"], ["inner/d2", "head"]],
            [["stem", "bn", "d1"], ["d2", "head"]],
        ),
    ],
)
def test_blocks_by_pattern(net, blocks, expected):
    assert names(net, blocks) == expected


@pytest.mark.parametrize(
    "blocks, message",
    [
        (["stem|bn", "inner", "heat"], "must match a layer that owns weights. Received: 'heat'"),
        (
            ["stem", "inner", "head"],
            r"every layer that owns weights. Received: nothing for \['bn'\]",
        ),
        (["stem|bn", "inner", "d2|head"], "'inner/d2' in blocks 1 and 2"),
        (["head", "inner", "stem|bn"], "'inner/d1' in block 1, after 'bn' in block 2"),
        ([], "an entry per block"),
        ("stem", "an entry per block"),
    ],
)
def test_wrong_blocks_are_refused(net, blocks, message):
    with pytest.raises(ValueError, match=message):
        find_blocks(net, blocks)


def test_parallel_towers_may_be_blocks_of_their_own():
    left, right = keras.Input((4,)), keras.Input((4,))
    x = layers.Add()([layers.Dense(4, name="l")(left), layers.Dense(4, name="r")(right)])
    model = keras.Model([left, right], layers.Dense(2, name="head")(x))
    assert names(model, ["r", "l", "head"]) == [["r"], ["l"], ["head"]]


def test_models_without_graph_or_weights_are_refused():
    class Subclassed(keras.Model):
        pass

    with pytest.raises(ValueError, match="`model` must be functional"):
        find_blocks(Subclassed())
    with pytest.raises(ValueError, match="`model` must be functional"):
        find_blocks(keras.Sequential([layers.Dense(2)]))
    with pytest.raises(ValueError, match="`model` must own weights"):
        find_blocks(keras.Sequential([keras.Input((2,)), layers.ReLU()]))


def test_a_nested_model_is_traced_with_the_shapes_it_is_called_with():
    flexible = keras.Input((None, None, 3))
    inner = keras.Model(flexible, layers.Conv2D(4, 3, strides=2, padding="same")(flexible))
    inputs = keras.Input((16, 8, 3))
    (call,) = trace(keras.Model(inputs, inner(inputs))).calls
    assert call.inputs[0].shape == (None, 16, 8, 3)
    assert call.outputs[0].shape == (None, 8, 4, 4)


def test_a_depthwise_convolution_and_its_pointwise_are_one_block():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, name="stem"),
            layers.DepthwiseConv2D(3, name="depthwise"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(),
            layers.Conv2D(8, 1, name="pointwise"),
            layers.DepthwiseConv2D(3, name="last_depthwise"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2, name="head"),
        ]
    )
    found = [[layer.name for layer in block] for block in find_blocks(model)]
    assert found == [["stem"], ["depthwise", "norm", "pointwise"], ["last_depthwise", "head"]]
