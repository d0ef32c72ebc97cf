"""AST: several sub-nets of one set of weights, trained in turn."""

from spfde_keras.alternating.alternation import Alternation
from spfde_keras.alternating.callback import AlternatingSparseTraining
from spfde_keras.alternating.correction import correct
from spfde_keras.alternating.joint import JointSparseTraining

__all__ = ["AlternatingSparseTraining", "Alternation", "JointSparseTraining", "correct"]
