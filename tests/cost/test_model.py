import keras
import numpy as np
import pytest
from keras import layers

from apps import models
from spfde_keras.cost.ledger import Ledger
from spfde_keras.cost.model import profile
from spfde_keras.distributions import ERK
from spfde_keras.layers import base
from spfde_keras.layout import KernelLayout
from spfde_keras.masking import find_masks
from spfde_keras.sparsify import sparsify


def single(layer, shape):
    inputs = keras.Input(shape)
    cost = profile(keras.Model(inputs, layer(inputs)))
    return [(kernel.size, kernel.positions, kernel.outputs) for kernel in cost.kernels]


@pytest.mark.parametrize(
    "layer, shape, expected",
    [
        (layers.Conv1D(4, 3, strides=2, padding="same"), (8, 2), [(24, 4, 16)]),
        (layers.Conv2D(4, 3, padding="same"), (8, 6, 2), [(72, 48, 192)]),
        (layers.Conv2D(4, 3, padding="valid"), (8, 6, 2), [(72, 24, 96)]),
        (layers.Conv2D(4, 3, groups=2, padding="same"), (8, 6, 2), [(36, 48, 192)]),
        (layers.Conv3D(4, 2, strides=2), (4, 4, 4, 3), [(96, 8, 32)]),
        (layers.DepthwiseConv1D(3, padding="same"), (8, 5), [(15, 8, 40)]),
        (
            layers.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=2),
            (8, 8, 5),
            [(90, 16, 160)],
        ),
        (
            layers.SeparableConv2D(7, 3, strides=2, padding="same", depth_multiplier=2),
            (8, 8, 5),
            [(90, 16, 160), (70, 16, 112)],
        ),
        (layers.Conv2DTranspose(4, 3, strides=2, padding="same"), (5, 5, 2), [(72, 25, 400)]),
        (layers.Dense(4), (3,), [(12, 1, 4)]),
        (layers.Dense(4), (6, 3), [(12, 6, 24)]),
        (layers.EinsumDense("abc,cd->abd", (6, 4)), (6, 3), [(12, 6, 24)]),
        (layers.EinsumDense("abc,cde->abde", (6, 4, 5)), (6, 3), [(60, 6, 120)]),
        (layers.EinsumDense("...x,xy->...y", 4), (5, 6, 3), [(12, 30, 120)]),
        (layers.EinsumDense("abc,bcd->abd", (6, 4)), (6, 3), [(72, 1, 24)]),
        (layers.TimeDistributed(layers.Dense(4)), (6, 3), [(12, 6, 24)]),
    ],
)
def test_positions_by_hand(layer, shape, expected):
    assert single(layer, shape) == expected


def test_channels_first():
    # Keras knows the shapes; the CPU cannot run the layer.
    layer = layers.Conv2D(4, 3, padding="same", data_format="channels_first")
    assert single(layer, (2, 8, 6)) == [(72, 48, 192)]


def test_attention_counts_its_four_projections():
    inputs = keras.Input((6, 8))
    attention = layers.MultiHeadAttention(num_heads=2, key_dim=3, value_dim=5)
    cost = profile(keras.Model(inputs, attention(inputs, inputs)))
    counted = [(kernel.size, kernel.positions, kernel.outputs) for kernel in cost.kernels]
    assert sorted(counted) == sorted([(48, 6, 36), (48, 6, 36), (80, 6, 60), (80, 6, 48)])


def test_grouped_attention_and_cross_attention():
    queries, keys = keras.Input((6, 8)), keras.Input((10, 8))
    attention = layers.GroupQueryAttention(head_dim=3, num_query_heads=4, num_key_value_heads=2)
    cost = profile(keras.Model([queries, keys], attention(queries, keys)))
    counted = [(kernel.size, kernel.positions) for kernel in cost.kernels]
    assert sorted(counted) == sorted([(96, 6), (48, 10), (48, 10), (96, 6)])


