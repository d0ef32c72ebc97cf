"""Updaters: who is dropped and grown at a boundary."""

import keras

from spfde_keras.updaters.base import Change, Updater
from spfde_keras.updaters.magnitude import Magnitude
from spfde_keras.updaters.mest import MESTEM, MESTEMS
from spfde_keras.updaters.prune_and_regrow import PruneAndRegrow
from spfde_keras.updaters.rigl import RigL
from spfde_keras.updaters.set import SET
from spfde_keras.updaters.static import Static

__all__ = [
    "MESTEM",
    "MESTEMS",
    "SET",
    "Change",
    "Magnitude",
    "PruneAndRegrow",
    "RigL",
    "Static",
    "Updater",
    "get",
]

_NAMES = {
    "static": Static,
    "set": SET,
    "rigl": RigL,
    "mest_em": MESTEM,
    "mest_ems": MESTEMS,
    "magnitude": Magnitude,
    "prune_and_regrow": PruneAndRegrow,
}


def get(identifier) -> Updater:
    """Returns an `Updater`: itself, one by name, or one from its configuration.

    Args:
        identifier: an `Updater`, a name, a serialized configuration, or None for "static".

    Returns:
        An `Updater`.

    Raises:
        ValueError: for an unknown name or type.

    Example:

    >>> get("rigl").gradient
    'dense'
    """
    if isinstance(identifier, Updater):
        return identifier
    if identifier is None:
        return Static()
    if isinstance(identifier, dict):
        return keras.saving.deserialize_keras_object(identifier)
    if isinstance(identifier, str) and identifier in _NAMES:
        return _NAMES[identifier]()
    raise ValueError(
        f"`updater` must be one of {sorted(_NAMES)} or an Updater. Received: {identifier!r}"
    )
