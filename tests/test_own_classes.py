"""What users' own classes of models override is kept in training, or refused by name."""

import keras
import numpy as np
import pytest
from keras import layers

from spfde_keras import AlternatingSparseTraining, DataSieve, SpFDE, densify, sparsify, wrap

X = np.random.default_rng(0).normal(size=(16, 8)).astype("float32")
Y = np.zeros((16, 2), "float32")


def graph():
    inputs = keras.Input((8,))
    x = layers.Dense(8, "relu")(layers.Dense(8, "relu")(inputs))
    return inputs, layers.Dense(2)(x)


class OwnLoss(keras.Model):
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        assert not isinstance(x, tuple)
        return 1000.0 + super().compute_loss(x, y, y_pred, sample_weight, training)


class OwnCall(keras.Model):
    def call(self, inputs, training=None, mask=None):
        return 10 * super().call(inputs, training=training, mask=mask)


class OwnStep(keras.Model):
    """Counts its steps, and reports nothing of what it predicts."""

    def train_step(self, data):
        x, y = data
        y_pred = self(x, training=True)
        return {"loss": self.compute_loss(x=x, y=y, y_pred=y_pred), "own": keras.ops.ones(())}


class OnlyBuilt(keras.Model):
    """Overrides nothing that its graph does not have."""

    def __init__(self):
        super().__init__(*graph())


class BuiltWithLoss(OwnLoss):
    def __init__(self):
        super().__init__(*graph())


class OwnSequential(keras.Sequential):
    def train_step(self, data):
        raise AssertionError


class OwnCompile(keras.Model):
    def compile(self, optimizer, **kwargs):
        super().compile(optimizer, **kwargs | {"loss": "mae"})


MAKERS = [wrap, lambda model: sparsify(model, 0.5)]


@pytest.mark.parametrize("make", MAKERS)
def test_an_own_loss_is_trained(make):
    made = make(OwnLoss(*graph()))
    made.compile("sgd", "mse")
    history = made.fit(X, Y, epochs=2, verbose=0, callbacks=[SpFDE(2, "set", 1)]).history
    assert min(history["loss"]) > 1000
    sieve = DataSieve((X, np.zeros(16, "int32")), 0.25)
    made.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    callback = SpFDE(1, "rigl" if made.subnets else "static", 1, sieve=sieve)
    assert min(made.fit(sieve.batches(4), verbose=0, callbacks=[callback]).history["loss"]) > 1000


@pytest.mark.parametrize("make", [*MAKERS, densify])
def test_an_own_call_is_called(make):
    model = OwnCall(*graph())
    plain = keras.Model(model.input, model.output)
    made = make(model)
    if make is not MAKERS[1]:
        np.testing.assert_allclose(made(X), 10 * np.asarray(plain(X)), rtol=1e-5)
    dense = densify(made)
    assert type(dense) is OwnCall
    np.testing.assert_allclose(dense(X), made(X), rtol=1e-5)


def test_an_own_step_is_run_where_nothing_must_be_known_of_it():
    model = sparsify(OwnStep(*graph()), 0.5)
    model.compile("sgd", "mse")
    history = model.fit(X, Y, epochs=2, verbose=0, callbacks=[SpFDE(2, "set", 1)]).history
    assert history["own"] == [1.0, 1.0]
    for updater in ("rigl", "mest_ems"):
        with pytest.raises(ValueError, match="`compute_loss` instead. Received: SparseOwnStep"):
            model.fit(X, Y, epochs=2, verbose=0, callbacks=[SpFDE(2, updater, 1)])
    sieve = DataSieve((X, np.zeros(16, "int32")), 0.25)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.raises(ValueError, match="must call `self.compute_metrics"):
        callback = SpFDE(1, "set", 1, sieve=sieve)
        model.fit(sieve.batches(4), epochs=1, verbose=0, callbacks=[callback])
    several = sparsify(OwnStep(*graph()), [0.5, 0.75])
    several.compile("sgd", "mse")
    with pytest.raises(ValueError, match="own `train_step`"):
        several.fit(X, Y, verbose=0, callbacks=[AlternatingSparseTraining(1, "set")])


def test_a_class_that_only_builds_is_not_needed():
    made = wrap(OnlyBuilt())
    assert type(made).__name__ == "SparseModel" and made(X).shape == (16, 2)


@pytest.mark.parametrize("make", [*MAKERS, densify])
def test_a_class_that_cannot_be_kept_is_refused_by_name(make):
    with pytest.raises(ValueError, match="BuiltWithLoss, which overrides compute_loss"):
        make(BuiltWithLoss())


def test_a_kept_class_is_saved(tmp_path):
    made = sparsify(OwnCall(*graph()), 0.5)
    made.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(made)
    np.testing.assert_array_equal(loaded(X), made(X))


@pytest.mark.parametrize("make", MAKERS)
def test_what_a_sequential_model_overrides_is_refused(make):
    net = OwnSequential([keras.Input((8,)), layers.Dense(8), layers.Dense(8), layers.Dense(2)])
    with pytest.raises(ValueError, match="not of keras.Sequential.* OwnSequential, which"):
        make(net)


@pytest.mark.parametrize("make", MAKERS)
def test_an_own_compile_is_kept(make):
    made = make(OwnCompile(*graph()))
    made.compile("sgd", loss="mse")
    assert made.loss == "mae"
