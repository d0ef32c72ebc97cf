"""Models as others write them: what they compute, and what they keep frozen, is kept."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from spfde_keras import densify, sparsify, wrap
from spfde_keras.masking import find_masks
from tests.own_layers import Two

SCALE = 3.0


def outputs(model, x):
    return keras.tree.map_structure(ops.convert_to_numpy, model(x))


def adapted_normalization():
    norm = layers.Normalization()
    norm.adapt(np.random.default_rng(0).normal(50, 10, (64, 8)))
    return norm


def nested_normalization():
    return keras.Sequential([keras.Input((8,)), adapted_normalization(), layers.Dense(8)])


class DerivedConstant(layers.Layer):
    """Keeps what `build` is told elsewhere, and no configuration of it."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.offset = 0.0

    def call(self, x):
        return x + self.offset


def derived():
    layer = DerivedConstant()
    layer.offset = 7.0
    return layer


class NoConfig(layers.Layer):
    """As Keras' examples write them: no **kwargs, an inner network, no `get_config`."""

    def __init__(self, units, activation):
        super().__init__()
        self.ffn = keras.Sequential([layers.Dense(units, activation), layers.Dense(8)])

    def call(self, x):
        return x + self.ffn(x)


class Tied(layers.Layer):
    """Uses the kernel of another layer."""

    def __init__(self, other, **kwargs):
        super().__init__(**kwargs)
        self.other = other

    def call(self, x):
        return ops.matmul(x, ops.transpose(self.other.kernel))


class OwnRegularizer(keras.regularizers.Regularizer):
    """Cannot be written down."""

    def __init__(self, function):
        self.function = function

    def __call__(self, weights):
        return self.function(weights)


class Own(layers.Layer):
    def call(self, x):
        return 2 * x


def by_layer(x):
    return Own(name="own")(x)


def by_global(x):
    return SCALE * x


PARTS = {
    "normalization": adapted_normalization,
    "normalization in a nested model": nested_normalization,
    "constant of its own": derived,
    "no get_config": lambda: NoConfig(16, lambda x: ops.maximum(x, 0.1 * x)),
    "lambda with globals": lambda: layers.Lambda(by_global),
    "lambda without output shape": lambda: layers.Lambda(lambda x: SCALE * ops.abs(x)),
    "own activation": lambda: layers.Dense(8, activation=lambda x: SCALE * ops.tanh(x)),
    "own regularizer": lambda: layers.Dense(8, kernel_regularizer=OwnRegularizer(ops.sum)),
    "own constraint": lambda: layers.Dense(8, kernel_constraint=lambda w: ops.clip(w, -1, 1)),
    "own initializer": lambda: layers.Dense(8, kernel_initializer=lambda s, dtype: ops.ones(s)),
}


def around(part):
    """A net with the part in its middle, between kernels that can be masked."""
    inputs = keras.Input((8,))
    x = layers.Dense(8, activation="relu", name="before")(inputs)
    x = layers.Dense(16, activation="relu", name="after")(part(x))
    return keras.Model(inputs, layers.Dense(3, name="head")(x), name="net")


@pytest.mark.filterwarnings("ignore:Layers .* belong to both models")
@pytest.mark.parametrize("name", PARTS)
def test_every_copy_computes_the_same(name):
    model = around(PARTS[name]())
    x = np.random.default_rng(1).normal(size=(4, 8)).astype("float32")
    expected = outputs(model, x)
    for made in (wrap(model), sparsify(model, 0.75, initial="dense"), densify(model)):
        np.testing.assert_allclose(outputs(made, x), expected, rtol=1e-5, atol=1e-6)
    sparse = sparsify(model, 0.75)
    np.testing.assert_allclose(outputs(densify(sparse), x), outputs(sparse, x), rtol=1e-5)
    assert {round(mask.density, 2) for mask in find_masks(sparse)} == {0.25}
    # Whatever Keras' own losses add up to is kept, the regularizer's too.
    assert float(sum(wrap(model).losses)) == pytest.approx(float(sum(model.losses)), rel=1e-6)
    sparse.compile(keras.optimizers.SGD(0.01), "mse")
    assert np.isfinite(sparse.fit(x, np.zeros((4, 3)), verbose=0).history["loss"][0])


