"""Training on the device: TFLite files that train on LiteRT's built-in operators alone."""

from spfde_keras.device.exporter import TrainableReport, export_trainable_tflite

__all__ = ["TrainableReport", "export_trainable_tflite"]
