"""What is saved with a model but is not part of it."""

from typing import Any

import keras

from spfde_keras.replicas import outside_scopes


class SavedState(keras.layers.Layer):
    """Variables that are saved and restored with a model, but are none of its weights.

    A layer, since Keras saves and restores the layers that are attributes of a model. Under a
    strategy, all replicas of a process share them.

    Args:
        **kwargs: arguments of `keras.layers.Layer`.

    Example:

    >>> state = SavedState(name="progress")
    >>> epochs = state.variable("epochs", (), "int64")
    >>> epochs.trainable, state.weights
    (False, [])
    """

    def __init__(self, **kwargs: Any):
        super().__init__(trainable=False, **kwargs)
        self.built = True

    def variable(self, name: str, shape: tuple[int, ...], dtype: str) -> keras.Variable:
        """Returns a new variable of zeros, which no optimizer trains.

        Args:
            name: str, the last part of its path.
            shape: tuple of ints.
            dtype: str, such as "int64".
        """
        return outside_scopes(
            lambda: self.add_weight(
                name=name, shape=shape, dtype=dtype, initializer="zeros", trainable=False
            )
        )

    @property
    def weights(self) -> list[keras.Variable]:
        """None: the model's weights are its parameters."""
        return []
