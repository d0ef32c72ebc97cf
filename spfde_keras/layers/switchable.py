"""Batch normalization with separate weights and statistics for each sub-net."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from spfde_keras.layers.batch_norm import FusedBatchNormalization
from spfde_keras.subnets import SubnetSwitch


@dataclasses.dataclass(frozen=True)
class _Single:
    # Keras counts the weights of a layer that is an attribute; it does not look in here.
    layer: FusedBatchNormalization


@keras.saving.register_keras_serializable("spfde_keras")
class SwitchableBatchNormalization(keras.layers.Layer):
    """A `keras.layers.BatchNormalization` for each sub-net, in one layer.

    Sub-nets of different density have activations of different scale, so shared statistics would
    fit none of them. Each weight of the batch normalization (scale, offset, moving
    statistics) gets a leading axis, one entry for each sub-net; the one that runs is used and
    trained.

    Args:
        subnets: int, the number of sub-nets.
        normalization: dict, the configuration of the `keras.layers.BatchNormalization`.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        inputs, training, mask: as for `keras.layers.BatchNormalization`.

    Example:

    >>> layer = SwitchableBatchNormalization(3, keras.layers.BatchNormalization().get_config())
    >>> layer(np.ones((2, 4, 4, 8), "float32"), training=True).shape
    TensorShape([2, 4, 4, 8])
    >>> layer.weights[0].shape
    TensorShape([3, 8])

    Source: AST (Yang et al., NeurIPS 2022), section 3.2; Yu et al., "Slimmable neural
    networks", ICLR 2019.
    """

    switch: SubnetSwitch | None = None
    """Says which sub-net runs; without it the first one does."""

    def __init__(self, subnets: int, normalization: dict, **kwargs: Any):
        kwargs = {key: normalization[key] for key in ("name", "trainable", "dtype")} | kwargs
        super().__init__(**kwargs)
        self.subnets = subnets
        # This layer alone decides whether it trains.
        trainable = normalization | {"trainable": True}
        self._single = _Single(FusedBatchNormalization.from_config(trainable))
        self.supports_masking = True

    @property
    def single(self) -> FusedBatchNormalization:
        """The batch normalization of one sub-net, whose own weights are not used."""
        return self._single.layer

    @property
    def running(self) -> list[tf.Tensor]:
        """The weights of the sub-net that runs, in the order of `variables`."""
        return [stacked.value[self._index] for stacked in self._stacked]

    @property
    def _index(self) -> tf.Tensor | int:
        return 0 if self.switch is None else self.switch.index

    def build(self, input_shape: Sequence[int | None]) -> None:
        self.single.build(input_shape)
        self._stacked = [
            self.add_weight(
                name=variable.name,
                shape=(self.subnets, *variable.shape),
                dtype=variable.dtype,
                initializer=_repeated(variable),
                regularizer=self._of_running(variable.regularizer),
                constraint=_of_each(variable.constraint),
                trainable=variable.trainable,
                autocast=False,
                aggregation=variable.aggregation,
            )
            for variable in self.single.variables
        ]

    def _of_running(self, regularizer: Callable | None) -> Callable | None:
        # Weights of other sub-nets are not part of the loss.
        return regularizer and (lambda stacked: regularizer(stacked[self._index]))

    def call(
        self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None
    ) -> tf.Tensor:
        state = list(zip(self.single.variables, self.running, strict=True))
        with keras.StatelessScope(state) as scope:
            outputs = self.single.call(inputs, training=training and self.trainable, mask=mask)
        for stacked, (variable, row) in zip(self._stacked, state, strict=True):
            value = scope.get_current_value(variable)
            if value is not row:
                rows = tf.tensor_scatter_nd_update(stacked.value, [[self._index]], [value])
                stacked.assign(rows)
        return outputs

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        return self.single.compute_output_shape(input_shape)

    def get_config(self) -> dict:
        normalization = self.single.get_config() | {"trainable": self.trainable}
        return super().get_config() | {"subnets": self.subnets, "normalization": normalization}


def _repeated(variable: keras.Variable) -> Callable:
    def initializer(shape: Sequence[int], dtype: str | None = None) -> tf.Tensor:
        return keras.ops.broadcast_to(keras.ops.cast(variable.value, dtype), shape)

    return initializer


def _of_each(constraint: Callable | None) -> Callable | None:
    return constraint and (lambda stacked: keras.ops.stack([constraint(row) for row in stacked]))
