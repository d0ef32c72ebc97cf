"""How many samples are held at a time, by how large they are."""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

_PROBED = 64
# What a shuffle buffer may hold by default: so many samples, and so many bytes of them.
_MOST_SAMPLES, _MOST_BYTES = 50_000, 2**28
# Ids are compared with the members a block at a time, of so many samples or bytes at most: one
# by one takes several times as long, if samples are small.
MOST_IN_BLOCK, _MOST_BYTES_IN_BLOCK = 1024, 2**22


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How many samples are held at a time, by how large they are.

    Args:
        dataset: samples. Where they have no fixed size, the first 64 are read.

    Example:

    >>> sizes = Sizes(tf.data.Dataset.range(10**6))
    >>> sizes.buffer, sizes.block
    (50000, 1024)
    """

    dataset: dataclasses.InitVar[tf.data.Dataset]
    buffer: int = dataclasses.field(init=False)
    """In a shuffle buffer: at most 50 000 samples and 256 MiB."""
    block: int = dataclasses.field(init=False)
    """In a block that is filtered at once; 1 if samples differ in shape, or are large."""

    def __post_init__(self, dataset: tf.data.Dataset) -> None:
        specs = tf.nest.flatten(dataset.element_spec)
        stacks = all(isinstance(s, tf.TensorSpec) and s.shape.is_fully_defined() for s in specs)
        if stacks and all(spec.dtype != tf.string for spec in specs):
            size = sum(spec.shape.num_elements() * spec.dtype.size for spec in specs)
        else:
            size = np.mean([_bytes(sample) for sample in dataset.take(_PROBED)])
        size = max(1, size)
        block = min(MOST_IN_BLOCK, int(_MOST_BYTES_IN_BLOCK // size)) if stacks else 1
        object.__setattr__(self, "block", max(1, block))
        object.__setattr__(self, "buffer", max(1, min(_MOST_SAMPLES, int(_MOST_BYTES // size))))


def _bytes(sample: Any) -> int:
    leaves = tf.nest.flatten(sample, expand_composites=True)
    arrays = [np.asarray(leaf) for leaf in leaves if leaf is not None]
    return sum(
        sum(map(len, array.ravel().tolist())) if array.dtype == object else array.nbytes
        for array in arrays
    )
