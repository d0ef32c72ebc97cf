"""Linear CKA: does a layer tell samples apart as it will in the end?"""

from typing import Any

import keras
import numpy as np

from spfde_keras import checks, compat
from spfde_keras.analyses.activations import layer_grams
from spfde_keras.analyses.measure import Measure, enter
from spfde_keras.analyses.subject import Subject


class CKA(Measure):
    """The Gram matrices of each layer's outputs, compared with those at the end.

    Args:
        subject, records: as of `Measure`.
        probe: samples, as the model takes them.

    Source: Kornblith et al., ICML 2019; used by SpFDE (Yuan et al., NeurIPS 2022).
    """

    def __init__(self, subject: Subject, records: int, probe: Any):
        super().__init__("cka", subject, records)
        compat.set_untracked(self, _probe=probe)
        self._samples = len(keras.tree.flatten(probe)[0])
        try:
            self._measured(0)
        except Exception:  # of whatever layer comes first
            shapes = [each.shape for each in keras.tree.flatten(probe)]
            checks.refuse("probe", "samples as the model takes them", shapes, ", their shapes")
        # Matrices are symmetric: a half will do.
        half = self._samples * (self._samples + 1) // 2
        self.grams = self.per_record("grams", (*subject.shape, half), "float32")

    def _measured(self, subnet: int) -> list[np.ndarray | None]:
        layers = [kernel.layer for kernel in self.subject.kernels]
        return layer_grams(self.subject.model, layers, self._probe, subnet)

    def after(self, record: int) -> None:
        subnets, _ = self.subject.shape
        nothing = np.full((self._samples,) * 2, np.nan, "float32")
        found = [
            [half(nothing if gram is None else gram) for gram in self._measured(subnet)]
            for subnet in range(subnets)
        ]
        enter(self.grams, record, found)

    def of_subnets(self, records: int) -> dict[str, np.ndarray]:
        grams = self.grams.numpy()[:records]
        return {"cka": cka(grams, grams[-1:])}


def half(gram: np.ndarray) -> np.ndarray:
    """Returns the upper triangle of a matrix, row by row."""
    return gram[np.triu_indices(len(gram))]


def cka(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Returns the linear CKA of features, given the upper triangles of their centred Grams.

    Args:
        one, other: float arrays (..., n * (n + 1) / 2), as `half` returns them.

    Returns:
        Float array (...), in [0, 1]; NaN where all samples have the same features.

    Example:

    >>> features = np.array([[1.0, 0.0], [-1.0, 0.0]])
    >>> gram = half(features @ features.T)
    >>> float(cka(gram, 3 * gram).round(6))
    1.0
    """
    one, other = one.astype("float64"), other.astype("float64")
    rows = round(((8 * one.shape[-1] + 1) ** 0.5 - 1) / 2)
    twice = half(2.0 - np.eye(rows))  # off the diagonal each stands for two

    def inner(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a * b * twice).sum(axis=-1)

    norms = np.sqrt(inner(one, one) * inner(other, other))
    return np.divide(inner(one, other), norms, out=np.full(norms.shape, np.nan), where=norms > 0)