def test_adapted_normalization_survives_saving(tmp_path):
    sparse = sparsify(around(adapted_normalization()), 0.75)
    sparse.save(tmp_path / "model.keras")
    x = np.random.default_rng(1).normal(50, 10, (4, 8)).astype("float32")
    restored = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(outputs(restored, x), outputs(sparse, x))


def test_tied_weights_stay_tied():
    inputs = keras.Input((8,))
    encoder = layers.Dense(4, name="encoder")
    model = keras.Model(inputs, Tied(encoder)(layers.Dense(4, name="middle")(encoder(inputs))))
    x = np.ones((2, 8), "float32")
    for made in (wrap(model), sparsify(model, 0.5, dense="encoder", initial="dense")):
        np.testing.assert_allclose(outputs(made, x), outputs(model, x), rtol=1e-6)


def texts():
    data = np.array([["a b"], ["b c"]])
    count = layers.TextVectorization(output_mode="tf_idf")
    count.adapt(data)
    look = layers.StringLookup(output_mode="multi_hot")
    look.adapt(data)
    return keras.Input((1,), dtype="string"), [count, look], data


def numbers():
    look = layers.IntegerLookup(output_mode="multi_hot")
    look.adapt(np.arange(5))
    bins = layers.Discretization(num_bins=3, output_mode="multi_hot")
    bins.adapt(np.arange(5.0))
    return keras.Input((1,), dtype="int64"), [look, bins], np.array([[3], [9]])


@pytest.mark.parametrize("kind", [texts, numbers])
def test_vocabularies_are_kept(kind):
    inputs, preprocessing, data = kind()
    counted = [layers.Flatten()(layer(inputs)) for layer in preprocessing]
    x = layers.Concatenate()([ops.cast(one, "float32") for one in counted])
    model = keras.Model(inputs, layers.Dense(2)(layers.Dense(8)(x)))
    batch = keras.ops.convert_to_tensor(data)
    for made in (wrap(model), sparsify(model, 0.5, initial="dense"), densify(model)):
        np.testing.assert_allclose(outputs(made, batch), outputs(model, batch), rtol=1e-6)


def frozen(name):
    """A model of which the user has frozen a part."""
    inputs = keras.Input((4, 8))
    attention = layers.MultiHeadAttention(2, 4)
    dense, two = layers.Dense(8), Two()
    x = two(dense(attention(inputs, inputs)))
    model = keras.Model(inputs, layers.Dense(2)(x))
    part = {
        "layer": attention,
        "layer inside": two.a,
        "weight": dense.kernel,
        "attention's": attention._query_dense,
        "own layer": two,
    }[name]
    part.trainable = False
    return model


@pytest.mark.filterwarnings("ignore:Layers .* belong to both models")
@pytest.mark.parametrize("name", ["layer", "layer inside", "weight", "attention's", "own layer"])
def test_what_the_user_froze_stays_frozen(name):
    model = frozen(name)
    count = len(model.trainable_variables)
    assert count < len(model.weights)
    for made in (wrap(model), sparsify(model, 0.5), densify(sparsify(model, 0.5))):
        assert len(made.trainable_variables) == count


def test_the_outputs_of_a_layer_are_those_in_its_own_model():
    """Keras tells only a layer's first outputs: of a layer in two models, those of the other."""
    inputs = keras.Input((8,))
    x = layers.Flatten(name="flat")(layers.Dense(8, name="a")(inputs))
    model = keras.Model(inputs, layers.Dense(2)(layers.Dense(8)(by_layer(x))))
    sparse = sparsify(model, 0.75)
    features = keras.Model(sparse.input, sparse.get_layer("flat").output)
    x = np.random.default_rng(1).normal(size=(4, 8)).astype("float32")
    kernel, _ = find_masks(sparse)[0].read()
    np.testing.assert_allclose(features(x), x @ kernel, rtol=1e-5, atol=1e-6)
    # The same of a layer of another class than Keras'.
    own = keras.Model(sparse.input, sparse.get_layer("own").output)
    np.testing.assert_allclose(own(x), 2 * (x @ kernel), rtol=1e-5, atol=1e-6)
