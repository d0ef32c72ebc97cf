"""Several sub-nets of one model: how `sparsify` makes them, and `densify` takes one out."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_model_optimization.python.core.sparsity.keras.pruning_utils import is_pruned_m_by_n

from spfde_keras import SparseModel, densify, sparsify, wrap
from spfde_keras.layers.batch_norm import FusedBatchNormalization
from spfde_keras.layers.switchable import SwitchableBatchNormalization
from spfde_keras.masking import find_masks
from spfde_keras.schemes import NM, Block

L = keras.layers
IMAGE = (8, 8, 8)
SPARSITIES = [0.5, 0.75, 0.875]


def mlp():
    """Two kernels of 8x16 and 16x16 that can be masked."""
    inputs = keras.Input((8,))
    x = L.BatchNormalization(name="norm")(L.Dense(16, name="a")(inputs))
    x = L.Dense(16, activation="relu", name="b")(x)
    return keras.Model(inputs, L.Dense(4, name="head")(x))


def residual():
    """A nested model with a convolution in its shortcut, and normalization everywhere."""
    inner_inputs = keras.Input(IMAGE)
    x = L.Conv2D(16, 3, padding="same", use_bias=False, name="conv")(inner_inputs)
    x = L.ReLU()(L.BatchNormalization(name="conv_norm")(x))
    shortcut = keras.Sequential(
        [
            L.Conv2D(16, 1, use_bias=False, name="project"),
            L.BatchNormalization(scale=False, trainable=False, name="project_norm"),
        ],
        name="shortcut",
    )
    x = L.Add(name="add")([x, shortcut(inner_inputs)])
    block = keras.Model(inner_inputs, x, name="block")
    inputs = keras.Input(IMAGE)
    x = L.Conv2D(8, 3, padding="same", name="stem")(inputs)
    x = block(L.BatchNormalization(center=False, name="stem_norm")(x))
    x = L.GlobalAveragePooling2D(name="pool")(x)
    x = L.BatchNormalization(name="pool_norm")(L.Dense(16, name="fc")(x))
    return keras.Model(inputs, L.Dense(3, name="head")(x), name="residual")


MODELS = {"mlp": mlp, "residual": residual}


def randomize(model):
    """Moves every weight, statistics included, away from its initial value."""
    random = np.random.default_rng(0)
    masks = {id(variable) for mask in find_masks(model) for variable in mask.variables}
    for weight in model.weights:
        if id(weight) not in masks and weight.dtype == "float32":
            sign = 1 if "variance" in weight.path else random.choice([-1, 1], weight.shape)
            weight.assign(random.uniform(0.2, 1.0, weight.shape) * sign)
    for mask in find_masks(model):
        mask.project()
    return model


def inputs_of(model):
    return np.random.default_rng(1).normal(size=(3, *model.input.shape[1:])).astype("float32")


def assert_same_outputs(model, other, **tolerance):
    x = inputs_of(model)
    np.testing.assert_allclose(model(x), other(x), **({"rtol": 1e-5, "atol": 1e-5} | tolerance))


def by_name(model):
    return {layer.name: layer for layer in model._flatten_layers()}


@pytest.mark.parametrize("initial", ["random", "magnitude"])
@pytest.mark.parametrize("sparsities", [SPARSITIES, (0.75, 0.5), [0.875, 0.5, 0.75]], ids=str)
def test_sub_nets_start_nested_at_their_densities(sparsities, initial):
    plain = mlp()
    model = sparsify(plain, sparsities, initial=initial, seed=3)
    order = np.argsort(sparsities)
    assert len(find_masks(model)) == 2
    for mask in find_masks(model):
        kernel, masks = mask.read()
        assert [subnet.sparsity for subnet in mask.subnets] == list(sparsities)
        assert [subnet.density for subnet in mask.subnets] == [1 - share for share in sparsities]
        for denser, sparser in zip(order, order[1:], strict=False):
            assert not (masks[sparser] & ~masks[denser]).any()
        original = plain.get_layer(mask.kernel_path.split("/")[0]).kernel.numpy()
        np.testing.assert_array_equal(kernel, np.where(masks.any(axis=0), original, 0))
        # Each as if it were alone.
        for subnet, share in zip(mask.subnets, sparsities, strict=True):
            alone = sparsify(plain, share, initial=initial, seed=3)
            (same,) = (x for x in find_masks(alone) if x.kernel_path == mask.kernel_path)
            np.testing.assert_array_equal(subnet.read()[1], same.read()[1][0])
            np.testing.assert_array_equal(subnet.read()[0], same.read()[0])


@pytest.mark.parametrize("name", MODELS)
def test_dense_to_begin_with_each_sub_net_is_the_model(name):
    plain = randomize(MODELS[name]())
    model = sparsify(plain, SPARSITIES, initial="dense")
    for mask in find_masks(model):
        assert mask.density == 1 and [s.sparsity for s in mask.subnets] == SPARSITIES
    for subnet in range(3):
        model.activate(subnet)
        assert_same_outputs(plain, model, rtol=1e-4, atol=1e-4)


def test_each_sub_net_has_a_distribution_of_its_own():
    plain = mlp()
    model = sparsify(plain, [0.5, 0.8], distribution="erk", initial="random")
    # 8x16 and 16x16 with half of them kept, as in a model of one sub-net: 24/128 to 32/256.
    a, b = ([subnet.density for subnet in mask.subnets] for mask in find_masks(model))
    assert a[0] / b[0] == pytest.approx(1.5, rel=0.03)
    sizes = {mask.kernel_path: mask.layout.size for mask in find_masks(model)}
    for index, share in enumerate([0.5, 0.8]):
        alone = find_masks(sparsify(plain, share, distribution="erk"))
        assert [a[index], b[index]] == [mask.density for mask in alone]
        kept = a[index] * sizes["a/kernel"] + b[index] * sizes["b/kernel"]
        assert kept == pytest.approx((1 - share) * 384, abs=1)
    assert model.subnets == ["subnet_50", "subnet_80"]
    for mask in find_masks(model):
        assert not (mask.read()[1][1] & ~mask.read()[1][0]).any()


def test_layers_may_have_sparsities_that_all_sub_nets_share():
    model = sparsify(mlp(), [0.5, 0.75], distribution={"a/": 0.25}, initial="random")
    assert [[s.density for s in mask.subnets] for mask in find_masks(model)] == [
        [0.75, 0.75],
        [0.5, 0.25],
    ]


def test_sub_nets_of_different_n_m():
    model = sparsify(residual(), scheme=["2:4", NM(1, 4), "1:8"], initial="random")
    assert model.subnets == ["subnet_50", "subnet_75", "subnet_87_5"]
    assert [mask.kernel_path.split("/")[-2] for mask in find_masks(model)] == [
        "conv",
        "project",
        "fc",
    ]
    for mask in find_masks(model):
        for subnet, (n, m) in zip(mask.subnets, [(2, 4), (1, 4), (1, 8)], strict=True):
            assert subnet.sparsity == 1 - n / m and repr(subnet.scheme) == f"NM(n={n}, m={m})"
            kernel, kept = subnet.read()
            canonical = subnet.layout.to_canonical(kept)
            groups = canonical.reshape(len(canonical), -1, m, canonical.shape[-1])
            assert (groups.sum(axis=2) == n).all()
            assert is_pruned_m_by_n(tf.constant(kernel), m_by_n=(m - n, m))
        assert not is_pruned_m_by_n(tf.constant(mask.read()[0]), m_by_n=(7, 8))


def test_sub_nets_of_different_schemes():
    model = sparsify(
        mlp(), [0.5, 0.75, 0.5 + 0.125], ["2:4", Block(outputs=4), "channel"], initial="random"
    )
    for mask in find_masks(model):
        n_m, block, channel = (subnet.read()[1] for subnet in mask.subnets)
        assert (n_m.reshape(-1, 4, 16).sum(axis=1) == 2).all()
        assert block.mean() == 0.25 and channel.mean() == 0.375
        blocks = block.reshape(-1, 4, 4)
        assert (blocks == blocks[..., :1]).all()
        assert (channel == channel[:, :1]).all()


def test_a_scheme_fixes_the_sparsity_of_its_own_sub_net_only():
    assert sparsify(mlp(), scheme=["unstructured", "2:4"]).subnets == ["subnet_90", "subnet_50"]
    assert sparsify(mlp(), [0.75, 0.5], ["unstructured", "2:4"]).subnets[1] == "subnet_50"
    message = r"`sparsity` must be 0.5, or left out, with scheme NM\(n=2, m=4\). Received: 0.75"
    for scheme in (["unstructured", "2:4"], "2:4"):
        with pytest.raises(ValueError, match=message):
            sparsify(mlp(), [0.5, 0.75], scheme)


def test_a_list_of_one_is_one_sub_net():
    plain = mlp()
    one, same = sparsify(plain, [0.75], ["block"]), sparsify(plain, 0.75, "block")
    assert one.subnets == ["subnet_75"] and one.switch is None
    assert one.get_config() == same.get_config()
    assert type(one.get_layer("norm")) is FusedBatchNormalization
    for mask, other in zip(find_masks(one), find_masks(same), strict=True):
        np.testing.assert_array_equal(mask.read()[1], other.read()[1])


@pytest.mark.parametrize(
    "sparsity, scheme, message",
    [
        ([0.5, 0.75, 0.5], "unstructured", r"`sparsity` must differ .*: \[0.5, 0.75, 0.5\]"),
        ([0.9001, 0.9002], "unstructured", r"`sparsity` must differ .*: \[0.9001, 0.9002\]"),
        (0.5, ["block", "unstructured"], r"`sparsity` must differ .*: \[0.5, 0.5\]"),
        (None, ["block", "unstructured"], r"`sparsity` must differ .*: \[0.9, 0.9\]"),
        (None, ["2:4", "4:8"], r"`sparsity` must differ .*: \[0.5, 0.5\]"),
        ([0.5, 0.75], ["block"] * 3, "`scheme` and `sparsity` must each be a single value"),
        ([0.5], ["block"] * 2, "`scheme` and `sparsity` must each be a single value"),
        ([], "block", "`scheme` and `sparsity` must each be a single value"),
        ([0.5, 1.0], "block", r"`sparsity` must be a number in \[0, 1\). Received: 1.0"),
        ([0.5, None], "block", r"`sparsity` must be a number .* Received: None"),
        ([0.5, 0.875], ["block", "1:7"], "`sparsity` must be 0.857"),
        (None, ["block", "1:7"], "layers that NM.* cannot divide, .*8 inputs"),
    ],
)
def test_wrong_sub_nets_are_refused(sparsity, scheme, message):
    with pytest.raises(ValueError, match=message):
        sparsify(mlp(), sparsity, scheme)


def test_every_normalization_gets_a_set_for_each_sub_net():
    plain = randomize(residual())
    model = sparsify(plain, SPARSITIES)
    originals, layers = by_name(plain), by_name(model)
    names = [name for name in originals if name.endswith("_norm")]
    assert len(names) == 4
    for name in names:
        layer, original = layers[name], originals[name]
        assert type(layer) is SwitchableBatchNormalization and layer.switch is model.switch
        assert (layer.subnets, layer.trainable) == (3, original.trainable)
        for stacked, weight in zip(layer.variables, original.variables, strict=True):
            np.testing.assert_array_equal(stacked, np.stack([weight.numpy()] * 3))
    assert not any(isinstance(x, L.BatchNormalization) for x in layers.values())


@keras.saving.register_keras_serializable("test_sparsify_subnets")
class OwnNormalization(L.BatchNormalization):
    """A normalization of which sub-nets cannot have one each."""


@pytest.mark.parametrize(
    "layer",
    [
        OwnNormalization(name="norm"),
    ],
)
def test_normalizations_that_cannot_be_switched_are_refused_by_name(layer):
    inputs = keras.Input((3, 8))
    x = layer(L.Dense(16, name="a")(inputs))
    model = keras.Model(inputs, L.Dense(4, name="head")(x))
    with pytest.raises(ValueError, match=f"Keras' own class.*norm, a {type(layer).__name__}"):
        sparsify(model, SPARSITIES)
    # With one sub-net, it need not be switched.
    assert type(sparsify(model, 0.5).get_layer("norm")) is type(layer)


def test_sub_nets_that_a_distribution_makes_alike_are_refused():
    with pytest.raises(ValueError, match="`sparsity` must differ.*'subnet_75', 'subnet_75'"):
        sparsify(mlp(), [0.5, 0.6], distribution={".*": 0.75})


def test_a_wrapped_model_can_have_sub_nets_too():
    model = sparsify(wrap(residual()), SPARSITIES)
    assert not any(isinstance(x, L.BatchNormalization) for x in by_name(model).values())


def test_attention_has_sub_nets_in_every_projection():
    inputs = keras.Input((6, 8))
    x = L.MultiHeadAttention(2, 4, name="mha")(inputs, inputs)
    plain = keras.Model(inputs, L.Dense(2, name="head")(x))
    model = sparsify(plain, [0.5, 0.75], distribution={"mha/query": 0.25}, initial="random")
    assert model.get_layer("mha").sparsity == {
        "query": [0.25, 0.25],
        "key": [0.5, 0.75],
        "value": [0.5, 0.75],
        "output": [0.5, 0.75],
    }
    assert [[s.density for s in mask.subnets] for mask in find_masks(model)] == [
        [0.75, 0.75],
        *[[0.5, 0.25]] * 3,
    ]
    for subnet in range(2):
        model.activate(subnet)
        assert_same_outputs(densify(model, subnet), model)


@pytest.mark.parametrize("name", MODELS)
def test_densify_takes_one_sub_net_out(name):
    model = randomize(sparsify(MODELS[name](), SPARSITIES, dense=(), initial="random"))
    model.activate(1)
    plains = [densify(model, subnet) for subnet in range(3)]
    assert model.active == 1
    for subnet, plain in enumerate(plains):
        assert type(plain) is not SparseModel and not find_masks(plain)
        assert all(type(x).__module__.startswith("keras.") for x in plain._flatten_layers())
        assert plain.count_params() == MODELS[name]().count_params()
        with model.at(subnet):
            assert_same_outputs(model, plain)
        for mask in find_masks(model):
            layer = by_name(plain)[mask.kernel_path.split("/")[-2]]
            np.testing.assert_array_equal(layer.kernel, mask.subnets[subnet].read()[0])
    outputs = [plain(inputs_of(model)).numpy() for plain in plains]
    assert np.abs(outputs[0] - outputs[1]).max() > 1e-2 < np.abs(outputs[1] - outputs[2]).max()
    # Without an index it is the active one.
    assert_same_outputs(plains[1], densify(model), rtol=0, atol=0)


def test_a_sub_net_taken_out_keeps_what_is_frozen():
    plain = densify(sparsify(residual(), SPARSITIES, initial="random"), 2)
    norm = by_name(plain)["project_norm"]
    assert type(norm) is L.BatchNormalization and not norm.trainable
    assert by_name(plain)["stem_norm"].trainable


@pytest.mark.parametrize("subnet", [-1, 3, True, 0.0, "subnet_50"])
def test_a_sub_net_that_is_not_there_is_refused(subnet):
    with pytest.raises(ValueError, match="`subnet` must be .* less than 3. Received: "):
        densify(sparsify(mlp(), SPARSITIES), subnet)


@pytest.mark.parametrize("build", [mlp, lambda: wrap(mlp()), lambda: sparsify(mlp(), 0.5)])
def test_models_of_no_or_one_sub_net_have_the_first(build):
    model = randomize(build())
    assert_same_outputs(densify(model, 0), densify(model), rtol=0, atol=0)
    assert_same_outputs(densify(model, 0), model)
    with pytest.raises(ValueError, match="`subnet` must be .* less than 1. Received: 1"):
        densify(model, 1)


@pytest.mark.parametrize("name", MODELS)
def test_sub_nets_are_saved_and_loaded(name, tmp_path):
    model = randomize(sparsify(MODELS[name](), None, ["2:4", "1:4", "1:8"], initial="random"))
    model.activate(2)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.subnets == model.subnets and loaded.active == 2
    for mask, other in zip(find_masks(model), find_masks(loaded), strict=True):
        assert mask.kernel_path == other.kernel_path
        assert [(repr(s.scheme), s.sparsity) for s in mask.subnets] == [
            (repr(s.scheme), s.sparsity) for s in other.subnets
        ]
    for one, two in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(one, two)
    for subnet in range(3):
        with model.at(subnet), loaded.at(subnet):
            assert_same_outputs(model, loaded, rtol=0, atol=0)


def test_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = sparsify(mlp(), SPARSITIES, initial="random")
    finally:
        keras.config.set_dtype_policy("float32")
    norm = model.get_layer("norm")
    assert norm.compute_dtype == "float16" and norm.variables[0].dtype == "float32"
    randomize(model)
    for subnet in range(3):
        with model.at(subnet):
            assert_same_outputs(model, densify(model, subnet), rtol=1e-2, atol=1e-2)
