"""Says, without running it, whether a .tflite file runs sparse on phones, and correctly."""

from spfde_keras.export.inspection.inspector import inspect_tflite
from spfde_keras.export.inspection.report import InspectReport, Problem

__all__ = ["InspectReport", "Problem", "inspect_tflite"]
