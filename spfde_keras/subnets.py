"""Which of a model's sub-nets runs."""

import contextlib
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf


class SubnetSwitch:
    """Says, to all layers that share it, which sub-net runs; changing it recompiles nothing.

    Args:
        active: int32 variable, the sub-net that runs wherever `at` does not choose another.

    Example:

    >>> switch = SubnetSwitch(keras.Variable(0, dtype="int32"))
    >>> _ = switch.active.assign(2)
    >>> int(switch.index)
    2
    """

    def __init__(self, active: keras.Variable):
        self.active = active
        self._chosen: int | tf.Tensor | None = None

    @property
    def index(self) -> int | tf.Tensor:
        """The index of the sub-net, int or int32 tensor."""
        return self.active.value if self._chosen is None else self._chosen

    @contextlib.contextmanager
    def at(self, index: int | tf.Tensor) -> Iterator[None]:
        """Runs, or traces, what is called in this context with sub-net `index`, int or tensor."""
        before, self._chosen = self._chosen, index
        try:
            yield
        finally:
            self._chosen = before


def subnet_name(sparsity: float) -> str:
    """Returns the name, an identifier, of a sub-net with this sparsity.

    Example:

    >>> subnet_name(0.9), subnet_name(0.875)
    ('subnet_90', 'subnet_87_5')
    """
    return f"subnet_{round(100 * sparsity, 1):g}".replace(".", "_")


def check_subnet(subnet: int, count: int) -> int:
    """Returns `subnet` if it is an index among `count` sub-nets, raises ValueError otherwise."""
    whole = isinstance(subnet, (int, np.integer)) and not isinstance(subnet, bool)
    if not whole or not 0 <= subnet < count:
        raise ValueError(
            f"`subnet` must be an integer of at least 0 and less than {count}, the number of "
            f"sub-nets. Received: {subnet!r}"
        )
    return int(subnet)
