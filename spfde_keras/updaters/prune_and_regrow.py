"""Prune and regrow: falling density, and exchange by gradient at the same time."""

from spfde_keras import checks, schedules
from spfde_keras.updaters.base import register
from spfde_keras.updaters.rigl import RigL


@register("prune_and_regrow")
class PruneAndRegrow(RigL):
    """Falls from a higher density to the final one while exchanging weights.

    At an update the smallest weights are dropped, `fraction` more of them than the falling
    density asks for; as many grow back where the dense gradient is largest. Times are fractions
    of training, or, for a kernel whose block freezes, of the time until then.

    Give it a model made with `sparsify(initial="dense")`, the default for several sub-nets: all
    weights are initialised then, and the start keeps some of them at random. Where masks keep
    fewer, the others start at zero, which is told in a warning.

    Args:
        initial_density: float in (0, 1], the density training starts with; 1 starts dense, as the
            authors' scripts do. A kernel whose final density is as large, as with 0.5 and the
            scheme "2:4", has that from the start, and only exchanges weights: 1 gives it a ramp,
            too.
        fraction: float or `Schedule` over that time, the share of kept weights exchanged; by
            default a cosine from 0.5 to 0.005.
        end: float in (0, 1], the time at which the final density is reached; by default 110/160.
            It falls on a cubic curve.
        stop: float in (0, 1], the time after which masks rest.

    Raises:
        ValueError: if an argument is out of range.

    Example:

    >>> updater = PruneAndRegrow(initial_density=0.5)
    >>> updater.densities(0.0, 0.1), round(updater.densities(0.9, 0.1)[1], 3)
    ((0.25, 0.5), 0.1)

    Source: AST (Yang et al., NeurIPS 2022), section 4.1; Liu et al., "Sparse training via
    boosting pruning plasticity with neuroregeneration", NeurIPS 2021.
    """

    initial = "dense"
    follows_block = True

    def __init__(
        self,
        initial_density: float = 0.5,
        fraction: schedules.ScheduleLike | None = None,
        end: float = 110 / 160,
        stop: float = 1.0,
    ):
        super().__init__(schedules.Cosine(0.5, 0.005) if fraction is None else fraction, stop)
        self.initial_density = checks.number("initial_density", initial_density, above=0, most=1)
        self.end = checks.number("end", end, above=0, most=1)
        if self.stop < self.end:
            checks.refuse("stop", f"at least `end`, {self.end:g}", stop)
        self._ramp = schedules.Cubic(1.0, 0.0, end=self.end)

    def densities(self, t: float, density: float) -> tuple[float, float]:
        kept = density + (max(self.initial_density, density) - density) * self._ramp(t)
        return kept * (1 - self.fraction(t)), kept

    def get_config(self) -> dict:
        return super().get_config() | {
            "initial_density": self.initial_density,
            "end": self.end,
        }
