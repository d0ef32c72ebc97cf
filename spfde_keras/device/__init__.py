"""Training on the device: TFLite files that train on LiteRT's built-in operators alone."""

from spfde_keras.device.exporter import TrainableReport, export_trainable_tflite
from spfde_keras.device.loading import load_device_state
from spfde_keras.device.trainer import Trainer, settings_for

__all__ = [
    "TrainableReport",
    "Trainer",
    "export_trainable_tflite",
    "load_device_state",
    "settings_for",
]
