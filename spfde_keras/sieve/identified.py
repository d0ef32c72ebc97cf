"""Inputs that carry the ids of their samples."""

from typing import Any, NamedTuple


class Identified(NamedTuple):
    """Inputs with the ids of their samples, so that ids travel inside `x` through Keras.

    Keras would read a batch of (id, x, y) as (x, y, sample_weight).

    Args:
        inputs: the model's inputs: a tensor, or a dictionary, list or tuple of tensors.
        sample_id: int64 tensor (batch,), each sample's position in the training data.

    Example:

    >>> Identified(inputs=[0.5, 0.25], sample_id=[7, 3]).sample_id
    [7, 3]
    """

    inputs: Any
    sample_id: Any


def strip_ids(x: Any) -> Any:
    """Returns the inputs alone.

    Args:
        x: inputs, or `Identified` inputs.

    Returns:
        `x.inputs` where `x` is `Identified`, otherwise `x` itself.

    Example:

    >>> strip_ids(Identified(inputs=[0.5, 0.25], sample_id=[7, 3]))
    [0.5, 0.25]
    """
    return x.inputs if isinstance(x, Identified) else x
