"""From plain Keras models to sparse ones and back: what changes, and what must not."""

import keras
import numpy as np
import pytest

from spfde_keras import SparseModel, densify, layers, sparsify, wrap
from spfde_keras.layers.batch_norm import FusedBatchNormalization
from spfde_keras.masking import find_masks

L = keras.layers
IMAGE = (8, 8, 4)


def cnn():
    return keras.Sequential(
        [
            keras.Input(IMAGE),
            L.Conv2D(8, 3, name="conv1"),
            L.BatchNormalization(name="norm"),
            L.Conv2D(8, 3, activation="relu", name="conv2"),
            L.GlobalAveragePooling2D(name="pool"),
            L.Dense(16, name="fc"),
            L.Dense(3, name="head"),
        ],
        name="cnn",
    )


def nested():
    """A functional model around a functional one around a Sequential one."""
    inner_inputs = keras.Input(IMAGE)
    stem = keras.Sequential([L.Conv2D(4, 3, padding="same", name="stem_conv")], name="stem")
    x = L.Add(name="add")([stem(inner_inputs), inner_inputs])
    backbone = keras.Model(inner_inputs, L.Conv2D(4, 1, name="project")(x), name="backbone")
    inputs = keras.Input(IMAGE)
    x = L.Flatten()(backbone(inputs))
    head = keras.Sequential([L.Dense(6, name="hidden"), L.Dense(2, name="logits")], name="head")
    return keras.Model(inputs, head(x), name="nested")


def shared():
    """A layer called twice, and a nested model one of whose layers is used outside it too."""
    one, two = keras.Input((8,), name="one"), keras.Input((8,), name="two")
    twin = L.Dense(8, name="twin")
    inner = keras.Model(one, L.Dense(8, name="inner_fc")(twin(one)), name="inner")
    x = L.Concatenate()([inner(one), inner(two), twin(two)])
    return keras.Model([one, two], L.Dense(2, name="head")(x + 1.0))


def dictionaries():
    """Dictionary in, dictionary out, two classifiers."""
    inputs = {"image": keras.Input(IMAGE, name="image"), "extra": keras.Input((5,), name="extra")}
    x = L.Flatten()(L.Conv2D(4, 3, name="conv")(inputs["image"]))
    x = L.Concatenate()([L.Dense(6, name="trunk")(x), L.Dense(6, name="side")(inputs["extra"])])
    outputs = {
        "kind": L.Softmax()(L.Dense(3, name="kind_head")(x)),
        "size": L.Dense(1, name="size_head")(x),
    }
    return keras.Model(inputs, outputs)


def transformer():
    inputs = keras.Input((6, 8))
    x = L.MultiHeadAttention(2, 4, dropout=0.1, name="mha")(inputs, inputs)
    x = L.LayerNormalization(name="ln")(L.Add()([x, inputs]))
    x = L.EinsumDense("abc,cd->abd", (6, 8), name="einsum")(x)
    return keras.Model(inputs, L.Dense(2, name="head")(L.Flatten()(x)))


MODELS = {
    "cnn": cnn,
    "nested": nested,
    "shared": shared,
    "dictionaries": dictionaries,
    "transformer": transformer,
}


def randomized(build):
    """A model whose every variable, statistics included, is away from its initial value."""
    model = build()
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(random.uniform(0.1, 1.0, weight.shape) * random.choice([-1, 1], weight.shape))
        if "variance" in weight.path:
            weight.assign(np.abs(weight))
    return model


def inputs_of(model):
    random = np.random.default_rng(1)
    inputs = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    return keras.tree.map_structure(
        lambda x: random.normal(size=(3, *x.shape[1:])).astype("float32"), inputs
    )


def assert_same_outputs(model, other, **tolerance):
    outputs = model(inputs_of(model)), other(inputs_of(model))
    keras.tree.assert_same_structure(*outputs)
    for one, two in zip(*map(keras.tree.flatten, outputs), strict=True):
        np.testing.assert_allclose(one, two, **({"rtol": 1e-4, "atol": 1e-5} | tolerance))


def by_name(model):
    """Leaf layers by name, nested ones included."""
    return {layer.name: layer for layer in model._flatten_layers()}


def paths(model):
    return [mask.kernel_path.split("/kernel")[0] for mask in find_masks(model)]


def train(model):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01), loss)
    x = inputs_of(model)
    model.fit(x, np.arange(3) % 2, batch_size=2, epochs=2, verbose=0)


@pytest.mark.parametrize("name", MODELS)
def test_without_masks_the_outputs_stay(name):
    model = randomized(MODELS[name])
    assert_same_outputs(model, wrap(model))
    assert_same_outputs(model, sparsify(model, 0.5, initial="dense"))


