"""Says, without running it, whether a .tflite file runs sparse on phones, and right."""

from spfde_keras.export.inspection.inspector import InspectReport, Problem, inspect_tflite

__all__ = ["InspectReport", "Problem", "inspect_tflite"]
