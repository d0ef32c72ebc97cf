"""What training does to a model, recorded at boundaries."""

from spfde_keras.analyses.callback import Analyses

__all__ = ["Analyses"]
