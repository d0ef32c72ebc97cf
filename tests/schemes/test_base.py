import numpy as np
import pytest

from spfde_keras.schemes import base
from spfde_keras.schemes.base import top, top_along, top_within

INF = np.inf


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_top_marks_the_largest():
    assert top(np.array([[0.5, 3.0], [2.0, 1.0]]), 2, None).tolist() == [
        [False, True],
        [True, False],
    ]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4])
def test_top_always_marks_infinity_and_never_minus_infinity_or_nan(count):
    scores = np.array([-INF, INF, np.nan, 1.0, INF, 0.0])
    expected = {0: [1, 4], 1: [1, 4], 2: [1, 4], 3: [1, 3, 4], 4: [1, 3, 4, 5]}
    assert np.flatnonzero(top(scores, count, None)).tolist() == expected[count]
    assert np.flatnonzero(top(scores, 6, None)).tolist() == [1, 3, 4, 5]


def check_best(marked, scores, count):
    """As many as asked for, none of which is smaller than one that is left out."""
    eligible = np.where(np.isnan(scores), -INF, scores)
    many = np.count_nonzero(eligible > -INF)
    assert marked.sum() == max(min(count, many), np.count_nonzero(eligible == INF))
    assert not marked[eligible == -INF].any()
    if marked.any():
        assert eligible[~marked].max(initial=-INF) <= eligible[marked].min()


@pytest.mark.parametrize("seed", range(5))
def test_top_is_exact_among_many_ties(seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 5, size=(9, 7, 11)).astype(np.float32)
    scores[rng.random(scores.shape) < 0.3] = -INF
    eligible = np.count_nonzero(scores > -INF)
    for count in (1, 10, eligible - 1, eligible, scores.size):
        check_best(top(scores, count, rng), scores, count)


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
    eligible = np.count_nonzero(scores > -INF)
    for count in (11, 50, eligible // 2, eligible - 50, eligible - 1):
        check_best(top(scores, count, rng), scores, count)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("extent", [5, 20])
@pytest.mark.parametrize("seed", range(3))
def test_top_along_takes_the_best_of_every_line(axis, extent, seed):
    rng = np.random.default_rng(seed)
    shape = [5, 4, 6]
    shape[axis] = extent
    scores = rng.integers(0, 4, size=shape).astype(np.float32)
    scores[rng.random(scores.shape) < 0.3] = -INF
    scores[rng.random(scores.shape) < 0.2] = INF
    for count in range(1, extent + 1):
        marked = top_along(scores, count, axis, rng)
        lines, marks = (
            np.moveaxis(each, axis, -1).reshape(-1, extent) for each in (scores, marked)
        )
        for line, mark in zip(lines, marks, strict=True):
            check_best(mark, line, count)


def test_where_nothing_is_equal_nothing_is_drawn():
    scores = np.random.default_rng(0).permutation(np.arange(40.0)).reshape(2, 20)
    scores[0, :5] = INF
    for values in (scores, scores[:, :10]):
        top(values, 9, None)
        top_along(values, 6, 1, None)
        top_within(values, 9, least=2, axis=1, rng=None)


@pytest.mark.parametrize(
    "marked",
    [
        lambda equal, rng: top(equal, 30, rng),
        lambda equal, rng: top_along(equal, 3, 0, rng),
        lambda equal, rng: top_along(equal, 6, 1, rng),
        lambda equal, rng: top_within(equal, 30, least=1, axis=0, rng=rng),
    ],
)
@pytest.mark.parametrize("part", [7, 2**18])
def test_equal_entries_are_marked_equally_often(monkeypatch, marked, part):
    """A quarter of them at a time, 600 times: 150 each, with a deviation of 10.6."""
    monkeypatch.setattr(base, "_PART", part)
    monkeypatch.setattr(base, "_SAMPLED", 7)
    equal, rng = np.zeros((10, 24) if part == 7 else (12, 24)), np.random.default_rng(0)
    share = np.mean(marked(equal, rng))
    often = sum(marked(equal, rng).astype(int) for _ in range(600))
    deviation = np.sqrt(600 * share * (1 - share))
    assert np.abs(often - 600 * share).max() < 4.5 * deviation
    np.testing.assert_array_equal(
        marked(equal, np.random.default_rng(1)), marked(equal, np.random.default_rng(1))
    )


def test_top_along_never_marks_nan(rng):
    scores = np.array([np.nan, 1.0, INF, 2.0])
    assert not top_along(scores, 2, 0, rng)[0]
    assert top_along(scores, 1, 0, rng)[2]


def test_top_within_takes_the_best_that_an_even_share_allows():
    # Both of the two largest are in column 0, which may hold only one.
    scores = np.array([[9.0, 1.0], [8.0, 2.0]])
    assert top_within(scores, 2, least=1, axis=0, rng=None).tolist() == [
        [True, False],
        [False, True],
    ]
    # With room for 2 in a column regardless of the count, they are both taken.
    assert top_within(scores, 2, least=2, axis=0, rng=None).tolist() == [
        [True, False],
        [True, False],
    ]
    # 3 of 2 columns: 2 in one of them.
    assert top_within(scores, 3, least=1, axis=0, rng=None).tolist() == [
        [True, False],
        [True, True],
    ]


@pytest.mark.parametrize("part", [3, 1000])
def test_of_equal_entries_those_with_the_largest_drawn_numbers_are_marked(monkeypatch, part):
    """A number is drawn for each entry, in order: a file that trains is given the same ones."""
    monkeypatch.setattr(base, "_PART", part)
    monkeypatch.setattr(base, "_SAMPLED", 2)
    scores = np.tile(np.float32([1, 0, 2, 1]), 5)
    found = top(scores, 5 + 4, np.random.default_rng(3))
    drawn = np.random.default_rng(3).random(scores.size, np.float32)
    equal = np.flatnonzero(scores == 1)
    won = equal[np.argsort(-drawn[equal])[:4]]
    np.testing.assert_array_equal(
        np.flatnonzero(found), np.sort([*np.flatnonzero(scores == 2), *won])
    )
