"""One update loop for all methods: drop units, grow units."""

import dataclasses

import numpy as np

from spfde_keras.configurable import Configurable
from spfde_keras.masking import Subnet
from spfde_keras.schedules import Schedule, reached


@dataclasses.dataclass(frozen=True)
class Change:
    """What an update did to a kernel.

    Args:
        fresh: bool array of the kernel's shape, the weights that start anew, as they were or
            are kept by no sub-net. Their optimizer slots must start anew, too.
        overlap: float, share of the previously kept weights that are still kept.
    """

    fresh: np.ndarray
    overlap: float


class Updater(Configurable):
    """Decides at each boundary which units of a kernel are dropped and which are grown.

    A method differs in three answers: how densely a kernel is kept after dropping and after
    growing (`densities`), which units go first (`drop_scores`), which come first
    (`grow_scores`). `t` is the fraction of training done.
    """

    gradient: str | None = None
    """The gradient the scores need: None, "masked" (existing weights only) or "dense"."""

    stop: float = 1.0
    """Fraction of training after which masks do not change any more."""

    initial: str = "random"
    """The masks it starts from, as in `sparsify(initial=)`."""

    def densities(self, t: float, density: float) -> tuple[float, float]:
        """Returns the densities to drop to and then to grow to, for a final `density`."""
        raise NotImplementedError

    def density(self, t: float, density: float) -> float:
        """Returns the density trained with from time `t` on, for a final `density`."""
        return self.densities(t, density)[1]

    def drop_scores(self, kernel: np.ndarray, gradient: np.ndarray | None) -> np.ndarray:
        """Returns each weight's importance; the least important units are dropped."""
        return np.abs(kernel)

    def grow_scores(
        self, kernel: np.ndarray, gradient: np.ndarray | None, rng: np.random.Generator
    ) -> np.ndarray:
        """Returns each weight's claim to grow; random unless overridden."""
        return rng.random(kernel.shape, np.float32)

    def start(self, subnet: Subnet, t: float, rng: np.random.Generator, gradient=None) -> Change:
        """Grows the masks training starts with to the first density; arguments as `update`."""
        count = subnet.count(self._density(t, subnet))
        return self._mutate(subnet, subnet.layout.size, count, rng, None)

    def update(
        self,
        subnet: Subnet,
        t: float,
        rng: np.random.Generator,
        gradient: np.ndarray | None = None,
    ) -> Change:
        """Drops and grows units of one kernel; grown weights start at zero.

        Args:
            subnet: the kernel, as the sub-net to be changed has it.
            t: float in [0, 1], fraction of training done.
            rng: generator for random growth.
            gradient: array of the kernel's shape, if `self.gradient` asks for one.

        Returns:
            A `Change`.
        """
        drop_to, _ = self.densities(t, 1 - subnet.sparsity)
        grow_to = self._density(t, subnet)
        return self._mutate(subnet, subnet.count(drop_to), subnet.count(grow_to), rng, gradient)

    def settle(self, subnet: Subnet, t: float, rng: np.random.Generator, gradient=None) -> Change:
        """Drops a kernel to its final density and grows nothing; arguments as `update`."""
        return self._mutate(subnet, subnet.count(1 - subnet.sparsity), 0, rng, gradient)

    def _until_stop(self, schedule: Schedule, t: float) -> float:
        # Masks that rest from `stop` on exchange nothing at `stop` itself.
        return 0.0 if reached(t, self.stop) else schedule(t)

    def _density(self, t: float, subnet: Subnet) -> float:
        return self.density(t, 1 - subnet.sparsity)

    def _mutate(self, subnet: Subnet, drop_count, grow_count, rng, gradient) -> Change:
        kernel, mask = subnet.read()
        scheme, layout = subnet.scheme, subnet.layout
        shape = layout.canonical_shape
        before = layout.to_canonical(mask)
        active = scheme.reduce(before)
        kernel = layout.to_canonical(kernel)
        if gradient is not None:
            gradient = layout.to_canonical(gradient)

        units = active
        if drop_count < np.count_nonzero(active):
            scores = scheme.scores(self.drop_scores(kernel, gradient))
            units = scheme.select(np.where(active, scores, -np.inf), drop_count, shape)
        if grow_count > np.count_nonzero(units):
            claims = scheme.scores(self.grow_scores(kernel, gradient, rng))
            # A unit may come straight back, as in RigL: then it was not changed at all.
            units = scheme.select(np.where(units, np.inf, claims), grow_count, shape)
        after = scheme.expand(units, shape)
        fresh = np.zeros_like(mask)
        if not np.array_equal(before, after):
            fresh = subnet.replace(layout.from_canonical(after))
        kept = np.count_nonzero(before & after) / max(1, np.count_nonzero(before))
        return Change(fresh, kept)


def check_stop(stop: float) -> float:
    """Returns `stop` if it is in (0, 1], raises ValueError otherwise."""
    if not 0 < stop <= 1:
        raise ValueError(f"`stop` must be in (0, 1]. Received: {stop}")
    return stop
