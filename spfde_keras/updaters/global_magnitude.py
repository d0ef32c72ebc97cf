"""Gradual magnitude pruning over all kernels."""

from collections.abc import Mapping, Sequence

import numpy as np

from spfde_keras.masking import Subnet
from spfde_keras.updaters.allocation import by_magnitude
from spfde_keras.updaters.base import register
from spfde_keras.updaters.magnitude import Magnitude


@register("global_magnitude")
class GlobalMagnitude(Magnitude):
    """Starts dense and falls on a cubic ramp to the weights that are the largest of all kernels.

    At each update a kernel's final density becomes the share it has among as many of the largest
    weights of all kernels as are kept in the end; its own ramp leads there.

    Args:
        begin: float, fraction of training at which pruning starts.
        stop: float, fraction of training at which the final density is reached.

    Raises:
        ValueError: if `begin` is not before `stop`, or `stop` out of range.

    Example:

    >>> GlobalMagnitude(stop=1.0).densities(0.5, 0.5)
    (0.5625, 0.5625)

    Source: Zhu & Gupta, "To prune, or not to prune", 2017, for the ramp; Han et al., "Learning both
    weights and connections", NeurIPS 2015, for one threshold.
    """

    def allocate(
        self, subnets: Sequence[Subnet], t: float, gradients: Mapping[str, np.ndarray]
    ) -> Sequence[float] | None:
        return by_magnitude(subnets)
