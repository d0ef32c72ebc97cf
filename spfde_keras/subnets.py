"""Which of a model's sub-nets runs."""

import contextlib
import contextvars
import types
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import tensorflow as tf

from spfde_keras.contexts import holding

# By switch, and for each thread on its own: each replica of a strategy has one.
_chosen: contextvars.ContextVar[Mapping[int, Any]] = contextvars.ContextVar(
    "chosen", default=types.MappingProxyType({})
)


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

    @property
    def index(self) -> int | tf.Tensor:
        """The index of the sub-net, int or int32 tensor."""
        return _chosen.get().get(id(self), self.active.value)

    @contextlib.contextmanager
    def at(self, index: int | tf.Tensor) -> Iterator[None]:
        """Runs, or traces, what is called in this context with sub-net `index`, int or tensor."""
        with holding(_chosen, {**_chosen.get(), id(self): index}):
            yield

    @contextlib.contextmanager
    def outlasting(self) -> Iterator[None]:
        """Has functions that outlast a context of `at` read which sub-net it chose, not keep it."""
        others = dict(_chosen.get())
        index = others.pop(id(self), None)
        if index is None:
            yield
            return
        before = keras.ops.convert_to_numpy(self.active)
        self.active.assign(index)
        try:
            with holding(_chosen, others):
                yield
        finally:
            self.active.assign(before)


def subnet_name(sparsity: float) -> str:
    """Returns the name, an identifier, of a sub-net with this sparsity.

    Example:

    >>> subnet_name(0.9), subnet_name(0.875)
    ('subnet_90', 'subnet_87_5')
    """
    return f"subnet_{round(100 * sparsity, 1):g}".replace(".", "_")