@pytest.mark.parametrize("name", MODELS)
def test_weights_are_kept_where_unmasked(name):
    model = randomized(MODELS[name])
    sparse = sparsify(model, 0.5, dense=())
    originals = {weight.path.split("/", 1)[-1]: weight for weight in model.weights}
    originals |= {weight.path: weight for weight in model.weights}
    masked = {id(mask.kernel): mask.read()[1][0] for mask in find_masks(sparse)}
    masks = {id(variable) for mask in find_masks(sparse) for variable in mask.variables}
    checked = 0
    for weight in sparse.weights:
        if id(weight) in masks:
            continue
        expected = originals[weight.path].numpy()
        kept = masked.get(id(weight), np.ones(expected.shape, bool))
        np.testing.assert_array_equal(weight, np.where(kept, expected, 0))
        checked += 1
    assert checked == len(model.weights)
    assert all(mask.density == 0.5 for mask in find_masks(sparse))


@pytest.mark.parametrize("name", MODELS)
def test_densify_gives_plain_keras_back(name):
    model = randomized(MODELS[name])
    sparse = sparsify(model, 0.5, dense=())
    plain = densify(sparse)
    assert type(plain) is not SparseModel and not find_masks(plain)
    assert all(type(layer).__module__.startswith("keras.") for layer in plain._flatten_layers())
    assert not any(isinstance(x, FusedBatchNormalization) for x in plain._flatten_layers())
    assert_same_outputs(sparse, plain)
    assert plain.count_params() == model.count_params()
    # Of a model that is plain already it is a copy.
    again = densify(plain)
    assert_same_outputs(plain, again, rtol=0, atol=0)
    assert not {id(x) for x in plain.weights} & {id(x) for x in again.weights}


# Keras itself cannot load a model that shares a layer with a model inside it.
@pytest.mark.parametrize("name", [name for name in MODELS if name != "shared"])
def test_a_sparse_model_is_saved_and_loaded(name, tmp_path):
    sparse = sparsify(randomized(MODELS[name]), 0.5)
    sparse.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is SparseModel
    assert loaded.left_dense == sparse.left_dense
    # Names decide random streams and plans: they must survive.
    assert paths(loaded) == paths(sparse)
    for mask, other in zip(find_masks(sparse), find_masks(loaded), strict=True):
        np.testing.assert_array_equal(mask.read()[0], other.read()[0])
        np.testing.assert_array_equal(mask.read()[1], other.read()[1])
        one, two = mask.subnets[0], other.subnets[0]
        assert (one.sparsity, repr(one.scheme)) == (two.sparsity, repr(two.scheme))
    assert_same_outputs(sparse, loaded, rtol=0, atol=0)


@pytest.mark.parametrize(
    "name, dense",
    [
        ("cnn", {"conv1": "first convolution", "head": "classifier (last layer)"}),
        ("nested", {"stem_conv": "first convolution", "logits": "classifier (last layer)"}),
        ("shared", {"head": "classifier (last layer)"}),
        (
            "dictionaries",
            {
                "conv": "first convolution",
                "kind_head": "classifier (last layer)",
                "size_head": "classifier (last layer)",
            },
        ),
        ("transformer", {"head": "classifier (last layer)"}),
    ],
)
def test_first_convolution_and_classifier_stay_dense(name, dense):
    sparse = sparsify(MODELS[name](), 0.5)
    assert sparse.left_dense == dense
    masked = set(paths(sparse))
    assert not masked & set(dense) and masked


def test_every_output_has_one_nearest_classifier():
    """A skip connection past the last convolution does not make earlier ones classifiers."""
    inputs = keras.Input(IMAGE)
    x = inputs
    for name in "abc":
        x = L.Add()([x, L.Conv2D(4, 1, name=name)(x)])
    assert set(sparsify(keras.Model(inputs, x)).left_dense) == {"a", "c"}


def test_the_classifier_of_the_output_that_is_used():
    inner_inputs = keras.Input((8,))
    x = L.Dense(8, name="trunk")(inner_inputs)
    both = [L.Dense(2, name="used")(x), L.Dense(2, name="unused")(x)]
    inner = keras.Model(inner_inputs, both, name="inner")
    inputs = keras.Input((8,))
    sparse = sparsify(keras.Model(inputs, inner(inputs)[0]), 0.5)
    assert set(sparse.left_dense) == {"used"}


def test_layers_without_masked_form_stay_dense(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((7,), dtype="int32"),
            L.Embedding(10, 8, name="embedding"),
            L.PReLU(name="prelu"),
            L.Flatten(),
            L.Dense(8, name="fc"),
            L.Dense(2, name="head"),
        ]
    )
    reasons = {
        "embedding": "Embedding has no masked form",
        "prelu": "PReLU has no masked form",
        "head": "classifier (last layer)",
    }
    sparse = sparsify(model, 0.5)
    assert sparse.left_dense == reasons
    sparse.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").left_dense == reasons
    # Naming one that stays dense anyway is no mistake.
    assert sparsify(model, 0.5, dense=["prelu", "last"]).left_dense == reasons


