"""What every sparsity scheme offers: units that are kept or dropped as a whole."""

import math
from collections.abc import Callable

import numpy as np

from spfde_keras.configurable import Configurable
from spfde_keras.layout import KernelLayout
from spfde_keras.registry import Registry

Shape = tuple[int, int, int]

_SHORT = 16
# Large arrays are looked at in parts that fit into a processor's cache.
_PART, _SAMPLED = 2**18, 2**16


class Scheme(Configurable):
    """Geometry of sparsity: which weights are kept or dropped together.

    A scheme sees kernels as NumPy arrays of shape (positions, inputs, outputs) and
    divides them into units. Updaters score weights, schemes make units of them, so that every
    updater works with every scheme.
    """

    density: float | None = None
    """The density that the scheme itself fixes (N:M), or None."""

    def validate(self, layout: KernelLayout, path: str, density: float) -> None:
        """Raises ValueError, naming `path`, if the kernel cannot have `density` by this scheme."""

    def scores(self, elements: np.ndarray) -> np.ndarray:
        """Returns each unit's importance: the L2 norm of its elements' importances."""
        raise NotImplementedError

    def reduce(self, mask: np.ndarray) -> np.ndarray:
        """Returns which units of a (positions, inputs, outputs) bool mask are active."""
        raise NotImplementedError

    def expand(self, units: np.ndarray, shape: Shape) -> np.ndarray:
        """Returns the bool mask of `shape` in which exactly the active `units` are kept."""
        raise NotImplementedError

    def units(self, layout: KernelLayout) -> int:
        """Returns how many units the kernel may keep at most."""
        raise NotImplementedError

    def count(self, layout: KernelLayout, density: float) -> int:
        """Returns how many units make up `density`: at least one, at most all."""
        units = self.units(layout)
        return min(units, max(1, round(density * units)))

    def select(self, unit_scores: np.ndarray, count: int, shape: Shape) -> np.ndarray:
        """Returns the `count` best units allowed together; -inf is never chosen, +inf always."""
        return top(unit_scores, count)


REGISTRY = Registry(
    "scheme",
    Scheme,
    default="unstructured",
    also="a block of so many outputs such as 'block:8', N:M such as '2:4'",
)
get, names, register = REGISTRY.get, REGISTRY.names, REGISTRY.register


def top(scores: np.ndarray, count: int) -> np.ndarray:
    """Returns a bool array that marks the `count` largest entries of `scores`.

    Args:
        scores: float array of any shape. -inf and NaN are never marked; +inf always, even
            where there are more of them than `count`. Of equal entries the first come first.
        count: int, how many to mark; all eligible ones where there are fewer.

    Returns:
        Bool array of the shape of `scores`.

    Example:

    >>> top(np.array([0.5, -np.inf, 2.0, 2.0]), 2).tolist()
    [False, False, True, True]
    """
    flat = scores.ravel()
    infinite = _count(flat, np.isposinf)
    wanted = count - infinite
    if wanted <= 0:
        return scores == np.inf
    finite = _count(flat, np.isfinite)
    if wanted >= finite:
        return scores > -np.inf
    threshold = _largest(flat, wanted, finite)
    chosen = flat > threshold
    missing = count - np.count_nonzero(chosen)
    for start in range(0, flat.size, _PART):
        ties = start + np.flatnonzero(flat[start : start + _PART] == threshold)[:missing]
        chosen[ties] = True
        missing -= ties.size
        if not missing:
            break
    return chosen.reshape(scores.shape)


def _count(flat: np.ndarray, which: Callable[[np.ndarray], np.ndarray]) -> int:
    parts = range(0, flat.size, _PART)
    return sum(int(np.count_nonzero(which(flat[start : start + _PART]))) for start in parts)


