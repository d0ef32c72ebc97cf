"""One budget of weights, divided among kernels by their scores."""

from collections.abc import Sequence

import numpy as np


def divide(
    scores: Sequence[np.ndarray],
    budget: float,
    least: Sequence[float] | np.ndarray,
    among: int | None = None,
) -> list[float]:
    """Returns how many weights each kernel keeps: in proportion to its share of the best ones.

    Args:
        scores: an array for each kernel, of any shape.
        budget: float, how many weights all kernels keep together.
        least: floats, how many each keeps in any case, as far as the budget allows.
        among: int, how many of all weights count as the best; None for as many as are kept, so
            that each kernel keeps exactly its own.

    Returns:
        Floats, whose sum is the budget.

    Example:

    >>> divide([np.array([4.0, 3.0, 2.0]), np.array([5.0, 1.0, 0.0])], 4, [0, 2])
    [2.0, 2.0]
    """
    sizes = np.array([one.size for one in scores], float)
    counts = _counts_of_best(scores, round(budget) if among is None else among)
    wanted = counts * (budget / max(1.0, counts.sum()))
    return _within(wanted, np.minimum(least, sizes), sizes).tolist()


def _counts_of_best(scores: Sequence[np.ndarray], count: int) -> np.ndarray:
    """How many of the `count` best scores of all each array has; ties are shared."""
    everything = np.concatenate([one.ravel() for one in scores])
    if count >= everything.size:
        return np.array([one.size for one in scores], float)
    everything.partition(everything.size - count)
    threshold = everything[everything.size - count]
    above = np.array([np.count_nonzero(one > threshold) for one in scores], float)
    ties = np.array([np.count_nonzero(one == threshold) for one in scores], float)
    return above + ties * (count - above.sum()) / ties.sum()


def _within(wanted: np.ndarray, least: np.ndarray, most: np.ndarray) -> np.ndarray:
    """The amounts, within limits, and scaled where these allow so that their sum stays."""
    amounts = np.clip(wanted, least, most)
    for _ in wanted:  # each time all is spent, or one more comes to its limit
        missing = wanted.sum() - amounts.sum()
        free = amounts < most if missing > 0 else amounts > least
        if abs(missing) < 1e-6 or not free.any():
            break
        scale = 1 + missing / amounts[free].sum()
        amounts = np.where(free, np.clip(amounts * scale, least, most), amounts)
    return amounts
