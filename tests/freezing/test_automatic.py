"""Nets with skip connections are cut into modules, and what is frozen needs no gradient."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from keras.callbacks import LambdaCallback

from spfde_keras.callbacks import SpFDE
from spfde_keras.cost.model import profile
from spfde_keras.freezing.blocks import find_blocks
from spfde_keras.sparsify import sparsify
from tests import graphs, skip_nets


def kernels(block):
    weights = [weight for layer in block for weight in layer.weights]
    return [w for w in weights if w.name.endswith(("kernel", "embeddings"))]


def sizes(model):
    """The share of all kernel weights in each block."""
    held = [sum(math.prod(w.shape) for w in kernels(block)) for block in find_blocks(model)]
    return np.array(held) / sum(held)


def counts(model):
    """The number of layers with a kernel in each block."""
    return [sum(bool(kernels([layer])) for layer in block) for block in find_blocks(model)]


@pytest.mark.parametrize(
    "make, expected",
    [
        # Shared levels but the innermost, which is as large as a module, freeze one by one.
        (lambda: skip_nets.unet(4, 32), [1] * 23),
        (skip_nets.unet, [1] * 13),
        # Units of a filter, a gate and a residual; the skip connections meet behind them.
        (skip_nets.wavenet, [1] + 7 * [3] + [4, 6, 1]),
        # Embeddings, then attention and the two layers behind it in turn.
        (skip_nets.bert, [1, 1, 1] + 4 * [1, 2] + [1]),
        (skip_nets.wide_and_deep, [1, 1, 1, 1]),
        # A stem, residual blocks, the pyramid, and heads that all its levels share.
        (skip_nets.retinanet, [1, 4, 3, 4, 3, 4, 3, 3, 8, 1, 2, 1, 1]),
    ],
    ids=["deep unet", "unet", "wavenet", "bert", "wide and deep", "retinanet"],
)
def test_modules_are_blocks(make, expected):
    model = make()
    assert counts(model) == expected
    assert sizes(model).max() <= 1 / 3


def test_masks_change_no_block():
    model = skip_nets.retinanet()
    names = [[layer.name for layer in block] for block in find_blocks(model)]
    sparse = find_blocks(sparsify(model, 0.5))
    assert [[layer.name for layer in block] for block in sparse] == names


def test_a_part_as_small_as_a_module_stays_whole():
    """Two branches of three layers: all of the net, but not more than a residual block has."""
    x = inputs = keras.Input((4,))
    for _ in range(3):
        x = layers.Dense(4)(x)
    y = inputs
    for _ in range(3):
        y = layers.Dense(4)(y)
    stem = layers.Dense(4)
    assert counts(keras.Model(inputs, layers.Add()([x, y]))) == [1, 5]
    shared = stem(inputs)
    branches = [layers.Dense(4)(layers.Dense(4)(shared)) for _ in range(3)]
    assert counts(keras.Model(inputs, layers.Add()(branches))) == [1, 6]


def test_without_structure_blocks_are_as_large_as_allowed():
    """Every layer sees all those before it: nothing but the size says where to cut."""
    seen = [keras.Input((4,))]
    x = layers.Dense(4)(seen[0])
    outputs = [x]
    for _ in range(39):
        x = layers.Dense(4)(layers.Concatenate()(outputs[-3:]) if len(outputs) > 2 else x)
        outputs.append(x)
    found = counts(keras.Model(seen[0], layers.Add()(outputs)))
    assert sum(found) == 40
    assert max(found) <= 12
    assert len(found) <= 10


def test_an_encoder_is_frozen_while_its_skip_connections_train():
    model = sparsify(skip_nets.unet(), 0.5)
    model.compile("adam", "mse")
    x = np.random.default_rng(0).normal(size=(8, 8, 8, 4)).astype("float32")
    x, y = x[..., :3], x[..., 3:]
    found = find_blocks(model)
    seen = []

    def remember(epoch, logs):
        seen.append([np.array(block[0].kernel) for block in found])

    callback = SpFDE(6, "static", interval=1, freeze=0.12)
    history = model.fit(
        x, y, epochs=6, callbacks=[callback, LambdaCallback(on_epoch_end=remember)], verbose=0
    )
    frozen = history.history["frozen_blocks"]
    assert frozen[-1] >= 2  # the stem alone was a block before, and then nearly all of the net
    for epoch in range(1, 6):
        moved = [np.any(a != b) for a, b in zip(seen[epoch - 1], seen[epoch], strict=True)]
        assert moved == [index >= frozen[epoch] for index in range(len(found))]
    assert history.history["flops_share"][-1] == pytest.approx(
        callback.planned_cost(8, 8).total / callback.dense_training_flops
    )


@pytest.mark.slow
def test_nasnet_freezes_cell_by_cell():
    model = keras.applications.NASNetMobile(weights=None)
    found = counts(model)
    assert len(found) >= 17
    assert max(found) == 12
    assert sizes(model).max() < 0.21


def backward(model):
    """The operators that a training step needs, forward and backward, for one sample."""

    def gradients(*inputs):
        with tf.GradientTape() as tape:
            outputs = model(inputs if len(inputs) > 1 else inputs[0], training=True)
            loss = sum(tf.reduce_sum(output**2) for output in tf.nest.flatten(outputs))
        return loss, tape.gradient(loss, [w.value for w in model.trainable_variables])

    spec = [tf.TensorSpec((1, *x.shape[1:]), x.dtype) for x in model.inputs]
    return graphs.operators_needed(tf.function(gradients).get_concrete_function(*spec).graph)


def macs(operators):
    """Multiply-accumulates of the convolutions and products among operators."""
    total = 0
    for op in operators:
        if op.type == "MatMul":
            rows, columns = op.outputs[0].shape
            total += rows * columns * op.inputs[0].shape[0 if op.get_attr("transpose_a") else 1]
        elif op.type == "Conv2D":
            total += math.prod(op.inputs[1].shape[:3]) * math.prod(op.outputs[0].shape)
        elif op.type == "Conv2DBackpropInput":
            total += math.prod(op.inputs[1].shape[:3]) * math.prod(op.inputs[2].shape)
        elif op.type == "Conv2DBackpropFilter":
            shapes = op.inputs[1]
            static = tf.get_static_value(shapes)
            kernel = shapes.op.inputs[shapes.value_index].shape if static is None else static
            total += math.prod(kernel[:3]) * math.prod(op.inputs[2].shape)
    return total


@pytest.mark.parametrize(
    "make",
    [
        skip_nets.unet,
        skip_nets.wide_and_deep,
        skip_nets.retinanet,
        lambda: skip_nets.bert(3),
        lambda: skip_nets.wavenet(4),
    ],
    ids=["unet", "wide and deep", "retinanet", "bert", "wavenet"],
)
def test_a_frozen_front_needs_no_gradient(make):
    """Independently counted: the operators that TensorFlow traces behind a loss."""
    model = make()
    blocks = find_blocks(model)
    costs = profile(model)
    # TensorFlow makes dilated convolutions of others, and attention has products of its own.
    dilated = any(isinstance(layer, layers.Conv1D) for layer in model.layers)
    attends = any(isinstance(layer, layers.MultiHeadAttention) for layer in model.layers)
    for frozen in (0, 1, len(blocks) // 2, len(blocks) - 1):
        for index, block in enumerate(blocks):
            for layer in block:
                layer.trainable = index >= frozen
        operators = backward(model)
        names = [op.name for op in operators if op.name.startswith("gradient_tape/")]
        for index, block in enumerate(blocks):
            for layer in block:
                moved = any(f"/{layer.name}" in one for one in names)
                assert moved == (index >= frozen), (layer.name, frozen)
        if not (dilated or attends):
            assert costs.training({}, frozen) == 2 * macs(operators), frozen


def test_a_tower_that_is_called_twice_is_cut_like_one_that_is_called_once():
    x = inputs = keras.Input((8,))
    for index in range(3):
        x = layers.Dense(8, "relu", name=f"dense_{index}")(x)
    tower = keras.Model(inputs, x)
    one, other = keras.Input((8,)), keras.Input((8,))
    head = layers.Dense(1, name="head")(layers.Concatenate()([tower(one), tower(other)]))
    model = keras.Model([one, other], head)
    blocks = [[layer.name for layer in block] for block in find_blocks(model)]
    assert blocks == [["dense_0"], ["dense_1"], ["dense_2"], ["head"]]
    # A layer that is called on its own results holds all between together.
    back = keras.Model(inputs, layers.Dense(1)(tower(tower(inputs))))
    assert len(find_blocks(back)) == 2
