"""A mutation: how far one kernel is dropped and grown, planned first, carried out later."""

import dataclasses
import enum
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from spfde_keras.masking import Subnet

if TYPE_CHECKING:
    from spfde_keras.updaters.base import Updater


class Moment(enum.Enum):
    """What a mask changes for."""

    START = "start"
    """Training starts: masks are brought to the density trained with at first, from either side."""
    UPDATE = "update"
    """A boundary: units are dropped and grown."""
    SETTLE = "settle"
    """The last change of a mask, as its block freezes or training ends."""


@dataclasses.dataclass(frozen=True)
class Mutation:
    """What is to happen to one kernel.

    Args:
        drop_to: float, density to drop to; None: nothing is dropped.
        grow_to: float, density to grow to after that; None: nothing grows.
        gradient: the gradient that the scores need: None, "masked" (of existing weights only)
            or "dense".
        at_random: bool, whether units are drawn, where nothing is known of weights yet, instead
            of chosen by the updater's scores.

    Example:

    >>> Mutation(drop_to=0.1, grow_to=0.15).density
    0.15
    """

    drop_to: float | None = None
    grow_to: float | None = None
    gradient: str | None = None
    at_random: bool = False

    @property
    def density(self) -> float | None:
        """The density trained with afterwards."""
        return self.drop_to if self.grow_to is None else self.grow_to


@dataclasses.dataclass(frozen=True)
class Change:
    """What a mutation did to a kernel.

    Args:
        fresh: bool array of the kernel's shape, the weights that start over, because no
            sub-net kept them before or none does now. Their optimizer slots must start over, too.
        overlap: float, share of the previously kept weights that are still kept.
    """

    fresh: np.ndarray
    overlap: float


def carry_out(
    mutation: Mutation,
    updater: "Updater",
    subnet: Subnet,
    rng: np.random.Generator,
    gradient: np.ndarray | None = None,
) -> Change:
    """Drops and grows units of one kernel; grown weights start at zero.

    Args:
        mutation: how far.
        updater: the `Updater`, whose scores say which units.
        subnet: the kernel, as seen by the sub-net that changes.
        rng: generator for what is drawn, and for which of equal units go first.
        gradient: array of the kernel's shape, if `mutation.gradient` asks for one.

    Returns:
        A `Change`.
    """
    kernel, mask = subnet.read()
    scheme, layout = subnet.scheme, subnet.layout
    shape = layout.canonical_shape
    before = layout.to_canonical(mask)
    active = scheme.reduce(before)
    kernel = layout.to_canonical(kernel)
    if gradient is not None:
        gradient = layout.to_canonical(gradient)
    given = (kernel, gradient)
    ties = rng.spawn(1)[0]  # apart: with or without ties, growth draws the same

    def draw() -> np.ndarray:
        return rng.random(shape, np.float32)

    units = active
    # Some schemes can keep more units in a dense kernel than they ever choose.
    if mutation.drop_to is not None and mutation.drop_to < 1:
        count = subnet.count(mutation.drop_to)
        if count < np.count_nonzero(active):
            # Sub-nets that draw the same numbers stay nested.
            scores = scheme.scores(draw() if mutation.at_random else updater.drop_scores(*given))
            units = scheme.select(_set(scores, ~active, -np.inf, given), count, shape, ties)
            del scores
    if mutation.grow_to is not None:
        count = subnet.count(mutation.grow_to)
        if count > np.count_nonzero(units):
            drawn = mutation.at_random
            claims = scheme.scores(draw() if drawn else updater.grow_scores(*given, rng))
            # A unit may come straight back, as in RigL; it has then not changed at all.
            units = scheme.select(_set(claims, units, np.inf, given), count, shape, ties)
            del claims
    after = scheme.expand(units, shape)
    overlap = np.count_nonzero(before & after) / max(1, int(np.count_nonzero(before)))
    if np.array_equal(before, after):
        fresh = np.zeros_like(mask)
    else:
        fresh = subnet.replace(layout.from_canonical(after))
    return Change(fresh, float(overlap))


def _set(
    scores: np.ndarray, where: np.ndarray, value: float, given: Sequence[np.ndarray | None]
) -> np.ndarray:
    """Returns scores with `value` at some places; in place, unless they belong to what was given.

    A large kernel is copied as rarely as possible.
    """
    own = not any(array is not None and np.may_share_memory(scores, array) for array in given)
    if not (own and scores.flags.writeable):
        return np.where(where, value, scores)
    scores[where] = value
    return scores
