"""Progressive layer freezing: the blocks of a model, when each is frozen, and how."""

from spfde_keras.freezing.blocks import find_blocks
from spfde_keras.freezing.plan import FreezePlan, Freezing

__all__ = ["FreezePlan", "Freezing", "find_blocks"]