def test_masked_attention_costs_what_the_plain_one_does():
    inputs = keras.Input((6, 8))
    x = layers.MultiHeadAttention(num_heads=2, key_dim=4)(inputs, inputs)
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))
    sparse = profile(sparsify(model, sparsity=0.5))
    assert len(sparse.densities()) == 4
    assert sparse.forward({}) == profile(model).forward() == 2 * (4 * 64 * 6 + 48 * 2)
    assert sparse.forward() == 2 * (4 * 64 * 6 / 2 + 48 * 2)


class Mixing(layers.Layer):
    def build(self, input_shape):
        self.w = self.add_weight(name="w", shape=(input_shape[-1], 4))

    def call(self, inputs):
        return inputs @ self.w


def test_kernels_of_unknown_layers_are_named():
    inputs = keras.Input((6, 8))
    model = keras.Model(inputs, layers.Dense(2)(layers.LSTM(4, name="lstm")(inputs)))
    cost = profile(model)
    assert [path.split("/")[-1] for path in cost.uncounted] == ["kernel", "recurrent_kernel"]
    # Each of its kernels, 8x16 and 4x16, is used once for each of 6 steps.
    assert cost.forward() == 2 * (6 * (8 * 16 + 4 * 16) + 4 * 2)


def test_what_cannot_be_counted_is_dense_in_the_share():
    """Half of one small kernel is masked: most of the cost cannot fall."""
    inputs = keras.Input((6, 8))
    x = layers.Dense(4, name="masked")(layers.LSTM(32)(Mixing()(inputs)))
    model = keras.Model(inputs, layers.Dense(2)(x))
    cost = profile(sparsify(model, 0.5, dense=[lambda layer: layer.name != "masked", "last"]))
    dense = 6 * 8 * 4 + 6 * (4 * 128 + 32 * 128) + 4 * 2
    assert cost.forward() == 2 * (dense + 32 * 4 / 2)
    assert cost.forward({}) == 2 * (dense + 32 * 4)


def test_masked_kernels_of_recurrent_layers_cost_what_is_left_of_them():
    inputs = keras.Input((6, 8))
    model = sparsify(keras.Model(inputs, layers.Dense(2)(layers.LSTM(32)(inputs))), 0.5)
    cells = 6 * (8 * 128 + 32 * 128)
    assert profile(model).forward() == 2 * (cells / 2 + 32 * 2)
    assert profile(model).forward({}) == 2 * (cells + 32 * 2)


def test_masked_weights_of_unknown_layers_are_named_whatever_their_name(monkeypatch):
    monkeypatch.setattr(base, "_MASKED", dict(base._MASKED))

    @base.register_masked(Mixing)
    class MaskedMixing(base.MaskedLayer, Mixing):
        masked_weights = ("w",)

        def kernel_layout(self, weight):
            return KernelLayout(tuple(self.w.shape), (), (0,), (1,))

    model = sparsify(keras.Sequential([keras.Input((8,)), Mixing(), layers.Dense(2)]), 0.5)
    cost = profile(model)
    assert [path.split("/")[-1] for path in cost.uncounted] == ["w"]
    assert cost.forward() == 2 * (8 * 4 / 2 + 4 * 2)


@pytest.fixture
def net():
    """Three kernels: 2 * 9 * 16 * 4, 4 * 9 * 16 * 4 and 64 * 3 MACs."""
    inputs = keras.Input((4, 4, 2))
    x = layers.Conv2D(4, 3, padding="same", name="a")(inputs)
    x = layers.BatchNormalization(name="a_bn")(x)
    x = layers.Flatten()(layers.Conv2D(4, 3, padding="same", name="b")(x))
    return keras.Model(inputs, layers.Dense(3, name="c")(x))


A, B, C = 1152, 2304, 192  # MACs


def test_flops_by_hand(net):
    cost = profile(net)
    assert cost.blocks == 3
    assert cost.block_sizes == [1, 1, 1]
    assert cost.forward() == 2 * (A + B + C)
    # Nothing needs the gradient of the first kernel's inputs.
    assert cost.training() == 2 * (3 * (A + B + C) - A)
    parts = cost.by_block()
    assert parts["forward"].tolist() == [2 * A, 2 * B, 2 * C]
    assert parts["weight_gradient"].tolist() == [2 * A, 2 * B, 2 * C]
    assert parts["input_gradient"].tolist() == [0, 2 * B, 2 * C]


