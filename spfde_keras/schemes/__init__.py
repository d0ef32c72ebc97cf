"""Sparsity schemes: which weights are kept or dropped together."""

from spfde_keras.registry import import_all
from spfde_keras.schemes.base import Scheme, get, names, register
from spfde_keras.schemes.block import Block
from spfde_keras.schemes.channel import Channel, Filter
from spfde_keras.schemes.n_m import NM
from spfde_keras.schemes.pattern import Pattern
from spfde_keras.schemes.unstructured import Unstructured

__all__ = [
    "NM",
    "Block",
    "Channel",
    "Filter",
    "Pattern",
    "Scheme",
    "Unstructured",
    "get",
    "names",
    "register",
]

# A new scheme is one file in this folder: it need not be named here to be known by its name.
import_all(__name__, __path__)
