"""TFLite files: written, loaded, compared with the Keras model, and only then named."""

from spfde_keras.export.convert import PRECISIONS, ExportReport, export_tflite
from spfde_keras.export.verify import evaluate_tflite, run_tflite, verify_tflite

__all__ = [
    "PRECISIONS",
    "ExportReport",
    "evaluate_tflite",
    "export_tflite",
    "run_tflite",
    "verify_tflite",
]
