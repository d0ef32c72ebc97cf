"""Every weight is a unit."""

import numpy as np

from spfde_keras.layout import KernelLayout
from spfde_keras.schemes.base import Scheme, Shape, register


@register("unstructured")
class Unstructured(Scheme):
    """Keeps or drops each weight by itself.

    Example:

    >>> layout = KernelLayout((4, 4), spatial=(), inputs=(0,), outputs=(1,))
    >>> Unstructured().count(layout, density=0.25)
    4
    """

    def scores(self, elements: np.ndarray) -> np.ndarray:
        return elements

    def reduce(self, mask: np.ndarray) -> np.ndarray:
        return mask

    def expand(self, units: np.ndarray, shape: Shape) -> np.ndarray:
        return units

    def units(self, layout: KernelLayout) -> int:
        return layout.size
