"""Whether masks can be brought to what an updater starts with."""

import warnings
from collections.abc import Sequence

from spfde_keras.masking import Mask
from spfde_keras.updaters import Moment, Updater


def check_start(updater: Updater, masks: Sequence[Mask]) -> None:
    """Checks masks that an updater starts from, where it starts best from dense ones.

    Args:
        updater: an `Updater`.
        masks: those that are going to be trained.

    Raises:
        ValueError: if they keep less than it starts with, and it grows nothing. If it grows, the
            weights that it adds start at zero, and a warning says so.
    """
    if updater.initial != "dense":
        return
    for subnet in (subnet for mask in masks for subnet in mask.subnets):
        start = updater.plan(Moment.START, 0.0, 1 - subnet.sparsity)
        if start.density is None or subnet.kept >= subnet.count(start.density):
            continue
        name = type(updater).__name__
        if start.grow_to is None:
            raise ValueError(
                f"Updater {name} starts from a dense model: pass initial='dense' to `sparsify`. "
                f"Received: masks that keep {subnet.density:.3g} of {subnet.kernel_path!r}"
            )
        warnings.warn(
            f"{name} starts with {start.density:.3g} of {subnet.kernel_path!r}, and its masks keep "
            f"{subnet.density:.3g}: the weights between start at zero. `sparsify(..., "
            "initial='dense')` begins with initialised ones.",
            stacklevel=4,
        )
        return
