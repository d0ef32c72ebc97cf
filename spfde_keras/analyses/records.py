"""All measures of a run, and when each record was made."""

import zlib
from typing import Any

import keras
import numpy as np

from spfde_keras.analyses.cka import CKA
from spfde_keras.analyses.forgetting import Forgetting
from spfde_keras.analyses.gradients import GradientNorms
from spfde_keras.analyses.masks import MaskChanges
from spfde_keras.analyses.measure import Measure, blank
from spfde_keras.analyses.similarity import StructuralSimilarity
from spfde_keras.analyses.subject import Subject
from spfde_keras.compat import set_untracked
from spfde_keras.rounding import rounded
from spfde_keras.state import SavedState

VERSION = 1


class Records(SavedState):
    """What has been recorded, kept with the state of a run.

    Args:
        subject: the `Subject`.
        room: int, for how many records there is room.
        probe: None, or samples as the model takes them.
    """

    subject: Subject

    def __init__(self, subject: Subject, room: int, probe: Any):
        super().__init__(name="analyses")
        set_untracked(self, subject=subject)
        self.made = self.variable("made", (), "int64")
        self.completed = self.variable("completed_epochs", (), "int64")
        self.epochs = self.variable("epochs", (room,), "int64")
        self.of_probe = self.variable("of_probe", (), "int64")
        self.room = room
        self.measures: list[Measure] = [
            MaskChanges(subject, room),
            StructuralSimilarity(subject, room),
            GradientNorms(subject, room),
        ]
        if probe is not None:
            self.measures.append(CKA(subject, room, probe))
        if subject.sieve is not None:
            self.measures.append(Forgetting(subject, room))
        self._probe_sum = checksum(probe)
        self._clear()

    def _clear(self) -> None:
        for variable in self.variables:
            variable.assign(blank(variable))
        self.of_probe.assign(self._probe_sum)

    @property
    def has_own_probe(self) -> bool:
        """Whether what was recorded is of the same probe samples."""
        return int(self.of_probe.numpy()) == self._probe_sum

    def start(self) -> None:
        """Begins anew, before the first step."""
        self._clear()
        for measure in self.measures:
            measure.start()

    def take_over(self, earlier: "Records") -> None:
        """Takes what another one with less room has recorded."""
        for variable, before in zip(self.variables, earlier.variables, strict=True):
            values = np.array(variable.numpy())
            values[tuple(map(slice, before.shape))] = before.numpy()
            variable.assign(values)

    def changed(self) -> None:
        """Takes down masks that have changed, at a boundary or within an interval."""
        for measure in self.measures:
            measure.changed()

    def before(self, done: int) -> None:
        """Records what a boundary changes, before it does; `done` epochs are over."""
        for measure in self.measures:
            measure.before(int(self.made.numpy()))

    def after(self, done: int) -> None:
        """Records what a boundary leaves."""
        record = int(self.made.numpy())
        for measure in self.measures:
            measure.after(record)
        epochs = self.epochs.numpy()
        epochs[record] = done
        self.epochs.assign(epochs)
        self.made.assign(record + 1)

    @property
    def last(self) -> int:
        """The epochs done at the last record, 0 without any."""
        made = int(self.made.numpy())
        return int(self.epochs.numpy()[made - 1]) if made else 0

    def result(self) -> dict[str, Any]:
        """Returns all that is known, as JSON can write it."""
        records, subject = int(self.made.numpy()), self.subject
        subnets: dict[str, dict] = {name: {} for name in subject.subnets}
        found: dict[str, Any] = {}
        empty = {"cka": np.full((records, *subject.shape), np.nan)}  # without a probe
        for each in (empty, *(measure.of_subnets(records) for measure in self.measures)):
            for name, values in each.items():
                for index, subnet in enumerate(subject.subnets):
                    subnets[subnet][name] = values[:, index]
        for measure in self.measures:
            found |= measure.of_run(records)
        return rounded(
            _plain(
                {
                    "version": VERSION,
                    "epochs": self.epochs.numpy()[:records],
                    "layers": [kernel.name for kernel in subject.kernels],
                    "blocks": subject.blocks,
                    "subnets": subnets,
                    **found,
                }
            )
        )


def checksum(probe: Any) -> int:
    """Returns a number that tells samples from others."""
    total = 0
    for leaf in keras.tree.flatten(probe):
        total = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), total)
    return total


def _plain(value: Any) -> Any:
    """Arrays as lists, and what does not apply, NaN, as None."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
