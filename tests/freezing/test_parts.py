"""Blocks inside of layers that hide others: given by the user, frozen one by one."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from spfde_keras import Freezing, SpFDE, find_blocks, sparsify
from spfde_keras.cost import profile
from spfde_keras.masking import find_masks

X = np.random.default_rng(0).normal(size=(16, 8)).astype("float32")


class Net(keras.Model):
    """A subclassed model with a weight of its own."""

    def __init__(self):
        super().__init__(name="net")
        self.stem = layers.Dense(8, "relu", name="stem")
        self.body = [layers.Dense(8, "relu", name=f"body_{index}") for index in range(3)]
        self.head = layers.Dense(2, name="head")
        self.shift = self.add_weight(shape=(8,), name="shift")

    def call(self, x):
        x = self.stem(x) + self.shift
        for layer in self.body:
            x = layer(x)
        return self.head(x)


@pytest.fixture
def sparse():
    model = Net()
    model(X)
    return sparsify(model, 0.5)


def names(blocks):
    return [[layer.name for layer in block] for block in blocks]


def by_name(model):
    return ["stem", ["body_0", "net/body_1"], "body_2", "head"]


def by_layer(model):
    net = model.get_layer("net")
    return [net.stem, net.body[:2], net.body[2], net.head]


@pytest.mark.parametrize("blocks", [by_name, by_layer])
def test_blocks_are_given_by_name_or_as_layers(sparse, blocks):
    assert names(find_blocks(sparse)) == [["net"]]
    assert names(find_blocks(sparse, blocks(sparse))) == [
        ["own_weights", "stem"],
        ["body_0", "body_1"],
        ["body_2"],
        ["head"],
    ]


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        (["stem", "body.*"], r"must cover every layer .* nothing for \['net/head'\]"),
        (["stem", "nothing", "head"], "'nothing'; the layers are .*net/body_2"),
        (["stem", "body.*", "body_2", "head"], "in one block. Received: 'net/body_2'"),
        ([layers.Dense(2, name="other"), "stem"], "Received: 'other'"),
    ],
)
def test_wrong_blocks_are_refused_by_name(sparse, blocks, message):
    with pytest.raises(ValueError, match=message):
        find_blocks(sparse, blocks)


def test_inner_blocks_freeze_one_by_one(sparse):
    net = sparse.get_layer("net")
    freezing = Freezing(0.2, blocks=by_name(sparse))
    sparse.compile(keras.optimizers.SGD(0.1), "mse")
    values = []
    watched = [net.stem.kernel, net.shift, net.body[0].kernel, net.head.kernel]

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            values.append([np.asarray(weight).copy() for weight in watched])

    history = sparse.fit(
        X,
        np.ones((16, 2)),
        epochs=8,
        verbose=0,
        callbacks=[SpFDE(8, "static", 1, freeze=freezing), Watch()],
    ).history
    frozen = history["frozen_blocks"]
    assert frozen[0] == 0 and frozen[-1] >= 1
    for epoch in range(1, 8):
        stem, shift, body, head = (
            np.array_equal(before, after)
            for before, after in zip(values[epoch - 1], values[epoch], strict=True)
        )
        assert (stem, shift) == (frozen[epoch] >= 1,) * 2
        assert body == (frozen[epoch] >= 2) and not head
    assert all(layer.trainable for layer in (net.stem, *net.body, net.head))


def test_costs_are_those_of_the_same_net_with_a_graph(sparse):
    plain = keras.Sequential(
        [
            keras.Input((8,)),
            *(layers.Dense(8, name=name) for name in ("stem", "body_0", "body_1", "body_2")),
            layers.Dense(2, name="head"),
        ]
    )
    blocks = ["stem", ["body_0", "body_1"], "body_2", "head"]
    expected, found = profile(plain, blocks), profile(sparse, blocks)
    densities = {mask.kernel_path: 0.5 for mask in find_masks(sparse)}
    assert found.block_sizes == expected.block_sizes
    np.testing.assert_array_equal(found.by_block({})["forward"], expected.by_block({})["forward"])
    assert found.forward(densities) == pytest.approx(2 * (4 * 64 * 0.5 + 16), abs=2 * 4)


def test_blocks_of_a_layer_inside_a_graph():
    class Block(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.a, self.b = layers.Dense(8, name="a"), layers.Dense(8, name="b")

        def build(self, shape):
            self.a.build(shape)
            self.b.build(shape)

        def call(self, x):
            return x + self.b(ops.relu(self.a(x)))

    x = keras.Input((8,))
    y = Block(name="two")(Block(name="one")(x))
    model = keras.Model(x, layers.Dense(2, name="head")(y))
    assert names(find_blocks(model)) == [["one"], ["two"], ["head"]]
    inner = find_blocks(model, ["one/a", "one/b", "two", "head"])
    assert names(inner) == [["a"], ["b"], ["two"], ["head"]]
