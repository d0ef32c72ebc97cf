"""AC/DC: compressed and dense phases by turns."""

from spfde_keras import checks
from spfde_keras.schedules import reached
from spfde_keras.updaters.base import Updater, register


@register("ac_dc")
class ACDC(Updater):
    """Trains dense and sparse by turns, and sparse in the end.

    After a dense start, phases in which only the largest weights are kept alternate with phases in
    which all train; masked weights come back at zero. Phases change at the updates that follow.
    Times are fractions of training, or, for a kernel whose block freezes, of the time until then.

    Args:
        warm_up: float in [0, 1), fraction of training before the first sparse phase.
        phase: float in (0, 1), fraction of training that a phase takes.
        stop: float in (0, 1], fraction of training from which it stays sparse.

    Raises:
        ValueError: if an argument is out of range, or `warm_up` not before `stop`.

    Example:

    >>> [ACDC().densities(t, 0.1)[1] for t in (0.0, 0.1, 0.15, 0.2, 0.85)]
    [1.0, 0.1, 1.0, 0.1, 0.1]

    Source: Peste et al., "AC/DC: Alternating compressed/decompressed training of deep neural
    networks", NeurIPS 2021: of 100 epochs 10 dense ones, phases of 5, the last 15 sparse.
    """

    initial = "dense"
    follows_block = True
    phase: float

    def __init__(self, warm_up: float = 0.1, phase: float = 0.05, stop: float = 0.85):
        self.stop = checks.number("stop", stop, above=0, most=1)
        self.warm_up = checks.number("warm_up", warm_up, least=0, below=self.stop)
        self.phase = checks.number("phase", phase, above=0, below=1)

    def densities(self, t: float, density: float) -> tuple[float, float]:
        if not reached(t, self.warm_up):
            return 1.0, 1.0
        # A quotient of epochs must reach a phase that it equals on paper.
        phases = int((t - self.warm_up) / self.phase + 1e-6)
        kept = density if reached(t, self.stop) or phases % 2 == 0 else 1.0
        return kept, kept

    def get_config(self) -> dict:
        return {"warm_up": self.warm_up, "phase": self.phase, "stop": self.stop}
