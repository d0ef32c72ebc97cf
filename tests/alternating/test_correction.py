"""The gradient correction alone, on gradients made by hand and against NumPy in float64."""

import numpy as np
import pytest
import tensorflow as tf

from spfde_keras.alternating import correct


def corrected(gradient, previous, mask=None):
    gradient, previous = np.float32(gradient), np.float32(previous)
    mask = np.ones(gradient.shape, bool) if mask is None else np.array(mask, bool)
    result, conflict = correct(tf.constant(gradient), tf.constant(previous), tf.constant(mask))
    return result.numpy(), bool(conflict)


def test_a_conflict_by_hand():
    # g . p = -4 and |p|^2 = 9: four ninths of p are added.
    result, conflict = corrected([2, 1, -2], [-1, 2, 2])
    assert conflict
    np.testing.assert_allclose(result, [2 - 4 / 9, 1 + 8 / 9, -2 + 8 / 9], rtol=1e-6)


def test_a_conflict_behind_a_mask_by_hand():
    # g . p = -1 and |p|^2 = 6: a sixth of p is added, but not to the weight that is not kept.
    result, conflict = corrected([1, 1, 0], [-2, 1, -1], [True, True, False])
    assert conflict
    np.testing.assert_allclose(result, [2 / 3, 7 / 6, 0], rtol=1e-6)
    assert result[2] == 0


@pytest.mark.parametrize(
    ("gradient", "previous", "fires"),
    [
        ([1, 0], [-1, 0], True),
        ([1, 0], [-1e-3, 5], True),
        ([1, 0], [0, 1], False),  # at right angles
        ([1, 0], [1, 0], False),
        ([1, 1], [-1, 2], False),
        ([1, 1], [-2, 1], True),
        ([0, 0], [-1, 1], False),
        ([1, 1], [0, 0], False),
    ],
)
def test_it_fires_where_the_product_is_negative_and_only_there(gradient, previous, fires):
    result, conflict = corrected(gradient, previous)
    assert conflict == fires
    assert (result != np.float32(gradient)).any() == fires


@pytest.mark.parametrize("seed", range(8))
def test_it_equals_numpy_in_double_precision(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((3, 3, 4, 8)) < 0.3
    gradient = np.float32(np.where(mask, rng.normal(size=mask.shape), 0))
    previous = np.float32(np.where(rng.random(mask.shape) < 0.5, rng.normal(size=mask.shape), 0))
    g, p = np.float64(gradient), np.float64(previous)
    product = np.sum(g * p)
    result, conflict = corrected(gradient, previous, mask)
    assert conflict == (product < 0)
    expected = np.where(mask, g - product / np.sum(p * p) * p, 0) if product < 0 else g
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-6)
    assert not result[~mask].any()


@pytest.mark.parametrize("seed", range(4))
def test_afterwards_gradients_are_at_right_angles_where_all_is_kept(seed):
    rng = np.random.default_rng(seed)
    gradient, previous = rng.normal(size=(2, 64))
    gradient -= (0.1 + gradient @ previous / (previous @ previous)) * previous
    result, conflict = corrected(gradient, previous)
    assert conflict
    assert np.float64(result) @ previous == pytest.approx(0, abs=1e-4)
    # Once more there is nothing left to take out.
    np.testing.assert_allclose(corrected(result, previous)[0], result, atol=1e-5)


def test_without_conflict_the_gradient_is_bit_equal_even_behind_the_mask():
    gradient = np.float32([0.1, 0.2, 0.7])
    result, conflict = corrected(gradient, [1, 1, 1], [True, False, True])
    assert not conflict
    np.testing.assert_array_equal(result, gradient)


@pytest.mark.parametrize("scale", [2.0**-15, 2.0**15])
def test_the_scale_of_the_previous_gradient_does_not_matter(scale):
    """Loss scaling changes it between two steps."""
    gradient, previous = np.float32([2, 1, -2]), np.float32([-1, 2, 2])
    np.testing.assert_array_equal(
        corrected(gradient, scale * previous)[0], corrected(gradient, previous)[0]
    )


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_a_previous_gradient_that_is_not_finite_changes_nothing(bad):
    gradient = np.float32([1, -2, 3])
    result, conflict = corrected(gradient, [-1, bad, 0])
    assert not conflict
    np.testing.assert_array_equal(result, gradient)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_a_gradient_that_is_not_finite_stays_for_the_optimizer_to_see(bad):
    result, conflict = corrected([1, bad, 3], [-1, -1, -1])
    assert not conflict
    np.testing.assert_array_equal(result, np.float32([1, bad, 3]))


@pytest.mark.parametrize("product", [1e25, -1e25])
def test_a_product_too_large_for_its_type_changes_nothing(product):
    gradient = np.float32([product, 1])
    result, conflict = corrected(gradient, [1e25, 1])
    assert not conflict
    np.testing.assert_array_equal(result, gradient)


def test_it_is_the_same_within_a_graph():
    arguments = [tf.constant([2.0, 1.0]), tf.constant([-1.0, 1.0]), tf.constant([True, False])]
    eager, in_graph = correct(*arguments), tf.function(correct)(*arguments)
    np.testing.assert_array_equal(eager[0], in_graph[0])
    assert bool(eager[1]) and bool(in_graph[1])
