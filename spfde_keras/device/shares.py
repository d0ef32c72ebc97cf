"""How far an updater changes masks on a device: one number, which the app gives `mutate`."""

import numpy as np

from spfde_keras import checks, updaters
from spfde_keras.schedules import reached
from spfde_keras.updaters import MESTEM, MESTEMS, SET, Updater
from spfde_keras.updaters.base import UpdaterLike

_SCHEDULES: dict[type[Updater], str] = {SET: "fraction", MESTEM: "mutation", MESTEMS: "bound"}


def get(identifier: UpdaterLike) -> Updater | None:
    """Returns the updater that changes masks on a device; None if nothing does.

    Raises:
        ValueError: if it is one of those that a device cannot do.
    """
    updater = updaters.get(identifier, argument="updater")
    if isinstance(updater, updaters.Static):
        return None
    if type(updater) not in _SCHEDULES:
        checks.refuse(
            "updater", 'None, or one of "set", "mest_em" and "mest_ems" on a device', identifier
        )
    return updater


def share(updater: Updater, t: float) -> float:
    """Returns what `mutate` takes at a time of training.

    Args:
        updater: as `get` returns it.
        t: float in [0, 1], fraction of training done.

    Example:

    >>> share(MESTEM(), 0.0), share(MESTEMS(), 0.0), share(MESTEM(), 0.9)
    (0.2, 0.05, 0.0)
    """
    return 0.0 if reached(t, updater.stop) else getattr(updater, _SCHEDULES[type(updater)])(t)


def grows_first(updater: Updater) -> bool:
    """Returns whether new weights come before others go: the share is then one of all weights."""
    return isinstance(updater, MESTEMS)


def gradient_weight(updater: Updater) -> float:
    """Returns the weight of the gradient in importance; 0 where it is not asked for."""
    return getattr(updater, "lam", 0.0)


def densest(updater: Updater, density: float) -> float:
    """Returns the largest density that an updater ever trains a kernel at.

    Args:
        updater: as `get` returns it.
        density: float, the final one.
    """
    return max(updater.densities(t, density)[1] for t in np.linspace(0, 1, 1001).tolist())
