"""The weights of all kernels as one budget, divided anew while a model trains."""

from collections.abc import Sequence

import numpy as np

from spfde_keras.budget import divide
from spfde_keras.masking import Subnet


def by_magnitude(subnets: Sequence[Subnet], share: float = 1.0) -> list[float]:
    """Returns densities in proportion to what each kernel has of the largest weights of all.

    Together, kernels keep as many weights as before. Each keeps at least one for each output,
    so that no layer is left without a path, or as many as it had, if those were fewer.

    Args:
        subnets: the kernels, as seen by the sub-net that changes.
        share: float in (0, 1], how many weights count as the largest, relative to those kept.

    Returns:
        Floats, the final density of each kernel.

    Example:

    >>> net = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, use_bias=False),
    ...                         keras.layers.Dense(2, use_bias=False)])
    >>> net.set_weights([np.array([[4.0, 3.0], [2.0, 5.0]]), np.array([[1.0, 0.1], [0.2, 1.0]])])
    >>> model = sparsify(net, 0.25, dense=(), initial="dense")
    >>> by_magnitude([mask.subnets[0] for mask in find_masks(model)])
    [1.0, 0.5]
    """
    sizes = np.array([subnet.layout.size for subnet in subnets], float)
    kept = sizes * [1 - subnet.sparsity for subnet in subnets]
    least = np.minimum([subnet.layout.canonical_shape[2] for subnet in subnets], kept)
    scores = [np.abs(subnet.read()[0]) for subnet in subnets]
    amounts = divide(scores, kept.sum(), least, round(share * kept.sum()))
    return (amounts / sizes).tolist()
