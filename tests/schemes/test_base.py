import numpy as np
import pytest

from spfde_keras.schemes import base
from spfde_keras.schemes.base import top, top_along, top_within

INF = np.inf


def test_top_marks_the_largest():
    assert top(np.array([[0.5, 3.0], [2.0, 1.0]]), 2).tolist() == [[False, True], [True, False]]


def test_top_takes_the_first_of_equal_entries():
    assert top(np.array([1.0, 2.0, 1.0, 1.0]), 3).tolist() == [True, True, True, False]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4])
def test_top_always_marks_infinity_and_never_minus_infinity_or_nan(count):
    scores = np.array([-INF, INF, np.nan, 1.0, INF, 0.0])
    expected = {0: [1, 4], 1: [1, 4], 2: [1, 4], 3: [1, 3, 4], 4: [1, 3, 4, 5]}
    assert np.flatnonzero(top(scores, count)).tolist() == expected[count]
    assert np.flatnonzero(top(scores, 6)).tolist() == [1, 3, 4, 5]


@pytest.mark.parametrize("seed", range(5))
def test_top_is_exact_among_many_ties(seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 5, size=(9, 7, 11)).astype(np.float32)
    scores[rng.random(scores.shape) < 0.3] = -INF
    # A stable descending sort says which come first.
    order = np.argsort(-scores.ravel(), kind="stable")
    eligible = np.count_nonzero(scores > -INF)
    for count in (1, 10, eligible - 1, eligible, scores.size):
        expected = np.zeros(scores.size, bool)
        expected[order[: min(count, eligible)]] = True
        np.testing.assert_array_equal(top(scores, count).ravel(), expected)


@pytest.mark.parametrize("kind", ["normal", "few values", "one value", "mostly -inf", "ascending"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_top_of_a_large_array_is_that_of_a_sort(monkeypatch, kind, dtype):
    monkeypatch.setattr(base, "_PART", 100)
    monkeypatch.setattr(base, "_SAMPLED", 500)
    rng = np.random.default_rng(0)
    scores = {
        "normal": lambda: rng.normal(size=5000),
        "few values": lambda: rng.integers(0, 3, 5000),
        "one value": lambda: np.full(5000, 2.0),
        "mostly -inf": lambda: np.where(rng.random(5000) < 0.9, -INF, rng.random(5000)),
        "ascending": lambda: np.arange(5000.0),
    }[kind]().astype(dtype)
    scores[rng.integers(0, 5000, 30)] = np.repeat([INF, -INF, np.nan], 10)
    order = np.argsort(np.where(np.isnan(scores), INF, -scores), kind="stable")
    eligible = np.count_nonzero(scores > -INF)
    for count in (11, 50, eligible // 2, eligible - 50, eligible - 1):
        expected = np.zeros(5000, bool)
        expected[order[:count]] = True
        np.testing.assert_array_equal(top(scores, count), expected)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_top_along_is_top_of_every_line(axis, seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 4, size=(5, 4, 6)).astype(np.float32)
    scores[rng.random(scores.shape) < 0.3] = -INF
    scores[rng.random(scores.shape) < 0.2] = INF
    for count in range(1, scores.shape[axis] + 1):
        expected = np.apply_along_axis(top, axis, scores, count)
        np.testing.assert_array_equal(top_along(scores, count, axis), expected)


def test_top_along_never_marks_nan():
    scores = np.array([np.nan, 1.0, INF, 2.0])
    assert not top_along(scores, 2, axis=0)[0]
    assert top_along(scores, 1, axis=0)[2]


def test_top_within_takes_the_best_that_an_even_share_allows():
    # Both of the two largest are in column 0, which may hold only one.
    scores = np.array([[9.0, 1.0], [8.0, 2.0]])
    assert top_within(scores, 2, least=1, axis=0).tolist() == [[True, False], [False, True]]
    # With room for 2 in a column regardless of the count, they are both taken.
    assert top_within(scores, 2, least=2, axis=0).tolist() == [[True, False], [True, False]]
    # 3 of 2 columns: 2 in one of them.
    assert top_within(scores, 3, least=1, axis=0).tolist() == [[True, False], [True, True]]