@pytest.mark.parametrize(
    "frozen, macs",
    [(1, A + 2 * B + 3 * C), (2, A + B + 2 * C), (3, A + B + C)],
)
def test_a_frozen_prefix_costs_its_forward_pass_only(net, frozen, macs):
    assert profile(net).training(frozen=frozen) == 2 * macs


def test_densities_by_kernel_path(net):
    cost = profile(net)
    densities = {"a/kernel": 0.5, "c/kernel": 0.25}
    assert cost.forward(densities) == 2 * (A / 2 + B + C / 4)
    assert cost.training(densities, frozen=1) == 2 * (A / 2 + 2 * B + 3 * C / 4)


def test_densities_of_no_kernel_are_refused(net):
    with pytest.raises(ValueError, match=r"must name kernels of the model. Received: \['d'\]"):
        profile(net).forward({"a/kernel": 0.5, "d": 0.5})


def test_memory_by_hand(net):
    # Weights 72 + 144 + 192, outputs 64 + 64 + 3 per sample; fp32; each with its gradient.
    cost = profile(net)
    assert cost.memory(batch=10) == 4 * 2 * (408 + 1310)
    assert cost.memory(frozen=1, batch=10) == 4 * 2 * (408 + 1310) - 4 * (72 + 640)
    densities = {"b/kernel": 0.5}
    assert cost.memory(densities, frozen=2, batch=10) == 4 * (
        (72 + 640) + (72 + 640) + 2 * (192 + 30)
    )
    assert cost.memory_by_block(densities, 2, 10).sum() == cost.memory(densities, 2, 10)


def test_masks_give_the_default_densities(net):
    model = sparsify(net, sparsity=0.75, dense="last")
    cost = profile(model)
    dense = {kernel.path: kernel.size for kernel in cost.kernels}
    assert cost.densities() == {"a/kernel": 0.25, "b/kernel": 0.25}
    assert set(dense) >= set(cost.densities())
    assert cost.forward() == 2 * (A / 4 + B / 4 + C)
    assert cost.forward({}) == 2 * (A + B + C)
    mask = find_masks(model)[0]
    mask.subnets[0].initialize(np.arange(72.0).reshape(3, 3, 2, 4), 0.5, np.random.default_rng(0))
    assert cost.forward() == 2 * (A / 2 + B / 4 + C)


def test_layers_the_user_has_frozen_have_no_gradient(net):
    net.get_layer("b").trainable = False
    cost = profile(net)
    # The gradient still flows through `b` to `a`.
    assert cost.training() == 2 * (2 * A + 2 * B + 3 * C)
    net.get_layer("a").trainable = net.get_layer("a_bn").trainable = False
    assert profile(net).training() == 2 * (A + B + 2 * C)


def test_normalisation_in_front_makes_the_input_gradient_necessary():
    model = keras.Sequential(
        [keras.Input((4,)), layers.BatchNormalization(), layers.Dense(3), layers.Dense(2)]
    )
    assert profile(model).training() == 6 * (12 + 6)


def test_shared_layers_count_once_per_call():
    shared = layers.Dense(4, name="shared")
    inputs = keras.Input((4,))
    cost = profile(keras.Model(inputs, shared(shared(inputs))))
    (kernel,) = cost.kernels
    assert (kernel.size, kernel.positions, kernel.outputs) == (16, 2, 8)


def test_nested_models_count_with_the_shapes_they_are_called_with():
    flexible = keras.Input((None, None, 3))
    inner = keras.Model(flexible, layers.Conv2D(4, 1)(flexible))
    large, small = keras.Input((8, 8, 3)), keras.Input((4, 4, 3))
    pooled = [layers.GlobalAveragePooling2D()(inner(x)) for x in (large, small)]
    model = keras.Model([large, small], layers.Dense(2)(layers.Add()(pooled)))
    assert profile(model).kernels[0].positions == 64 + 16
    # Of unknown size it has one position, and is named.
    assert [kernel.positions for kernel in profile(inner).kernels] == [1]
    assert profile(inner).unknown == (inner.layers[1].name,)