class Twice(keras.Model):
    """A subclassed model."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.fc = L.Dense(8)

    def call(self, inputs):
        return self.fc(self.fc(inputs))


def test_a_subclassed_model_inside_is_masked_inside():
    inputs = keras.Input((8,))
    x = L.Dense(8, name="fc")(Twice(name="twice")(inputs))
    model = randomized(lambda: keras.Model(inputs, L.Dense(2, name="head")(x)))
    sparse = sparsify(model, 0.5, initial="dense")
    paths = [mask.kernel_path for mask in find_masks(sparse)]
    assert paths[0].startswith("twice/") and len(paths) == 2
    assert_same_outputs(model, sparse)


@pytest.mark.parametrize("function", [sparsify, wrap, densify])
def test_models_without_a_graph_are_refused(function):
    for model, message in [
        (Twice(), "must have been called once on a batch .* Received: Twice"),
        (keras.Sequential([L.Dense(2)]), "must know its input shape: start it with keras.Input"),
        (L.Dense(2), "must be a keras.Model. Received: Dense"),
        (None, "must be a keras.Model. Received: NoneType"),
    ]:
        with pytest.raises(ValueError, match=message):
            function(model)


def test_a_sequential_model_built_by_data_is_accepted():
    model = keras.Sequential([L.Dense(8, name="fc"), L.Dense(2, name="head")])
    model(np.ones((1, 8)))
    assert paths(sparsify(model, 0.5)) == ["fc"]


def test_shared_layers_stay_shared():
    model = randomized(shared)
    for copy in (wrap(model), sparsify(model, 0.5), densify(sparsify(model, 0.5))):
        assert len([x for x in copy.weights if "mask" not in x.path]) == len(model.weights)
    twin = [mask for mask in find_masks(sparsify(model, 0.5)) if "twin" in mask.kernel_path]
    assert len(twin) == 1


def test_a_layer_called_twice_is_saved_once(tmp_path):
    inputs = keras.Input((8,))
    twin = L.Dense(8, name="twin")
    sparse = sparsify(keras.Model(inputs, L.Dense(2, name="head")(twin(twin(inputs)))), 0.5)
    sparse.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert paths(loaded) == ["twin"]
    assert_same_outputs(sparse, loaded, rtol=0, atol=0)


def test_frozen_layers_stay_frozen():
    model = nested()
    model.get_layer("backbone").trainable = False
    by_name(model)["hidden"].trainable = False
    sparse = sparsify(model, 0.5, dense=())
    assert [x.path for x in sparse.trainable_weights] == ["logits/kernel", "logits/bias"]
    assert len(find_masks(sparse)) == 4
    assert [x.path for x in densify(sparse).trainable_weights] == ["logits/kernel", "logits/bias"]


def test_the_model_given_is_left_alone():
    model = randomized(cnn)
    train(model)
    weights, optimizer = model.get_weights(), model.optimizer
    sparse = sparsify(model, 0.5)
    train(sparse)
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert model.optimizer is optimizer and model.compiled
    assert type(model.get_layer("norm")) is L.BatchNormalization


@pytest.mark.parametrize("name", ["cnn", "nested", "transformer"])
def test_compiled_and_trained_models_go_both_ways(name):
    model = MODELS[name]()
    train(model)
    sparse = sparsify(model, 0.5)
    assert not sparse.compiled
    before = [mask.read()[1] for mask in find_masks(sparse)]
    train(sparse)
    for mask, masks in zip(find_masks(sparse), before, strict=True):
        np.testing.assert_array_equal(mask.read()[1], masks)
        assert not mask.read()[0][~masks[0]].any()
    plain = densify(sparse)
    assert type(plain) is not SparseModel and not plain.compiled
    assert_same_outputs(sparse, plain)


@pytest.fixture
def mixed_float16():
    """The global policy: Keras saves with a model neither it nor its scaling of the loss."""
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy("float32")


def test_batch_normalization_is_fused_and_comes_back():
    sparse = sparsify(cnn(), 0.5)
    assert type(sparse.get_layer("norm")) is FusedBatchNormalization
    assert type(densify(sparse).get_layer("norm")) is L.BatchNormalization


def test_mixed_precision(tmp_path, mixed_float16):
    sparse = sparsify(cnn(), 0.5)
    assert sparse.get_layer("fc").compute_dtype == "float16"
    train(sparse)
    sparse.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_same_outputs(sparse, loaded, rtol=0, atol=0)
    for one, two in zip(sparse.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one, two)
    assert_same_outputs(sparse, densify(sparse), rtol=1e-2, atol=1e-2)


def test_attention_shares_its_sparsity_by_projection():
    sparse = sparsify(transformer(), 0.5, distribution={"mha/query": 0.75})
    layer = sparse.get_layer("mha")
    assert type(layer) is layers.MaskedMultiHeadAttention
    assert layer.sparsity == {"query": 0.75, "key": 0.5, "value": 0.5, "output": 0.5}
    assert layer.masks[0].density == 0.25
