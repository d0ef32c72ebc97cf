"""Scores of weights, given from outside, by which masks are chosen."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from spfde_keras import checks
from spfde_keras.layout import KernelLayout

Scores = Mapping[str, np.ndarray]
"""From kernel paths to arrays of the kernels' shapes; the largest are kept."""


def check_scores(argument: str, scores: Any) -> dict[str, np.ndarray]:
    """Returns scores as arrays; raises ValueError, naming `argument`, if they are none."""
    rule = "a dictionary from kernel paths to arrays of scores"
    given = checks.instance(argument, scores, Mapping, rule)
    arrays = {path: np.asarray(array) for path, array in given.items()}
    for path, array in arrays.items():
        if array.dtype.kind not in "fiu" or np.isnan(array).any():
            checks.refuse(argument, rule, f"{array.dtype} for {path!r}, NaN or no numbers")
    return arrays


def scores_of(scores: Scores, argument: str, path: str, layout: KernelLayout) -> np.ndarray:
    """Returns the scores of one kernel; raises ValueError, naming `argument`, without any."""
    found = scores.get(path)
    if found is None or found.shape != tuple(layout.shape):
        received = f"scores of {sorted(scores)[:5]}" if found is None else f"shape {found.shape}"
        raise ValueError(
            f"`{argument}` must hold an array of shape {tuple(layout.shape)} for the kernel "
            f"{path!r}. Received: {received}"
        )
    return found
