"""TFLite files: writing, loading, comparing with the Keras model, inspecting, running sparse."""

from spfde_keras.export.converter import PRECISIONS
from spfde_keras.export.exporter import export_tflite
from spfde_keras.export.inspection import InspectReport, inspect_tflite
from spfde_keras.export.report import ExportReport
from spfde_keras.export.rewriting import make_mobile_ready
from spfde_keras.export.sparse_mode import available_runtimes, check_sparse_mode, run_sparse_mode
from spfde_keras.export.verification import evaluate_tflite, run_tflite, verify_tflite

__all__ = [
    "PRECISIONS",
    "ExportReport",
    "InspectReport",
    "available_runtimes",
    "check_sparse_mode",
    "evaluate_tflite",
    "export_tflite",
    "inspect_tflite",
    "make_mobile_ready",
    "run_sparse_mode",
    "run_tflite",
    "verify_tflite",
]
