"""Masks that stay as they are at the start."""

from spfde_keras.updaters.base import Updater, register


@register("static")
class Static(Updater):
    """Never changes a mask: training of a fixed random sub-network.

    Example:

    >>> Static().densities(0.5, 0.1)
    (0.1, 0.1)
    """

    stop = 0.0

    def densities(self, t: float, density: float) -> tuple[float, float]:
        return density, density
