"""What all analyses share."""

from typing import Any

import keras
import numpy as np

from spfde_keras import compat
from spfde_keras.analyses.subject import Subject
from spfde_keras.state import SavedState


class Measure(SavedState):
    """One analysis: what it records at boundaries, kept with the state of a run.

    Args:
        name: str, by which its state is saved.
        subject: the `Subject`.
        records: int, for how many records there is room.
    """

    subject: Subject

    def __init__(self, name: str, subject: Subject, records: int):
        super().__init__(name=name)
        compat.set_untracked(self, subject=subject)
        self._records = records

    def per_record(self, name: str, shape: tuple[int, ...], dtype: str) -> keras.Variable:
        """Returns a variable with an entry of a shape for each record."""
        return self.variable(name, (self._records, *shape), dtype)

    def start(self) -> None:
        """Takes down what is there before the first step."""

    def changed(self) -> None:
        """Takes down what masks are, whenever some have changed."""

    def before(self, record: int) -> None:
        """Records what a boundary changes, before it does."""

    def after(self, record: int) -> None:
        """Records what a boundary leaves."""

    def of_subnets(self, records: int) -> dict[str, np.ndarray]:
        """Returns what is known of sub-nets: arrays (records, sub-nets, kernels) by name."""
        return {}

    def of_run(self, records: int) -> dict[str, Any]:
        """Returns what is known of the run as a whole, by name: arrays, or what JSON can write."""
        return {}


def enter(variable: keras.Variable, record: int, value: Any) -> None:
    """Changes the entry of a variable for one record."""
    values = variable.numpy()
    values[record] = value
    variable.assign(values)


def blank(variable: keras.Variable) -> np.ndarray:
    """Returns a variable's values where nothing is recorded yet: NaN, or zeros."""
    nothing = np.nan if "float" in keras.backend.standardize_dtype(variable.dtype) else 0
    return np.full(variable.shape, nothing, keras.backend.standardize_dtype(variable.dtype))
