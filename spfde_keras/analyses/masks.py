"""How masks change: density, overlap of successive ones, exploration."""

from collections.abc import Callable

import numpy as np

from spfde_keras.analyses.measure import Measure, enter
from spfde_keras.analyses.subject import Subject


class MaskChanges(Measure):
    """Each kernel's density, the overlap with its mask at the last record, its exploration.

    Source of the exploration rate: ITOP (Liu et al., ICML 2021), section 3.
    """

    def __init__(self, subject: Subject, records: int):
        super().__init__("mask_changes", subject, records)
        self.density = self.per_record("density", subject.shape, "float64")
        self.overlap = self.per_record("overlap", subject.shape, "float64")
        self.explored = self.per_record("explored", subject.shape, "float64")
        # Without masks all is kept, always.
        shape = subject.bits_shape if subject.masked else (0,)
        self.last = self.variable("last", shape, "uint8")
        self.ever = self.variable("ever_active", shape, "uint8")

    def start(self) -> None:
        self.changed()

    def changed(self) -> None:
        if self.subject.masked:
            self.ever.assign(self.ever.numpy() | self.subject.pack(self.subject.kept()))

    def after(self, record: int) -> None:
        subject, kept = self.subject, self.subject.kept()
        enter(self.density, record, _per_kernel(kept, np.mean))
        if not subject.masked:
            return
        if record:
            before = subject.unpack(self.last.numpy())
            pairs = [list(zip(*each, strict=True)) for each in zip(before, kept, strict=True)]
            enter(self.overlap, record, _per_kernel(pairs, lambda pair: overlap(*pair)))
        self.last.assign(subject.pack(kept))
        enter(self.explored, record, _per_kernel(subject.unpack(self.ever.numpy()), np.mean))

    def of_subnets(self, records: int) -> dict[str, np.ndarray]:
        found = {"density": self.density, "overlap": self.overlap, "explored": self.explored}
        return {name: variable.numpy()[:records] for name, variable in found.items()}


def overlap(before: np.ndarray, now: np.ndarray) -> float:
    """Returns how many positions two masks have in common, as a share of those in either.

    Example:

    >>> float(overlap(np.array([True, False]), np.array([True, True])))
    0.5
    """
    either = np.count_nonzero(before | now)
    return np.count_nonzero(before & now) / either if either else np.nan


def _per_kernel(values: list, function: Callable) -> np.ndarray:
    return np.array([[function(each) for each in subnet] for subnet in values], "float64")
