"""Updaters: who is dropped and grown at a boundary."""

from spfde_keras.registry import import_all
from spfde_keras.updaters.ac_dc import ACDC
from spfde_keras.updaters.base import Updater, get, names, register
from spfde_keras.updaters.dsr import DSR
from spfde_keras.updaters.global_magnitude import GlobalMagnitude
from spfde_keras.updaters.granet import GraNet
from spfde_keras.updaters.itop import ITOP
from spfde_keras.updaters.magnitude import Magnitude
from spfde_keras.updaters.mest import MESTEM, MESTEMS
from spfde_keras.updaters.mutation import Change, Moment, Mutation, carry_out
from spfde_keras.updaters.prune_and_regrow import PruneAndRegrow
from spfde_keras.updaters.rigl import RigL
from spfde_keras.updaters.set import SET
from spfde_keras.updaters.static import Static

__all__ = [
    "ACDC",
    "DSR",
    "ITOP",
    "MESTEM",
    "MESTEMS",
    "SET",
    "Change",
    "GlobalMagnitude",
    "GraNet",
    "Magnitude",
    "Moment",
    "Mutation",
    "PruneAndRegrow",
    "RigL",
    "Static",
    "Updater",
    "carry_out",
    "get",
    "names",
    "register",
]

# A new updater is one file in this folder: it need not be named here to be known by its name.
import_all(__name__, __path__)
