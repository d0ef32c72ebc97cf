"""Dynamic sparse reparameterization: weights move from kernel to kernel."""

from collections.abc import Mapping, Sequence

import numpy as np

from spfde_keras.masking import Subnet
from spfde_keras.schedules import reached
from spfde_keras.updaters.allocation import by_magnitude
from spfde_keras.updaters.base import register
from spfde_keras.updaters.set import SET


@register("dsr")
class DSR(SET):
    """Drops the smallest weights of all kernels together, and grows as many at random.

    A kernel's new density is in proportion to what survives in it, so that kernels whose weights
    are large get more. The paper finds the threshold that drops about as many as wanted by
    feedback; here it is the exact one.

    Args:
        fraction, stop: as for `SET`.

    Raises:
        ValueError: if `fraction` or `stop` is out of range.

    Example:

    >>> DSR(fraction=0.5).densities(0.0, 0.1)
    (0.05, 0.1)

    Source: Mostafa & Wang, "Parameter efficient training of deep convolutional neural networks by
    dynamic sparse reparameterization", ICML 2019.
    """

    def allocate(
        self, subnets: Sequence[Subnet], t: float, gradients: Mapping[str, np.ndarray]
    ) -> Sequence[float] | None:
        survive = 1 - self.fraction(t)
        return by_magnitude(subnets, survive) if survive and not reached(t, self.stop) else None
