"""Each measure, by hand or against plain NumPy in double precision."""

import types
import warnings

import keras
import numpy as np
import pytest

from spfde_keras import DataSieve, sparsify, wrap
from spfde_keras.analyses import masks, similarity
from spfde_keras.analyses.activations import layer_grams
from spfde_keras.analyses.cka import cka, half
from spfde_keras.analyses.forgetting import Forgetting
from spfde_keras.analyses.gradients import norms
from spfde_keras.analyses.subject import Subject

L = keras.layers


def cka_of_features(one, other):
    """Linear CKA by its definition, of features (samples, ...)."""
    one, other = (x.reshape(len(x), -1).astype("float64") for x in (one, other))
    one, other = one - one.mean(axis=0), other - other.mean(axis=0)
    norm = np.linalg.norm
    return norm(one.T @ other) ** 2 / (norm(one.T @ one) * norm(other.T @ other))


def gram(features):
    flat = features.reshape(len(features), -1) - features.reshape(len(features), -1).mean(axis=0)
    return half(flat @ flat.T)


def of_training(model):
    layers = [[layer] for layer in model.layers if layer.weights]
    return Subject(types.SimpleNamespace(model=model, seed=0, sieve=None, blocks=layers))


def test_the_larger_half_of_the_weights_that_are_not_zero():
    weights = np.array([0.0, 3.0, -5.0, 0.0, 1.0, -2.0, 0.5])
    assert np.flatnonzero(similarity.largest(weights)).tolist() == [1, 2, 5]
    assert not similarity.largest(np.zeros(4)).any()


def test_similarity_is_the_share_in_common():
    one, other = np.array([1, 1, 1, 1, 0, 0], bool), np.array([0, 1, 1, 0, 0, 0], bool)
    assert similarity.similarity(one, other) == 2 * 2 / (4 + 2)
    assert similarity.similarity(one, one) == 1
    assert similarity.similarity(one, ~one) == 0
    assert np.isnan(similarity.similarity(one & ~one, one & ~one))


def test_overlap_is_what_masks_have_in_common_of_what_either_keeps():
    before, now = np.array([1, 1, 1, 0, 0], bool), np.array([0, 1, 1, 1, 0], bool)
    assert masks.overlap(before, now) == 2 / 4
    assert np.isnan(masks.overlap(before & ~before, now & ~now))


def test_cka_of_grams_is_that_of_features():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(9, 4, 3)), rng.normal(size=(9, 20))
    mixed = 5 * np.concatenate([one.reshape(9, -1) @ rng.normal(size=(12, 12)), other], axis=1) + 7
    for first, second in [(one, other), (one, mixed), (one, one)]:
        found = cka(gram(first), gram(second))
        assert found == pytest.approx(cka_of_features(first, second), abs=1e-12)
    assert cka(gram(one), gram(one)) == 1


def test_cka_does_not_apply_where_all_samples_are_alike():
    alike, others = np.ones((3, 4)), np.eye(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(cka(gram(alike), gram(others)))


def test_cka_of_many_at_once():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2, 3, 5, 7))
    grams = np.stack([[gram(x) for x in row] for row in features])
    found = cka(grams, grams[-1:])
    assert found.shape == (2, 3) and found[1].tolist() == [1, 1, 1]
    assert found[0, 2] == pytest.approx(cka_of_features(features[0, 2], features[1, 2]))


class Counting(L.Layer):
    """Changes whenever it is called, also when nothing is trained."""

    def build(self, shape):
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x):
        self.calls.assign_add(1)
        return x


