"""Recurrent layers whose kernels are masked."""

from collections.abc import Sequence

import keras

from spfde_keras.layers.base import MaskedLayer, register_masked
from spfde_keras.layout import KernelLayout


class _MaskedCell(MaskedLayer):
    """Masks the kernels for inputs and for states, each with all gates side by side."""

    masked_weights = ("kernel", "recurrent_kernel")

    def kernel_layout(self, weight: str) -> KernelLayout:
        return KernelLayout.positions_first(self.variable_of(weight).shape)


class _MaskedRecurrent(_MaskedCell):
    """Masks the kernels of a layer's cell, once for all steps of a sequence."""

    def variable_of(self, weight: str) -> keras.Variable:
        return getattr(self.cell, weight)

    def build(
        self,
        sequences_shape: Sequence[int | None],
        initial_state_shape: Sequence[int | None] | None = None,
    ) -> None:
        super(MaskedLayer, self).build(sequences_shape, initial_state_shape)
        self.attach_masks()


@register_masked(keras.layers.SimpleRNNCell)
class MaskedSimpleRNNCell(_MaskedCell, keras.layers.SimpleRNNCell):
    """`keras.layers.SimpleRNNCell` with two masked kernels; see `MaskedLayer`."""


@register_masked(keras.layers.GRUCell)
class MaskedGRUCell(_MaskedCell, keras.layers.GRUCell):
    """`keras.layers.GRUCell` with two masked kernels; see `MaskedLayer`."""


@register_masked(keras.layers.LSTMCell)
class MaskedLSTMCell(_MaskedCell, keras.layers.LSTMCell):
    """`keras.layers.LSTMCell` with two masked kernels; see `MaskedLayer`."""


@register_masked(keras.layers.SimpleRNN)
class MaskedSimpleRNN(_MaskedRecurrent, keras.layers.SimpleRNN):
    """`keras.layers.SimpleRNN` with two masked kernels; see `MaskedLayer`."""


@register_masked(keras.layers.GRU)
class MaskedGRU(_MaskedRecurrent, keras.layers.GRU):
    """`keras.layers.GRU` with two masked kernels; see `MaskedLayer`."""


@register_masked(keras.layers.LSTM)
class MaskedLSTM(_MaskedRecurrent, keras.layers.LSTM):
    """`keras.layers.LSTM` with two masked kernels; see `MaskedLayer`.

    Example:

    >>> layer = MaskedLSTM(4, sparsity=0.5)
    >>> layer(np.zeros((1, 3, 8))).shape
    TensorShape([1, 4])
    >>> [mask.layout.shape for mask in layer.masks]
    [(8, 16), (4, 16)]
    """


@register_masked(keras.layers.ConvLSTM1D)
class MaskedConvLSTM1D(_MaskedRecurrent, keras.layers.ConvLSTM1D):
    """`keras.layers.ConvLSTM1D` with two masked kernels; see `MaskedLayer`."""


@register_masked(keras.layers.ConvLSTM2D)
class MaskedConvLSTM2D(_MaskedRecurrent, keras.layers.ConvLSTM2D):
    """`keras.layers.ConvLSTM2D` with two masked kernels; see `MaskedLayer`."""


@register_masked(keras.layers.ConvLSTM3D)
class MaskedConvLSTM3D(_MaskedRecurrent, keras.layers.ConvLSTM3D):
    """`keras.layers.ConvLSTM3D` with two masked kernels; see `MaskedLayer`."""
