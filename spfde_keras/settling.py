"""Masks brought to their final density, where training ended before it did so."""

import warnings

import keras

from spfde_keras.masking import Subnet, find_masks
from spfde_keras.randomness import generator
from spfde_keras.updaters import Moment, Static, carry_out


def unsettled(model: keras.Model) -> list[Subnet]:
    """Returns the kernels, as sub-nets have them, that keep more than their final density."""
    return [
        subnet for mask in find_masks(model) for subnet in mask.subnets if not subnet.is_settled
    ]


def settle(model: keras.Model) -> float:
    """Drops every kernel to its final density, the smallest weights first; nothing grows.

    Training does so by itself when it ends. Call it for a model whose training was stopped by
    hand, and evaluate the model again.

    Args:
        model: a model with masks.

    Returns:
        float, the largest share of weights that any kernel lost, 0 if all were settled.

    Example:

    >>> mlp = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16), keras.layers.Dense(2)])
    >>> model = sparsify(mlp, sparsity=0.75, initial="dense")
    >>> settle(model), find_masks(model)[0].density
    (0.75, 0.25)
    """
    lost = 0.0
    for subnet in unsettled(model):
        before = subnet.density
        settle_by_size(subnet, 0)
        lost = max(lost, before - subnet.density)
    return lost


def settle_by_size(subnet: Subnet, seed: int) -> None:
    """Drops one kernel to its final density, the smallest weights first."""
    by_size = Static()
    final = by_size.plan(Moment.SETTLE, 1.0, 1 - subnet.sparsity)
    carry_out(final, by_size, subnet, generator(seed, 0, subnet.stream))


def warn_if_unsettled(model: keras.Model) -> None:
    """Warns that nothing is going to drop what masks keep beyond their final density."""
    if unsettled(model):
        several = len(model.subnets) > 1
        callback = "AlternatingSparseTraining" if several else "SpFDE"
        warnings.warn(
            "Masks keep more than their final density, and no callback of this training drops any "
            f"weight: pass callbacks=[{callback}()] to `fit`, or call `spfde_keras.settle(model)`.",
            stacklevel=3,
        )


def settle_early_end(model: keras.Model) -> None:
    """Settles a model whose training ended early, or went back to earlier weights, and says so."""
    if unsettled(model):
        lost = settle(model)
        warnings.warn(
            "Training ended before its last epoch, or went back to weights from there, when masks "
            "still kept more than their final density: the smallest weights were dropped now, up "
            f"to {lost:.1%} of a kernel. Evaluate the model again.",
            stacklevel=3,
        )
