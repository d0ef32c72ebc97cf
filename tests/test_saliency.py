"""Scores of initial weights, against derivatives worked out in NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import spfde_keras
from spfde_keras.distributions import ByScores
from spfde_keras.masking import find_masks
from spfde_keras.saliency import grasp, snip

L = keras.layers
RNG = np.random.default_rng(0)


@pytest.fixture
def line():
    """y = x w, for a mean squared error: gradient and Hessian are known."""
    net = keras.Sequential([keras.Input((3,)), L.Dense(1, use_bias=False, name="line")])
    net.layers[0].kernel.assign([[1.0], [-2.0], [0.5]])
    return net


def derivatives(x, y, w):
    count = len(x)
    return 2 * x.T @ (x @ w - y) / count, 2 * x.T @ x / count


def test_scores_of_a_line(line):
    x, y = RNG.normal(size=(8, 3)), RNG.normal(size=(8, 1))
    w = line.layers[0].kernel.numpy().astype("float64")
    gradient, hessian = derivatives(x, y, w)
    batches = [(x[:6].astype("float32"), y[:6]), (x[6:].astype("float32"), y[6:])]
    found = snip(line, batches, "mse")["line/kernel"]
    np.testing.assert_allclose(found, np.abs(w * gradient), rtol=1e-4)
    found = grasp(line, batches, keras.losses.MeanSquaredError(reduction=None))["line/kernel"]
    np.testing.assert_allclose(found, w * (hessian @ gradient), rtol=1e-4)


def test_sample_weights_count(line):
    x, y, weight = RNG.normal(size=(4, 3)), RNG.normal(size=(4, 1)), np.array([1.0, 0, 0, 3])
    w = line.layers[0].kernel.numpy().astype("float64")
    gradient = 2 * x.T @ (weight[:, None] * (x @ w - y)) / 4
    found = snip(line, [(x.astype("float32"), y, weight)], "mse")["line/kernel"]
    np.testing.assert_allclose(found, np.abs(w * gradient), rtol=1e-4)


@pytest.mark.parametrize("score", [snip, grasp])
def test_masks_are_those_of_the_best_scores_and_the_model_stays(score):
    net = keras.Sequential(
        [keras.Input((6,)), L.Dense(8), L.BatchNormalization(), L.Dropout(0.5), L.Dense(4)]
    )
    before = [value.copy() for value in net.get_weights()]
    x, y = RNG.normal(size=(16, 6)).astype("float32"), RNG.integers(0, 4, 16)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)
    scores = score(net, tf.data.Dataset.from_tensor_slices((x, y)).batch(8), loss)
    for one, other in zip(before, net.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    model = spfde_keras.sparsify(net, 0.75, initial=scores, distribution=ByScores(scores), dense=())
    masks = find_masks(model)
    kept = np.concatenate([scores[m.kernel_path][m.read()[1][0]] for m in masks])
    assert len(kept) == 20
    # Each output keeps a weight, whatever its score.
    by_kernel = [(scores[m.kernel_path], m.read()[1][0]) for m in masks]
    for found, mask in by_kernel:
        assert set(found[mask]) == set(np.sort(found, axis=None)[-mask.sum() :])
    if score is grasp:
        assert (np.concatenate([found.ravel() for found, _ in by_kernel]) < 0).any()


def test_the_largest_scores_are_kept_not_those_of_the_largest_size():
    net = keras.Sequential([keras.Input((4,)), L.Dense(4, name="a")])
    scores = {"a/kernel": np.arange(-12.0, 4).reshape(4, 4)}
    (mask,) = find_masks(spfde_keras.sparsify(net, 0.75, initial=scores, dense=()))
    assert sorted(scores["a/kernel"][mask.read()[1][0]]) == [0, 1, 2, 3]


def test_what_cannot_be_scored_is_refused(line):
    with pytest.raises(ValueError, match="`batches` must be batches, .*, at least one"):
        snip(line, [], "mse")
    scores = snip(line, [(np.ones((1, 3), "float32"), np.ones((1, 1)))], "mse")
    net = keras.Sequential([keras.Input((3,)), L.Dense(2, name="line")])
    message = r"`initial` must hold an array of shape \(3, 2\) for the kernel 'line/kernel'"
    with pytest.raises(ValueError, match=message):
        spfde_keras.sparsify(net, 0.5, initial=scores, dense=())
    with pytest.raises(ValueError, match="`scores` must hold an array .*Received: scores of"):
        spfde_keras.sparsify(net, 0.5, distribution=ByScores({"other": np.ones(3)}), dense=())
    with pytest.raises(ValueError, match="`initial` must be a dictionary from kernel paths"):
        spfde_keras.sparsify(net, 0.5, initial={"line/kernel": ["a"]}, dense=())


@pytest.mark.parametrize("reduction", [None, "sum_over_batch_size", "sum"])
def test_samples_have_their_weights_with_any_reduction(line, reduction):
    x, y = RNG.normal(size=(4, 3)).astype("float32"), RNG.normal(size=(4, 1)).astype("float32")
    weights = np.array([1.0, 0, 0, 3], "float32")
    w = line.layers[0].kernel.numpy()
    expected = np.abs(w * (2 * x.T @ (weights[:, None] * (x @ w - y)) / 4))
    loss = keras.losses.MeanSquaredError(reduction=reduction)
    found = snip(line, [(x, y, weights)], loss)["line/kernel"]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_weights_need_the_loss_of_each_sample(line):
    batch = np.ones((4, 3), "float32"), np.ones((4, 1), "float32"), np.ones(4, "float32")
    with pytest.raises(ValueError, match="`loss` must be a function that returns the loss of each"):
        snip(line, [batch], lambda y, y_pred: keras.ops.mean((y - y_pred) ** 2))
