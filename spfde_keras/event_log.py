"""Scalars for TensorBoard."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from spfde_keras.extras import extra


class EventLog:
    """Writes scalars to a folder that TensorBoard reads; nowhere without one.

    Args:
        folder: str, or None.

    Example:

    >>> EventLog(None).write({"sparsity": 0.9}, step=1)
    """

    def __init__(self, folder: str | None):
        self._writer = tf.summary.create_file_writer(folder) if folder else None

    @staticmethod
    def check(folder: str | None) -> None:
        """Raises ModuleNotFoundError where a folder is given but nothing can be written."""
        if folder:
            with extra("apps"):
                import tensorboard  # noqa: F401  without which TensorFlow writes no scalars

    def write(self, scalars: Mapping[str, Any], step: int) -> None:
        """Writes those of the values that are numbers."""
        if self._writer is None:
            return
        with self._writer.as_default(step=step):
            for name, value in scalars.items():
                if np.isscalar(value):
                    tf.summary.scalar(name, value)

    def close(self) -> None:
        """Ends the file."""
        if self._writer is not None:
            self._writer.close()
