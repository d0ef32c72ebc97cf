"""Sparse training in Keras 3: masks, mutation, layer freezing, data sieving, TFLite export."""

from spfde_keras import backend  # noqa: F401  before what needs TensorFlow

# isort: split
from spfde_keras.alternating import AlternatingSparseTraining
from spfde_keras.analyses import Analyses
from spfde_keras.callbacks import SpFDE
from spfde_keras.device import export_trainable_tflite, load_device_state
from spfde_keras.export import export_tflite, make_mobile_ready
from spfde_keras.freezing.blocks import find_blocks
from spfde_keras.freezing.plan import FreezePlan, Freezing
from spfde_keras.layers import MaskedLayer, register_masked
from spfde_keras.loading import load_model
from spfde_keras.resume import Resume
from spfde_keras.settling import settle
from spfde_keras.sieve.data_sieve import DataSieve
from spfde_keras.sparsify import densify, sparsify, wrap
from spfde_keras.sparsity_summary import summary
from spfde_keras.training import SparseModel

__version__ = "0.1.0"

__all__ = [
    "AlternatingSparseTraining",
    "Analyses",
    "DataSieve",
    "FreezePlan",
    "Freezing",
    "MaskedLayer",
    "Resume",
    "SpFDE",
    "SparseModel",
    "densify",
    "export_tflite",
    "export_trainable_tflite",
    "find_blocks",
    "load_device_state",
    "load_model",
    "make_mobile_ready",
    "register_masked",
    "settle",
    "sparsify",
    "summary",
    "wrap",
]
