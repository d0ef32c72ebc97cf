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
        """Returns each unit's importance: the L2 norm of its elements' importances.

        Importances below zero count against a unit.
        """
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

    def select(
        self, unit_scores: np.ndarray, count: int, shape: Shape, rng: np.random.Generator
    ) -> np.ndarray:
        """Returns the `count` best units allowed together; -inf is never chosen, +inf always.

        Which of equal units are chosen is drawn from `rng`, and only then is anything drawn:
        where a gradient is zero, the first units must not always win.
        """
        return top(unit_scores, count, rng)


REGISTRY = Registry(
    "scheme",
    Scheme,
    default="unstructured",
    also="a block of so many outputs such as 'block:8', N:M such as '2:4'",
)
get, names, register = REGISTRY.get, REGISTRY.names, REGISTRY.register


def top(scores: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Returns a bool array that marks the `count` largest entries of `scores`.

    Args:
        scores: float array of any shape. -inf and NaN are never marked; +inf always, even
            where there are more of them than `count`.
        count: int, how many to mark; all eligible ones where there are fewer.
        rng: generator, asked which of equal entries are marked where not all of them can be.

    Returns:
        Bool array of the shape of `scores`.

    Example:

    >>> top(np.array([0.5, -np.inf, 2.0, 2.0]), 2, np.random.default_rng(0)).tolist()
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
    _mark_equal(flat, threshold, chosen, count - int(np.count_nonzero(chosen)), rng)
    return chosen.reshape(scores.shape)


def _mark_equal(
    flat: np.ndarray,
    value: float | np.floating,
    chosen: np.ndarray,
    wanted: int,
    rng: np.random.Generator,
) -> None:
    """Marks `wanted` of the entries that equal `value`, at random where there are more.

    A number is drawn for each entry, whether it is one of them or not, and the largest win: so
    others who have drawn the same numbers mark the same ones.
    """
    parts = _parts(flat)
    held = [int(np.count_nonzero(part == value)) for part in parts]
    if wanted < sum(held):
        keys = np.concatenate([rng.random(p.size, np.float32)[p == value] for p in parts])
        last = _largest(keys, wanted, keys.size)
        wins = keys >= last
        if surplus := int(np.count_nonzero(wins)) - wanted:
            wins[np.flatnonzero(keys == last)[-surplus:]] = False  # of equal numbers the first
    else:
        wins = np.ones(wanted, bool)
    won = np.split(wins, np.cumsum(held)[:-1])
    for part, marked, of in zip(parts, _parts(chosen), won, strict=True):
        marked[part == value] = of


def _parts(flat: np.ndarray) -> list[np.ndarray]:
    """Views of an array, each small enough for a processor's cache."""
    return [flat[start : start + _PART] for start in range(0, flat.size, _PART)]


def _count(flat: np.ndarray, which: Callable[[np.ndarray], np.ndarray]) -> int:
    return sum(int(np.count_nonzero(which(part))) for part in _parts(flat))


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
                near = np.concatenate([part[is_near(part)] for part in _parts(flat)])
                return np.partition(near, above - rank)[above - rank]
    candidates = flat[np.isfinite(flat)]
    return np.partition(candidates, -rank)[-rank]


def top_along(scores: np.ndarray, count: int, axis: int, rng: np.random.Generator) -> np.ndarray:
    """Returns a bool array that marks the `count` largest entries of each line along `axis`.

    Args:
        scores: float array of any shape. -inf and NaN are never marked; +inf always, even
            where there are more of them than `count`.
        count: int from 1 to the extent of `axis`.
        axis: int, the axis to compare along.
        rng: generator, asked which of equal entries are marked where not all of them can be.

    Returns:
        Bool array of the shape of `scores`.

    Example:

    >>> rng = np.random.default_rng(0)
    >>> top_along(np.array([[0.5, 3.0], [2.0, 1.0]]), 1, axis=0, rng=rng).tolist()
    [[False, True], [True, False]]
    """
    if scores.shape[axis] <= _SHORT:
        return _top_by_rank(scores, count, axis, rng)
    # Sorting contiguous lines beats partitioning, which is slow on many ties at -inf.
    lines = np.sort(np.moveaxis(scores, axis, -1), axis=-1)
    threshold = np.expand_dims(lines[..., -count], axis)
    chosen = (scores >= threshold) & (scores > -np.inf) | (scores == np.inf)
    last = np.squeeze(threshold, axis)
    tied = (np.count_nonzero(chosen, axis=axis) > count) & (last < np.inf)
    by_line = np.moveaxis(scores, axis, 0), np.moveaxis(chosen, axis, 0)
    _draw_again(*by_line, count, last[tied], tied, rng)
    return chosen


def _top_by_rank(scores: np.ndarray, count: int, axis: int, rng: np.random.Generator) -> np.ndarray:
    """As `top_along`; compares each pair of a line, which is fastest while lines are short."""
    lines = np.moveaxis(np.where(np.isnan(scores), -np.inf, scores), axis, 0)
    chosen = (_ranks(lines) < count) & (lines > -np.inf) | (lines == np.inf)
    tied = np.zeros(lines.shape[1:], bool)
    for distance in range(1, len(lines)):
        apart = chosen[distance:] != chosen[:-distance]
        tied |= (apart & (lines[distance:] == lines[:-distance])).any(axis=0)
    last = np.where(chosen[:, tied], lines[:, tied], np.inf).min(axis=0)
    _draw_again(lines, chosen, count, last, tied, rng)
    return np.moveaxis(chosen, 0, axis)


def _ranks(lines: np.ndarray) -> np.ndarray:
    """Returns how many entries of its line, along the first axis, come before each, uint8.

    Of equal ones the first come first.
    """
    rank = np.zeros(lines.shape, np.uint8)
    for distance in range(1, len(lines)):
        later_wins = lines[distance:] > lines[:-distance]
        rank[:-distance] += later_wins
        rank[distance:] += ~later_wins
    return rank


def _draw_again(
    lines: np.ndarray,
    chosen: np.ndarray,
    count: int,
    last: np.ndarray,
    tied: np.ndarray,
    rng: np.random.Generator,
) -> None:
    """Marks, in lines in which not all of the entries equal to `last` can be, some at random.

    Args:
        lines: (extent, ...) scores.
        chosen: (extent, ...) bool, changed in place.
        count: int, how many to mark in a line.
        last: the smallest score marked in each of those lines.
        tied: (...) bool, which lines those are.
        rng: generator to draw from; nothing is drawn where there are none.
    """
    if not tied.any():
        return
    equal = lines[:, tied] == last
    above = chosen[:, tied] & ~equal
    keys = rng.random(equal.shape, np.float32)
    keys[~equal] = -1
    if len(keys) <= _SHORT:
        rank = _ranks(keys)
    else:
        rank = np.empty(keys.shape, np.int32)
        places = np.arange(len(keys), dtype=np.int32)[:, None]
        np.put_along_axis(rank, np.argsort(-keys, axis=0), places, axis=0)
    chosen[:, tied] = above | equal & (rank < count - np.count_nonzero(above, axis=0))


def top_within(
    scores: np.ndarray, count: int, least: int, axis: int, rng: np.random.Generator
) -> np.ndarray:
    """Returns a bool array that marks the `count` largest entries, evenly along `axis`.

    Args:
        scores: float array of any shape, as in `top`.
        count: int, how many to mark in all.
        least: int, how many each line along `axis` may hold even where `count` needs fewer.
        axis: int. No line along it holds more than its even share of `count`, rounded up.
        rng: generator, asked which of equal entries are marked.

    Returns:
        Bool array of the shape of `scores`.

    Example:

    >>> scores, rng = np.array([[4.0, 1.0], [3.0, 2.0]]), np.random.default_rng(0)
    >>> top_within(scores, count=2, least=1, axis=0, rng=rng).tolist()
    [[True, False], [False, True]]
    """
    extent = scores.shape[axis]
    lines = scores.size // extent
    most = min(extent, max(least, math.ceil(count / lines)))
    allowed = top_along(scores, most, axis, rng)
    if np.count_nonzero(allowed) <= count:
        return allowed
    return top(np.where(allowed, scores, -np.inf), count, rng)


def l2_norm(elements: np.ndarray, axis: tuple[int, ...]) -> np.ndarray:
    """Returns the L2 norm of `elements` over `axis`; negative ones count against it."""
    return root(squares(elements).sum(axis=axis))


def squares(elements: np.ndarray) -> np.ndarray:
    """Returns squares that have the signs of what they are of, as those below zero count less."""
    return np.square(elements) if elements.min() >= 0 else elements * np.abs(elements)


def root(sums: np.ndarray) -> np.ndarray:
    """Returns the square roots of sums of `squares`, with their signs."""
    return np.sqrt(sums) if sums.min() >= 0 else np.copysign(np.sqrt(np.abs(sums)), sums)


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
