import numpy as np
import pytest

from spfde_keras.budget import divide

RNG = np.random.default_rng(0)


def test_the_best_of_all_are_kept():
    # The 4 best are 5, 4, 3 and 2.
    scores = [np.array([4.0, 1.0, 3.0]), np.array([[0.0, 5.0], [2.0, 0.5]])]
    assert divide(scores, 4, [0, 0]) == [2, 2]


def test_ties_are_shared():
    assert divide([np.zeros(6), np.zeros(2)], 4, [0, 0]) == [3, 1]
    assert divide([np.array([1.0, 0, 0]), np.zeros(1)], 2, [0, 0]) == pytest.approx([5 / 3, 1 / 3])


def test_a_budget_in_proportion_to_the_best_ones():
    # Of the best 2 both are in the first; it holds three, and what is left goes to the other.
    assert divide([np.array([9.0, 8.0, 1.0]), np.arange(5.0)], 4, [0, 1], among=2) == [3, 1]


def test_a_kernel_keeps_its_least_and_others_pay():
    assert divide([np.arange(10.0) + 9, np.zeros(8)], 6, [0, 2]) == [4, 2]


@pytest.mark.parametrize("among", [None, 40, 1])
def test_the_sum_is_the_budget_within_limits(among):
    scores = [RNG.random(size) * scale for size, scale in ((30, 1), (5, 9), (200, 0.1), (1, 5))]
    sizes, least = [30, 5, 200, 1], [4, 2, 10, 1]
    kept = divide(scores, 60, least, among)
    assert sum(kept) == pytest.approx(60)
    assert all(low <= one <= high for low, one, high in zip(least, kept, sizes, strict=True))
    if among is None:
        everything = np.sort(np.concatenate(scores))[-60]
        best = [np.count_nonzero(one >= everything) for one in scores]
        assert kept[1] == best[1] == 5
