"""Structural similarity: are the large weights where they will be in the end?"""

import numpy as np

from spfde_keras.analyses.measure import Measure, enter
from spfde_keras.analyses.subject import Subject


class StructuralSimilarity(Measure):
    """The positions of each kernel's largest weights, compared with those at the end.

    Source: SpFDE (Yuan et al., NeurIPS 2022), section 2.
    """

    def __init__(self, subject: Subject, records: int):
        super().__init__("structural_similarity", subject, records)
        self.largest = self.per_record("largest", subject.bits_shape, "uint8")

    def after(self, record: int) -> None:
        subnets, _ = self.subject.shape
        found = [
            [largest(kernel.read(subnet)[0]) for kernel in self.subject.kernels]
            for subnet in range(subnets)
        ]
        enter(self.largest, record, self.subject.pack(found))

    def of_subnets(self, records: int) -> dict[str, np.ndarray]:
        found = [self.subject.unpack(bits) for bits in self.largest.numpy()[:records]]
        similar = np.zeros((records, *self.subject.shape))
        for index in np.ndindex(similar.shape):
            record, subnet, kernel = index
            similar[index] = similarity(found[record][subnet][kernel], found[-1][subnet][kernel])
        return {"similarity": similar}


def largest(weights: np.ndarray) -> np.ndarray:
    """Returns which are the larger half of the weights that are not zero, the odd one included.

    Args:
        weights: float array (weights,).

    Returns:
        Bool array (weights,).

    Example:

    >>> largest(np.array([0.1, 0.0, -3.0, 2.0])).tolist()
    [False, False, True, True]
    """
    sizes = np.abs(weights)
    count = (np.count_nonzero(sizes) + 1) // 2
    found = np.zeros(sizes.shape, bool)
    if count:
        found[np.argpartition(sizes, -count)[-count:]] = True
    return found


def similarity(one: np.ndarray, other: np.ndarray) -> float:
    """Returns the share of positions that two sets have in common; NaN if both are empty.

    Where one set is larger, of the mean of both sizes.

    Args:
        one, other: bool arrays of the same shape.

    Example:

    >>> float(similarity(np.array([True, True, False]), np.array([False, True, True])))
    0.5
    """
    both = np.count_nonzero(one) + np.count_nonzero(other)
    return 2 * np.count_nonzero(one & other) / both if both else np.nan
