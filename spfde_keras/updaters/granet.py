"""GraNet: gradual pruning over all kernels, with regrowth."""

from collections.abc import Mapping, Sequence

import numpy as np

from spfde_keras.masking import Subnet
from spfde_keras.updaters.allocation import by_magnitude
from spfde_keras.updaters.base import register
from spfde_keras.updaters.prune_and_regrow import PruneAndRegrow


@register("granet")
class GraNet(PruneAndRegrow):
    """`PruneAndRegrow` whose final densities follow the largest weights of all kernels.

    At each update a kernel's final density becomes the share it has among as many of the largest
    weights of all kernels as are kept in the end. Within each kernel it does what
    `PruneAndRegrow` does. The public scripts of AST prune so, too.

    Args:
        initial_density, fraction, end, stop: as for `PruneAndRegrow`.

    Raises:
        ValueError: if an argument is out of range.

    Example:

    >>> GraNet(initial_density=0.5).densities(0.0, 0.1)
    (0.25, 0.5)

    Source: Liu et al., "Sparse training via boosting pruning plasticity with neuroregeneration",
    NeurIPS 2021.
    """

    def allocate(
        self, subnets: Sequence[Subnet], t: float, gradients: Mapping[str, np.ndarray]
    ) -> Sequence[float] | None:
        return by_magnitude(subnets)
