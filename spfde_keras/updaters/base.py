"""What methods differ in: how far masks drop and grow, and by which scores."""

from collections.abc import Mapping, Sequence

import numpy as np

from spfde_keras.configurable import Configurable
from spfde_keras.masking import Subnet
from spfde_keras.registry import Registry
from spfde_keras.schedules import reached
from spfde_keras.updaters.mutation import Moment, Mutation


class Updater(Configurable):
    """Decides at each boundary which units of a kernel are dropped and which are grown.

    Methods differ in how dense a kernel is after dropping and after growing (`densities`), in
    which units are dropped first (`drop_scores`), and in which grow first (`grow_scores`); some
    also divide the weights anew among kernels (`allocate`). Callers ask `plan` alone what happens
    to a kernel.
    """

    gradient: str | None = None
    """The gradient the scores need: None, "masked" (existing weights only) or "dense"."""

    stop: float = 1.0
    """Fraction of training after which masks no longer change."""

    initial: str = "random"
    """The masks it starts from, as in `sparsify(initial=)`."""

    follows_block: bool = False
    """Whether the time it is asked at is that of a kernel's block, which ends when that freezes.

    For densities that fall: they are to have fallen by then.
    """

    def densities(self, t: float, density: float) -> tuple[float, float]:
        """Returns the densities to drop to and then to grow to, as long as masks change.

        Args:
            t: float in [0, 1], fraction of training done, or, with `follows_block`, of the time
                until the kernel's block freezes.
            density: float, the final density.
        """
        raise NotImplementedError

    phase: float | None = None
    """Fraction of training that each of its phases takes; None if it has none."""

    def allocate(
        self, subnets: Sequence[Subnet], t: float, gradients: Mapping[str, np.ndarray]
    ) -> Sequence[float] | None:
        """Returns the final density that each kernel is to have from now on; None: as before.

        It is asked at each update, before masks change, with all kernels that still train. What it
        returns must keep as many weights altogether.

        Args:
            subnets: the kernels, as seen by the sub-net that changes.
            t: float in [0, 1], fraction of training done.
            gradients: what `gradient` asks for, by kernel path; those of which there are any.
        """
        return None

    def plan(self, moment: Moment, t: float, density: float) -> Mutation:
        """Returns what happens to a kernel of some final density; it changes nothing.

        Args:
            moment: what the mask changes for.
            t: float in [0, 1], as for `densities`.
            density: float, the final density.

        Returns:
            A `Mutation`.

        Example:

        >>> from spfde_keras.updaters import RigL
        >>> RigL(0.3).plan(Moment.UPDATE, 0.0, 0.5)
        Mutation(drop_to=0.35, grow_to=0.5, gradient='dense', at_random=False)
        >>> RigL(0.3).plan(Moment.SETTLE, 1.0, 0.5)
        Mutation(drop_to=0.5, grow_to=None, gradient=None, at_random=False)
        """
        if moment is Moment.SETTLE:
            # A dense gradient says what to grow, and here nothing grows.
            gradient = None if self.gradient == "dense" else self.gradient
            return Mutation(drop_to=density, gradient=gradient)
        drop_to, grow_to = self.densities(t, density)
        if moment is Moment.START:
            # What updates never grow, a start does not grow either.
            grows = grow_to if grow_to > drop_to else None
            return Mutation(drop_to=grow_to, grow_to=grows, at_random=True)
        # If masks rest from `stop` on, nothing is exchanged at `stop` itself.
        if reached(t, self.stop):
            drop_to = grow_to = density
        return Mutation(drop_to, grow_to, self.gradient)

    def drop_scores(self, kernel: np.ndarray, gradient: np.ndarray | None) -> np.ndarray:
        """Returns each weight's importance, a new array; the least important are dropped."""
        return np.abs(kernel)

    def grow_scores(
        self, kernel: np.ndarray, gradient: np.ndarray | None, rng: np.random.Generator
    ) -> np.ndarray:
        """Returns each weight's claim to grow, a new array; random unless overridden."""
        return rng.random(kernel.shape, np.float32)


UpdaterLike = Updater | str | dict | None
"""An updater, the name of one, a configuration, or None for "static"."""

REGISTRY = Registry("updater", Updater, default="static")
get, names, register = REGISTRY.get, REGISTRY.names, REGISTRY.register