def test_blocks_given_by_the_user(net):
    cost = profile(net, blocks=[["a", "a_bn", "b"], "c"])
    assert cost.block_sizes == [2, 1]
    assert cost.training(frozen=1) == 2 * (A + B + 2 * C)


def test_parallel_towers_need_no_input_gradient_once_frozen():
    left, right = keras.Input((4,)), keras.Input((4,))
    x = layers.Add()([layers.Dense(4, name="l")(left), layers.Dense(4, name="r")(right)])
    model = keras.Model([left, right], layers.Dense(2, name="head")(x))
    cost = profile(model, ["l", "r", "head"])
    assert cost.training(frozen=1) == 2 * (16 + 2 * 16 + 3 * 8)


def test_models_without_kernels_are_refused():
    model = keras.Sequential([keras.Input((4,)), layers.BatchNormalization()])
    with pytest.raises(ValueError, match="convolution, Dense or EinsumDense"):
        profile(model)


def test_sub_nets_trained_in_turn_cost_their_mean():
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4, name="hidden"), layers.Dense(2, name="head")]
    )
    cost = profile(sparsify(model, [0.25, 0.75], initial="random"))
    assert cost.densities() == {"hidden/kernel": 0.5}
    ledger = Ledger(cost)
    ledger.book_training(samples=6, frozen=0)
    each = [cost.training({"hidden/kernel": density}) for density in (0.75, 0.25)]
    assert ledger.spent == 3 * each[0] + 3 * each[1] == 6 * 2 * (16 + 16 + 8)


def test_normalizations_cost_nothing_with_one_set_or_several():
    inputs = keras.Input((4, 4))
    x = layers.BatchNormalization()(layers.Dense(4, name="hidden")(inputs))
    x = layers.LayerNormalization(axis=[1, 2])(x)
    model = keras.Model(inputs, layers.Dense(2, name="head")(x))
    dense = profile(model).training()
    for sparsity in (0.5, [0.25, 0.75]):
        cost = profile(sparsify(model, sparsity))
        assert not cost.uncounted and cost.training({}) == dense == 2 * 4 * (16 + 16 + 3 * 8)


@pytest.fixture(scope="module")
def resnet50():
    model = models.build("resnet50", (224, 224, 3), 1000)
    return model, profile(model)


def test_resnet50_forward(resnet50):
    assert resnet50[1].forward() == pytest.approx(8.2e9, rel=0.01)


@pytest.mark.parametrize("sparsity, expected", [(0.8, (0.22, 0.24)), (0.9, (0.10, 0.13))])
def test_rigl_ratios_uniform(resnet50, sparsity, expected):
    # RigL's rule: the first layer is dense, all others sparse.
    cost = resnet50[1]
    densities = {kernel.path: 1 - sparsity for kernel in cost.kernels[1:]}
    ratio = cost.forward(densities) / cost.forward({})
    assert expected[0] <= ratio <= expected[1]


@pytest.mark.parametrize("sparsity, expected", [(0.8, (0.41, 0.43)), (0.9, (0.235, 0.255))])
def test_rigl_ratios_erk(resnet50, sparsity, expected):
    # Here all layers take part.
    model, cost = resnet50
    layouts = {}
    for layer in model.layers:
        if isinstance(layer, layers.Conv2D):
            layouts[layer.kernel.path] = KernelLayout(layer.kernel.shape, (0, 1), (2,), (3,))
        elif isinstance(layer, layers.Dense):
            layouts[layer.kernel.path] = KernelLayout(layer.kernel.shape, (), (0,), (1,))
    densities = {path: 1 - share for path, share in ERK()(layouts, sparsity).items()}
    ratio = cost.forward(densities) / cost.forward({})
    assert expected[0] <= ratio <= expected[1]


def test_what_the_user_has_frozen_has_no_gradients_in_memory(net):
    net.get_layer("a").trainable = False
    net.get_layer("a_bn").trainable = False
    assert profile(net).memory(batch=10) == 4 * (72 + 640 + 2 * (144 + 640 + 192 + 30))
    # In the middle, gradients of outputs pass through.
    net.get_layer("a").trainable, net.get_layer("b").trainable = True, False
    assert profile(net).memory(batch=10) == 4 * (144 + 2 * (72 + 640 + 640 + 192 + 30))