def test_grams_of_layers_are_those_of_their_outputs():
    net = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            L.Conv2D(3, 3, activation="relu", name="conv"),
            L.BatchNormalization(),
            Counting(),
            L.Flatten(),
            L.Dense(5, name="fc"),
        ]
    )
    model = sparsify(net, 0.5, dense=())
    probe = np.random.default_rng(0).normal(size=(7, 6, 6, 2)).astype("float32")
    subject = of_training(model)
    assert [kernel.name for kernel in subject.kernels] == ["conv", "fc"]
    layers = [kernel.layer for kernel in subject.kernels]
    before = [variable.numpy() for variable in model.variables]
    for layer, found in zip(layers, layer_grams(model, layers, probe), strict=True):
        with keras.StatelessScope():
            outputs = keras.Model(model.inputs, model.get_layer(layer.name).output)(probe)
        expected = gram(np.asarray(outputs, "float64"))
        np.testing.assert_allclose(half(found), expected, rtol=1e-4, atol=1e-4)
        assert "call" not in vars(layer)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_outputs_of_several_calls_count_together():
    shared, x = L.Dense(4, name="shared"), keras.Input((4,))
    model = wrap(keras.Model(x, shared(keras.ops.relu(shared(x)))))
    probe = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    layer = model.get_layer("shared")
    first = np.asarray(layer(probe), "float64")
    both = np.concatenate([first, np.asarray(layer(np.maximum(first, 0)), "float64")], axis=1)
    (found,) = layer_grams(model, [layer], probe)
    np.testing.assert_allclose(half(found), gram(both), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", [lambda net: sparsify(net, 0.5, dense=()), wrap])
def test_kernels_inside_of_layers_and_several_in_one(make):
    x = keras.Input((6, 4))
    y = L.MultiHeadAttention(2, 3, name="mha")(x, x)
    y = L.LSTM(5, name="lstm")(y)
    y = L.Reshape((5, 1))(y)
    y = L.SeparableConv1D(3, 2, name="sep")(y)
    model = make(keras.Model(x, L.Dense(2, name="fc")(L.Flatten()(y))))
    subject = of_training(model)
    names = [f"mha/{name}" for name in ("query", "key", "value", "attention_output")]
    names += ["lstm/lstm_cell", "lstm/lstm_cell/recurrent_kernel"]
    assert {kernel.name for kernel in subject.kernels} >= {*names, "sep/pointwise_kernel", "fc"}
    probe = np.random.default_rng(0).normal(size=(3, 6, 4)).astype("float32")
    grams = layer_grams(model, [kernel.layer for kernel in subject.kernels], probe)
    assert all(found is not None and found.shape == (3, 3) for found in grams)


def test_bits_come_back_as_they_were():
    model = sparsify(
        keras.Sequential([keras.Input((3,)), L.Dense(3), L.Dense(5)]), [0.5, 0.7], dense=()
    )
    subject = of_training(model)
    kept = subject.kept()
    assert subject.pack(kept).shape == subject.bits_shape == (2, 3)
    for one, other in zip(subject.unpack(subject.pack(kept)), kept, strict=True):
        for found, expected in zip(one, other, strict=True):
            np.testing.assert_array_equal(found, expected)


def test_norms_in_double_precision():
    assert norms([np.array([[3.0, 4.0]], "float32"), np.full(2, 1e30, "float32")]).tolist() == (
        [5.0, pytest.approx(2**0.5 * 1e30)]
    )


def seen(sieve, *visits):
    """Lets the samples 0, 1, ... be right (1) or wrong (0) at each visit."""
    for visit in visits:
        ids = np.arange(len(visit))
        sieve.count(ids, keras.ops.convert_to_tensor(np.array(visit, bool)))


def test_forgetting_by_hand():
    # Sample 5 is out of training at first, and one of the others later.
    sieve = DataSieve((np.zeros((6, 2)), np.arange(6) % 2), fraction=1 / 6)
    sieve.queue.assign([5])
    sieve.member.assign(np.arange(6) != 5)
    measure = Forgetting(types.SimpleNamespace(seed=0, sieve=sieve), 3)
    measure.start()
    # 0: never forgotten; 1: forgotten twice; 2: once; 3: never learned; 4: learned late.
    seen(sieve, [1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 0, 0, 0, 1])
    measure.before(0)
    assert sieve.update(1, 0.3)
    assert not sieve.forgets.numpy().any()  # so that they must have been added up before
    measure.after(0)
    out = int(sieve.queue.numpy()[0])
    seen(sieve, [1, 1, 0, 0, 1], [1, 0, 0, 0, 1])
    measure.before(1)
    measure.after(1)
    found = measure.of_run(2)["forgetting"]
    assert found["histogram"][0].tolist() == [3, 1, 1] + [0] * 8
    assert found["histogram"][1].sum() == 5
    assert found["histogram"][1][1] == (out != 1)
    assert found["never_forgotten"].tolist() == [2, 2]
    assert found["never_learned"].tolist() == [1, 1]  # 5 is in training since, but was not visited
    easiest, hardest = found["easiest"].tolist(), found["hardest"].tolist()
    assert set(easiest[:2]) == {0, 4} and sorted(easiest) == [0, 1, 2, 4]
    assert hardest[0] == 3 and set(hardest[1:3]) == {1, 2}


def test_ten_events_or_more_count_together():
    sieve = DataSieve((np.zeros((2, 2)), np.arange(2) % 2), fraction=0.0)
    measure = Forgetting(types.SimpleNamespace(seed=0, sieve=sieve), 1)
    seen(sieve, *[[1, 1], [0, 0]] * 9, *[[1, 1], [0, 1]] * 4)
    measure.before(0)
    assert measure.of_run(1)["forgetting"]["histogram"].tolist() == [[0] * 9 + [1, 1]]
