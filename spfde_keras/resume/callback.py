"""Resuming as a Keras callback."""

import os
import warnings
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from spfde_keras import checks, compat
from spfde_keras.finite import check_epoch
from spfde_keras.kernels import choice, status
from spfde_keras.replicas import ALONE
from spfde_keras.resume.checkpoint import Checkpoint
from spfde_keras.resume.settings import UNKNOWN, check_same, configuration, settings
from spfde_keras.resume.states import States


class Resume(keras.callbacks.Callback):
    """Keeps the state of training after each epoch; `fit` of a new process goes on from there.

    The run ends with exactly the weights of one that was not interrupted, whenever the process
    was killed. Give it to `fit` with the same model, data and callbacks as before; it comes
    after all others, so that what they change is kept.

    A state is model, masks, sieve, optimizer, FLOPs, history, and which kernels skip zeros. It
    becomes visible as a whole, with checksums. The last two are kept: if the newer one is
    damaged, a warning says so, and the one before is taken. If none is whole, training does not
    start. States stay when training is complete: `discard` removes them.

    Under a strategy of several workers the chief alone writes, and all of them read: `folder` must
    be on a disk that they share.

    Args:
        folder: a folder for the states of this run alone: missing, empty, or one that `Resume`
            has kept. Anything else in it is refused and stays as it is.

    Raises:
        ValueError: when `fit` starts: `folder` holds something else, or another process trains
            with it; no state in it is whole; or it is of another model, optimizer or loss, of
            other settings, batches or steps; or `initial_epoch` is not that of the state.
        OSError: a state cannot be written. Those before are as they were.
        RuntimeError: an epoch has come to a loss or to weights that are not finite. Its state is
            not kept, those before are.

    Example:

    >>> def train(epochs):
    ...     keras.utils.set_random_seed(0)
    ...     mlp = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    ...     mlp.compile("sgd", "mse")
    ...     resume = Resume("states")
    ...     mlp.fit(np.ones((4, 8)), np.ones((4, 4)), epochs=epochs, verbose=0, callbacks=[resume])
    ...     return resume
    >>> len(train(epochs=2).history)
    2
    >>> resumed = train(epochs=3)
    >>> len(resumed.history), sorted(resumed.history[0])
    (3, ['loss'])
    """

    keeps_states = True
    """Whether it goes after all other callbacks."""

    def __init__(self, folder: str | os.PathLike):
        super().__init__()
        path, rule = folder, "the path of a folder on this machine"
        if "://" in checks.path("folder", folder, rule):
            checks.refuse("folder", rule, path)
        self._states = States(folder)
        self._writes = True
        self._arguments: dict[str, Any] = {}
        self.history: list[dict[str, float]] = []
        """The logs of each epoch so far, also of those before the run was resumed."""

    def begin(self, arguments: Mapping[str, Any]) -> None:
        """Takes the arguments of `fit` by name; called before it, where the model does."""
        self._arguments = dict(arguments)

    def on_train_begin(self, logs: dict | None = None) -> None:
        replicas = getattr(self.model, "replicas", ALONE)
        self._writes = replicas.chief
        if self._writes:
            self._states.open()
        try:
            self._checkpoint = Checkpoint(self.model)
            self._configuration = configuration(self.model, self._arguments)
            self._configuration["fit"]["steps"] = self._steps()
            epoch = self._restore()
            self._check_start(epoch)
            self._arguments = {}
            name = f"The last epoch in {self._states.path}"
            replicas.check_same(lambda: {name: np.array(epoch)})
        except BaseException:
            self._states.close()
            raise
        compat.start_at(self.model, epoch)
        self._tell(epoch)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        del self.history[epoch:]  # of a `fit` that starts over

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        check_epoch(self.model, epoch, logs or {})
        self.history.append(_numbers(logs or {}))
        if self._writes:
            self._write(epoch + 1)

    def _write(self, done: int) -> None:
        facts = {
            "epoch": done,
            "history": self.history,
            "kernels": choice.choices(),
            "skip_zeros": _kernels_in_use(),
            "settings": settings(self.model),
            "configuration": self._configuration,
        }
        try:
            self._states.write(done, lambda folder: self._checkpoint.save(folder, facts))
        except OSError as error:
            raise OSError(
                f"The state after epoch {done} cannot be written, so training stops; those before "
                f"are as they were. Received: {self._states.path} ({error.strerror or error})"
            ) from None

    def on_train_end(self, logs: dict | None = None) -> None:
        compat.start_at(self.model, 0)  # a later `fit` is not this one
        self._states.close()

    def discard(self) -> None:
        """Removes the states, once what was trained is saved elsewhere."""
        if self._states.path.exists():
            self._states.open()
            self._states.remove()

    def _restore(self) -> int:
        """Restores the newest whole state; returns its epoch, 0 if there is none."""
        damaged: list[str] = []
        for epoch in self._states.epochs():
            folder = self._states.of(epoch)
            damage = self._checkpoint.damage(folder, epoch)
            if damage is None:
                for line in damaged:
                    warnings.warn(f"{line}; the state after epoch {epoch} is taken.", stacklevel=2)
                before = self._checkpoint.facts(folder)
                made_of = before.get("configuration")  # which those of earlier versions have not
                check_same(before["settings"], settings(self.model), made_of, self._configuration)
                facts = self._checkpoint.restore(folder)
                choice.take_over(facts["kernels"])
                if facts["skip_zeros"] != _kernels_in_use():
                    warnings.warn(
                        f"Kernels that skip zeros are {_kernels_in_use()!r} here, and were "
                        f"{facts['skip_zeros']!r} where the run was begun: what it ends with will "
                        "differ in rounding from an uninterrupted one.",
                        stacklevel=2,
                    )
                self.history = facts["history"]
                return epoch
            damaged.append(f"{folder} is damaged ({damage})")
        if damaged:
            raise ValueError(
                "No state of the run is whole, so it cannot go on; what is there has not been "
                f"changed. To start anew, remove it. Received: {'; '.join(damaged)}"
            )
        self.history = []
        return 0

    def _steps(self) -> Any:
        """Steps of an epoch; of a sieve's they may change from epoch to epoch."""
        steps = (self.params or {}).get("steps")
        sieved = getattr(self.model, "sieve", None) is not None
        return UNKNOWN if sieved or steps is None else steps

    def _check_start(self, epoch: int) -> None:
        given = self._arguments.get("initial_epoch") or 0
        if epoch and given not in (0, epoch):
            raise ValueError(
                f"`initial_epoch` must be {epoch}, the epochs in {self._states.path}, or left out. "
                f"Received: {given}"
            )

    def _tell(self, epoch: int) -> None:
        params = self.params or {}
        if epoch and epoch >= params.get("epochs", epoch + 1):
            warnings.warn(
                f"Nothing is left to train: {self._states.path} holds a run of {epoch} epochs, "
                "whose weights are taken. Another folder, or `discard()`, starts anew.",
                stacklevel=2,
            )
        elif epoch and params.get("verbose"):
            print(f"Resuming after epoch {epoch}")


def _kernels_in_use() -> str:
    now = status()
    return now.mode if now.active else "off"


def _numbers(logs: dict[str, Any]) -> dict[str, float]:
    values = {name: np.asarray(value) for name, value in logs.items()}
    return {name: float(value) for name, value in values.items() if value.size == 1}
