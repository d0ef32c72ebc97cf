"""FLOPs and memory of training: of a model, of a plan, and what a run has spent."""

from spfde_keras.cost.ledger import Ledger
from spfde_keras.cost.model import RULES, ModelCost, profile
from spfde_keras.cost.plan import PlanCost, TrainingPlan

__all__ = ["RULES", "Ledger", "ModelCost", "PlanCost", "TrainingPlan", "profile"]
