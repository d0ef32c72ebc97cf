"""Which samples are learned, forgotten, or neither."""

from typing import Any

import numpy as np

from spfde_keras.analyses.measure import Measure, enter
from spfde_keras.analyses.subject import Subject
from spfde_keras.randomness import generator
from spfde_keras.sieve.data_sieve import DataSieve

MOST = 10
"""As many events or more are counted together."""

EXTREMES = 16
"""How many of the easiest and hardest samples are named."""


class Forgetting(Measure):
    """Forgetting events of each sample over the whole training, which a sieve counts in intervals.

    Source: MEST (Yuan et al., NeurIPS 2021), section 3; forgetting events: Toneva et al., ICLR
    2019.
    """

    def __init__(self, subject: Subject, records: int):
        super().__init__("forgetting", subject, records)
        sieve = self._sieve
        self.events = self.variable("events", (sieve.total,), "int64")
        self.counted = self.variable("counted", (sieve.total,), "int64")
        self.learned = self.variable("learned", (sieve.total,), "bool")
        self.histogram = self.per_record("histogram", (MOST + 1,), "int64")
        self.never_forgotten = self.per_record("never_forgotten", (), "int64")
        self.never_learned = self.per_record("never_learned", (), "int64")

    @property
    def _sieve(self) -> DataSieve:
        # Not an attribute: Keras would save its state as part of this one.
        assert self.subject.sieve is not None
        return self.subject.sieve

    def start(self) -> None:
        self.counted.assign(self._sieve.forgets.numpy())

    def before(self, record: int) -> None:
        # A sieve may start counting anew when it exchanges samples.
        member = self._sieve.member.numpy()
        new = self._sieve.forgets.numpy() - self.counted.numpy()
        self.events.assign_add(new)
        self.learned.assign(self.learned.numpy() | self._sieve.learned.numpy())
        enter(
            self.histogram, record, np.bincount(np.minimum(new[member], MOST), minlength=MOST + 1)
        )
        learned = self.learned.numpy()
        kept = np.count_nonzero(learned & (self.events.numpy() == 0))
        enter(self.never_forgotten, record, kept)
        enter(self.never_learned, record, np.count_nonzero(self._sieve.visited.numpy() & ~learned))

    def after(self, record: int) -> None:
        self.counted.assign(self._sieve.forgets.numpy())

    def of_run(self, records: int) -> dict[str, Any]:
        names = ("histogram", "never_forgotten", "never_learned")
        found: dict[str, Any] = {name: getattr(self, name).numpy()[:records] for name in names}
        rng = generator(self.subject.seed, records, "analyses/extremes")
        easiest = rng.permutation(np.flatnonzero(self._sieve.visited.numpy()))
        # One that was never learned is harder than any that was.
        events = np.where(self.learned.numpy(), self.events.numpy(), np.iinfo("int64").max)
        easiest = easiest[np.argsort(events[easiest], kind="stable")]
        learned = easiest[self.learned.numpy()[easiest]]
        found |= {"easiest": learned[:EXTREMES], "hardest": easiest[::-1][:EXTREMES]}
        return {"forgetting": found}