def _largest(flat: np.ndarray, rank: int, finite: int) -> float | np.floating:
    """Returns the finite entry that `rank - 1` of the `finite` ones precede, the largest first.

    In large arrays only those near it are copied and partitioned: a sample says where it is.
    """
    # A pruned kernel's scores are mostly -inf, and partitioning is slow on so many ties.
    if flat.size > _PART:
        sample = flat[:: flat.size // _SAMPLED]
        sample = np.sort(sample[np.isfinite(sample)])
        place = sample.size - rank / finite * sample.size
        # Some deviations of where it is in the sample.
        margin = 1 + 8 * np.sqrt(sample.size)
        first, last = int(max(0, place - margin)), int(min(sample.size - 1, place + margin))
        if 0 <= first < last:
            low = sample[first] if first else -np.inf
            high = sample[last] if last < sample.size - 1 else np.inf

            def is_near(part: np.ndarray) -> np.ndarray:
                return (part >= low) & (part <= high) & np.isfinite(part)

            above = _count(flat, lambda part: (part > high) & (part < np.inf))
            within = _count(flat, is_near)
            if 0 < rank - above <= within:
                if low == high:
                    return low
                parts = (flat[start : start + _PART] for start in range(0, flat.size, _PART))
                near = np.concatenate([part[is_near(part)] for part in parts])
                return np.partition(near, above - rank)[above - rank]
    candidates = flat[np.isfinite(flat)]
    return np.partition(candidates, -rank)[-rank]


def top_along(scores: np.ndarray, count: int, axis: int) -> np.ndarray:
    """Returns a bool array that marks the `count` largest entries of each line along `axis`.

    Args:
        scores: float array of any shape. -inf and NaN are never marked; +inf always, even
            where there are more of them than `count`. Of equal entries the first come first.
        count: int from 1 to the extent of `axis`.
        axis: int, the axis to compare along.

    Returns:
        Bool array of the shape of `scores`.

    Example:

    >>> top_along(np.array([[0.5, 3.0], [2.0, 1.0]]), 1, axis=0).tolist()
    [[False, True], [True, False]]
    """
    if scores.shape[axis] <= _SHORT:
        return _top_by_rank(scores, count, axis)
    # Sorting contiguous lines beats partitioning, which is slow on many ties at -inf.
    lines = np.sort(np.moveaxis(scores, axis, -1), axis=-1)
    threshold = np.expand_dims(lines[..., -count], axis)
    chosen = (scores >= threshold) & (scores > -np.inf) | (scores == np.inf)
    surplus = np.count_nonzero(chosen, axis=axis, keepdims=True) - count
    if np.any(surplus > 0):
        ties = (scores == threshold) & (scores < np.inf)
        before = np.cumsum(ties, axis=axis, dtype=np.int32)
        chosen &= ~ties | (before <= np.count_nonzero(ties, axis=axis, keepdims=True) - surplus)
    return chosen


def _top_by_rank(scores: np.ndarray, count: int, axis: int) -> np.ndarray:
    """As `top_along`; compares each pair of a line, which is fastest while lines are short."""
    lines = np.moveaxis(np.where(np.isnan(scores), -np.inf, scores), axis, 0)
    rank = np.zeros(lines.shape, np.uint8)
    for distance in range(1, len(lines)):
        later_wins = lines[distance:] > lines[:-distance]
        rank[:-distance] += later_wins
        rank[distance:] += ~later_wins
    chosen = (rank < count) & (lines > -np.inf) | (lines == np.inf)
    return np.moveaxis(chosen, 0, axis)


def top_within(scores: np.ndarray, count: int, least: int, axis: int) -> np.ndarray:
    """Returns a bool array that marks the `count` largest entries, evenly along `axis`.

    Args:
        scores: float array of any shape, as in `top`.
        count: int, how many to mark in all.
        least: int, how many each line along `axis` may hold even where `count` needs fewer.
        axis: int. No line along it holds more than its even share of `count`, rounded up.

    Returns:
        Bool array of the shape of `scores`.

    Example:

    >>> top_within(np.array([[4.0, 1.0], [3.0, 2.0]]), count=2, least=1, axis=0).tolist()
    [[True, False], [False, True]]
    """
    extent = scores.shape[axis]
    lines = scores.size // extent
    most = min(extent, max(least, math.ceil(count / lines)))
    allowed = top_along(scores, most, axis)
    if np.count_nonzero(allowed) <= count:
        return allowed
    return top(np.where(allowed, scores, -np.inf), count)


def l2_norm(elements: np.ndarray, axis: tuple[int, ...]) -> np.ndarray:
    """Returns the L2 norm of `elements` over `axis`."""
    return np.sqrt(np.square(elements).sum(axis=axis))


class DoesNotFit(ValueError):
    """A kernel that a scheme cannot divide.

    Args:
        scheme: the `Scheme`.
        path: str, path of the kernel.
        rule: str, what the scheme needs.
        received: str, what the kernel has.
        remedy: str, what else to do about it.
    """

    def __init__(self, scheme: Scheme, path: str, rule: str, received: str, remedy: str):
        super().__init__(
            f"Scheme {scheme} needs {rule}. Received: kernel '{path}' with {received}. "
            f"{remedy}, or leave the layer dense by naming it in `dense=`."
        )
        self.scheme = scheme
        self.reason = f"{scheme} needs {rule}; it has {received}"
        self.kernel = f"'{path}' with {received}"
