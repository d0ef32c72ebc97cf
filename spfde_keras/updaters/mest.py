"""Memory-economic sparse training: elastic mutation, and its soft memory bound."""

import keras
import numpy as np

from spfde_keras import checks, schedules
from spfde_keras.updaters.base import Updater, register

# The papers' runs of 160 epochs change their ratios at epochs 90 and 120.
_BOUNDARIES = (90 / 160, 120 / 160)


class _ElasticMutation(Updater):
    """Importance |w| + lam |dL/dw| on existing weights, random growth.

    Only the gradient of existing weights is ever computed.
    """

    gradient = "masked"

    def __init__(self, lam: float, stop: float):
        self.lam = checks.number("lam", lam, least=0)
        self.stop = checks.number("stop", stop, above=0, most=1)

    def drop_scores(self, kernel: np.ndarray, gradient: np.ndarray | None) -> np.ndarray:
        assert gradient is not None  # `self.gradient` asks for it
        importance = np.abs(gradient)
        importance *= self.lam  # in place: a kernel may be large
        importance += np.abs(kernel)
        return importance


@register("mest_em")
class MESTEM(_ElasticMutation):
    """Elastic mutation: drops the least important weights, then grows as many at random.

    Args:
        mutation: float or `Schedule`, the share of kept weights exchanged; by default
            0.2, 0.1 and 0, changing at 90/160 and 120/160 of training (sparsity 0.92, 0.91
            and 0.90 after dropping, for 90 %).
        lam: float >= 0, weight of the gradient in a weight's importance.
        stop: float in (0, 1], fraction of training after which masks rest.

    Raises:
        ValueError: if `mutation` or `stop` is out of range or `lam` negative.

    Example:

    >>> MESTEM().densities(0.0, 0.5)
    (0.4, 0.5)

    Source: MEST (Yuan et al., NeurIPS 2021), section 3.2.
    """

    def __init__(
        self,
        mutation: schedules.ScheduleLike | None = None,
        lam: float = 0.01,
        stop: float = _BOUNDARIES[-1],
    ):
        super().__init__(lam, stop)
        default = schedules.Step((0.2, 0.1, 0.0), _BOUNDARIES)
        self.mutation = schedules.share("mutation", default if mutation is None else mutation)

    def densities(self, t: float, density: float) -> tuple[float, float]:
        return density * (1 - self.mutation(t)), density

    def get_config(self) -> dict:
        mutation = keras.saving.serialize_keras_object(self.mutation)
        return {"mutation": mutation, "lam": self.lam, "stop": self.stop}


@register("mest_ems")
class MESTEMS(_ElasticMutation):
    """Elastic mutation with a soft memory bound: grows first, drops at the next update.

    Between updates a kernel trains at its density plus `bound`, so that new weights compete
    with old ones; an update drops to the density and grows again.

    Args:
        bound: float or `Schedule`, the density added (share of all weights), at most the
            kernel's own density; by default 0.05, 0.025 and 0, changing at 90/160 and 120/160
            of training, as in the paper's script.
        lam: float >= 0, weight of the gradient in a weight's importance.
        stop: float in (0, 1], fraction of training after which masks rest.

    Raises:
        ValueError: if `bound` or `stop` is out of range or `lam` negative.

    Example:

    >>> MESTEMS(bound=0.05).densities(0.0, 0.1)
    (0.1, 0.15000000000000002)

    Source: MEST (Yuan et al., NeurIPS 2021), section 3.2.
    """

    def __init__(
        self,
        bound: schedules.ScheduleLike | None = None,
        lam: float = 0.01,
        stop: float = _BOUNDARIES[-1],
    ):
        super().__init__(lam, stop)
        default = schedules.Step((0.05, 0.025, 0.0), _BOUNDARIES)
        self.bound = schedules.share("bound", default if bound is None else bound)

    def densities(self, t: float, density: float) -> tuple[float, float]:
        return density, min(1.0, density + min(self.bound(t), density))

    def get_config(self) -> dict:
        bound = keras.saving.serialize_keras_object(self.bound)
        return {"bound": bound, "lam": self.lam, "stop": self.stop}
