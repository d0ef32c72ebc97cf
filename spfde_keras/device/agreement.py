"""Compares updates that a file makes with those that Keras makes, before the file is published."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from spfde_keras import kernels
from spfde_keras.device import shares
from spfde_keras.device.app import App, staged
from spfde_keras.device.cutting import Parts
from spfde_keras.device.program import Program
from spfde_keras.device.stages import Stages
from spfde_keras.export.samples import drawn
from spfde_keras.freezing.learning_rate import BlockwiseLearningRate
from spfde_keras.masking import find_masks

_UPDATES = ("train", "train_on_features")
_STEPS = 2  # the second update takes the slots that the first has left
_RATE = 0.1  # whatever the optimizer's own is: updates must not drown in the weights' rounding
_TRIALS = 5
_ROUNDING = 1e-6  # what sums of hundreds of products in float32 are off by
_ROUNDING_OF_ZERO = 1e-7  # a dead channel, with an offset of 0, is at the kink of ReLU
_DRAWS = 4
_MARGIN = 3.0  # over the largest of as many draws
_CHAOS = 0.01  # share of an update that rounding changes: no two computers agree
_INFERENCE_TOLERANCE = 1e-4

Arrays = dict[str, np.ndarray]
Batch = tuple[np.ndarray, np.ndarray]


def check_agreement(
    path: str | os.PathLike[str],
    program: Program,
    twin: Parts,
    stages: Stages,
    labels: tf.TensorSpec,
    tolerance: float,
) -> float:
    """Returns the largest error of the updates that a file makes, on random data.

    That of a variable is the largest difference from its change in Keras, less what rounding
    explains, as a share of the variable's largest change. Rounding is measured: Keras makes the
    same updates from inputs and weights that are off by a millionth.

    Args:
        path: the file.
        program: what it computes.
        twin: the parts of the model with masks, the tail compiled; they are trained.
        stages: those of the twin.
        labels: of a batch.
        tolerance: the largest error accepted.

    Raises:
        RuntimeError: names what is off by more.
    """
    file = _File(path, program)
    with kernels.disabled():
        reference = _Reference(program, twin, stages)
        try:
            errors = _errors(file, reference, labels, tolerance)
            file.check_mutation()
        finally:  # layers that cannot be copied are those of the user's model
            reference.leave()
    (name, signature, _), error = max(errors.items(), key=lambda one: one[1])
    if not error.unexplained <= tolerance:
        trained = " (an untrained model?)" * (error.rounding > _CHAOS)
        raise RuntimeError(
            f"an update of {name} in {signature!r} is off by {error.unexplained:.2g} of the "
            f"update, more than {tolerance:g}; Keras' own changes by {error.rounding:.2g} if "
            f"inputs and weights change by a millionth{trained}"
        )
    return error.unexplained


class _Error(NamedTuple):
    """How far an update is off, as shares of the update.

    Args:
        unexplained: the largest difference from Keras', less what rounding explains.
        rounding: the largest change of Keras' own by rounding.
    """

    unexplained: float
    rounding: float


def _errors(
    file: "_File", reference: "_Reference", labels: tf.TensorSpec, tolerance: float
) -> dict[tuple[str, str, int], _Error]:
    """The error of each variable, in each signature that makes updates, in each of its updates.

    Where samples happen to be at a kink of the net, they may be on another side in the file. What
    is off is therefore tried again on other samples, and is wrong if it always is.
    """
    found: dict[tuple[str, str, int], _Error] = {}
    for trial in range(_TRIALS):
        for stage in reference.stages.numbers:
            with reference.frozen(stage):
                for signature in file.trains(stage):
                    steps = reference.batches(labels, trial)
                    for key, error in _errors_of(file, reference, signature, steps):
                        found[key] = min(found.get(key, error), error)
        if max(found.values()).unexplained <= tolerance:
            break
    return found


def _errors_of(
    file: "_File", reference: "_Reference", signature: str, batches: Iterable[Batch]
) -> Iterator[tuple[tuple[str, str, int], _Error]]:
    """The errors of one signature; also checks the outputs, and that the file restores."""
    for step, batch in enumerate(batches):
        before = file.state()
        change = file.train(signature, batch, before)
        reference.take(before)  # so that one update is compared, not what others led to
        for name, error in reference.errors(batch, before, change).items():
            yield (name, signature, step), error
    reference.take(file.state())
    outputs = reference.infer(batch[0])
    off = np.abs(file.infer(batch[0]) - outputs).max() / (np.abs(outputs).max() or 1.0)
    if not off <= _INFERENCE_TOLERANCE:
        raise RuntimeError(f"the outputs are off by {off:.2g} of their scale")
    file.check_restores()


class _File:
    """A file in LiteRT's interpreter."""

    def __init__(self, path: str | os.PathLike[str], program: Program):
        self._app, self._program = App(path), program
        self._first = self._save()

    def trains(self, stage: int) -> list[str]:
        """The signatures that make an update of a stage."""
        return [name for of in _UPDATES if (name := staged(of, stage)) in self._app]

    def state(self) -> Arrays:
        return self._program.state.take_apart(self._save())

    def train(self, signature: str, batch: Batch, before: Arrays) -> Arrays:
        """Makes an update; returns changes by name to the state before, and the loss."""
        x, y = batch
        on_features = signature.startswith("train_on_features")
        inputs = {"features": self._app.singly("features", x)} if on_features else {"x": x}
        if (sieving := self._program.sieving) is not None:
            inputs["sample"] = np.arange(len(x), dtype="int32") % sieving.samples
        rates = _rates(self._program.stages)
        loss = self._app[signature](**inputs, y=y, rate=rates)["loss"]
        return _changes(before, self.state()) | {"loss": loss.astype("float64")}

    def infer(self, x: np.ndarray) -> np.ndarray:
        return self._app.singly("infer", x)

    def check_restores(self) -> None:
        restored = self._app["restore"](state=self._first)["restored"]
        if restored.tolist() != [1] or not np.array_equal(self._save(), self._first):
            raise RuntimeError("a saved state does not come back")

    def check_mutation(self) -> None:
        """Raises RuntimeError unless masks change as they must."""
        mutations = self._program.mutations
        if mutations is None:
            return
        blocks = len(self._program.stages.blocks)
        inputs = self._app.zeros("mutate")
        random = np.random.default_rng(0).random(mutations.numbers, "float32")
        share = shares.share(mutations.updater, 0.0)
        inputs |= {"share": np.full(blocks, share, "float32"), "random": random}
        if not self._app["mutate"](**inputs)["stayed"] > 0:
            raise RuntimeError("masks do not change")
        state = self.state()
        for one in mutations.kernels:
            places = state[one.stored.name_of_places]
            held = places[places < one.stored.nowhere]
            _, grow_to = mutations.updater.densities(0.0, 1 - one.kernel.sparsity)
            if np.unique(held).size != held.size or held.size != one.kernel.count(grow_to):
                raise RuntimeError(f"the mask of {one.kernel.kernel_path} is not what it must be")

    def _save(self) -> np.ndarray:
        return self._app["save"]()["state"]


class _Reference:
    """The same model in Keras, which `train_on_batch` trains."""

    def __init__(self, program: Program, twin: Parts, stages: Stages):
        self._program, (self._prefix, self._tail) = program, twin
        self.stages = stages
        optimizer = self._tail.optimizer
        optimizer.build(self._tail.trainable_variables)
        optimizer.learning_rate.assign(_RATE)
        self._slots = [v for v in optimizer.variables if v is not optimizer.learning_rate]
        masks = {id(v) for mask in find_masks(self._tail) for v in mask.variables}
        own = [v for v in self._tail.variables if id(v) not in masks]
        # In their order: layers that were exchanged have other paths.
        names = (v.path for v in program.contents.parts.tail.variables)
        self._own = dict(zip(names, own, strict=True))
        self._trained = self._tail.trainable_variables
        self._variables = [*self._tail.variables, *self._slots]
        self._first = self._start = self._values()

    @contextlib.contextmanager
    def frozen(self, stage: int) -> Iterator[None]:
        """A context in which updates are those of a stage."""
        blocks, optimizer = self.stages.blocks, self._tail.optimizer
        variables = [[v for x in block for v in x.trainable_variables] for block in blocks]
        with BlockwiseLearningRate(optimizer, variables) as rates, self.stages.frozen(stage):
            rates.assign(_rates(self.stages) / _RATE)
            self._tail.make_train_function(force=True)
            yield

    def take(self, state: Mapping[str, np.ndarray]) -> None:
        """Starts from the state of a file."""
        contents = self._program.contents
        for one in contents.stored:
            self._own[one.variable.path].assign(one.unpacked(state[one.name]))
        for name, variable in contents.statistics.items():
            self._own[variable.path].assign(state[name])
        for (name, (_, owner)), slot in zip(self._program.slots.items(), self._slots, strict=True):
            value = state[name]
            if owner is not None and value.shape != tuple(slot.shape):
                value = owner.unpacked(value)
            slot.assign(value.astype(slot.dtype))
        self._start = self._values()

    def train(self, batch: Batch, noise: int = 0) -> Arrays:
        """Makes an update from the start, which is off in its last digits for `noise`.

        Returns:
            Changes by name, and the loss.
        """
        random, (x, y) = np.random.default_rng(noise), batch

        def off(value: np.ndarray) -> np.ndarray:
            if not noise or value.dtype.kind != "f":
                return value
            by = random.uniform(-1, 1, value.shape)
            changed = np.where(value == 0, _ROUNDING_OF_ZERO * by, value * (1 + _ROUNDING * by))
            return changed.astype(value.dtype)

        self._assign(self._start)
        for variable in self._trained:
            variable.assign(off(np.asarray(variable)))
        before, features = self._named(), off(self._features(x))
        loss = self._tail.train_on_batch(features, y)
        return _changes(before, self._named()) | {"loss": np.array([loss], "float64")}

    def errors(self, batch: Batch, before: Arrays, change: Arrays) -> dict[str, _Error]:
        """Returns the error of each change that an update in a file made to a state."""
        expected = self.train(batch)
        others = [self.train(batch, noise) for noise in range(1, _DRAWS + 1)]
        return {
            name: _error(
                name,
                change[name],
                expected[name],
                [other[name] for other in others],
                np.spacing(np.abs(before.get(name, 0), dtype="float32")),
            )
            for name in expected
        }

    def batches(self, labels: tf.TensorSpec, seed: int) -> Iterator[Batch]:
        """Gives random batches, for one update each."""
        (tensor,) = (self._prefix or self._tail).inputs
        random = np.random.default_rng(seed)
        shape = tuple(labels.shape)
        for _ in range(_STEPS):
            x = drawn(random, tensor.dtype, (shape[0], *tensor.shape[1:]))
            y: np.ndarray = random.uniform(size=shape)
            if labels.dtype.is_integer:
                y = random.integers(self._tail.outputs[0].shape[-1], size=shape)
            yield x, y.astype(labels.dtype.name)

    def infer(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(self._tail(self._features(x), training=False))

    def leave(self) -> None:
        """Gives all variables the values that they had at first."""
        self._assign(self._first)

    def _features(self, x: np.ndarray) -> np.ndarray:
        return x if self._prefix is None else np.asarray(self._prefix(x, training=False))

    def _values(self) -> list[np.ndarray]:
        return [np.asarray(v).copy() for v in self._variables]

    def _assign(self, values: Sequence[np.ndarray]) -> None:
        for variable, value in zip(self._variables, values, strict=True):
            variable.assign(value)

    def _named(self) -> Arrays:
        """The values by the names that they have in the program, packed as they are there."""
        program, found = self._program, Arrays()
        for one in program.contents.stored:
            found |= one.entries(np.asarray(self._own[one.variable.path]).copy())
        for name, variable in program.contents.statistics.items():
            found[name] = np.asarray(self._own[variable.path]).copy()
        for (name, (kept, owner)), slot in zip(program.slots.items(), self._slots, strict=True):
            value = np.asarray(slot).copy()
            if owner is not None and value.shape != tuple(kept.shape):
                value = owner.stored(value)
            found[name] = value
        return found


def _rates(stages: Stages) -> np.ndarray:
    """A rate for each block, another one for each."""
    return np.linspace(_RATE, _RATE / 2, len(stages.blocks), dtype="float32")


def _changes(before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]) -> Arrays:
    return {name: after[name].astype("float64") - before[name].astype("float64") for name in after}


def _error(
    name: str,
    found: np.ndarray,
    expected: np.ndarray,
    others: Sequence[np.ndarray],
    last_digit: np.ndarray,
) -> _Error:
    """The error of a change.

    Args:
        name: of what is changed.
        found: the change in the file.
        expected: that in Keras.
        others: changes in Keras from starts that are off in their last digits.
        last_digit: what the last digit of the changed values is worth.
    """
    if not np.all(np.isfinite(expected)):
        raise RuntimeError(f"Keras' own update of {name} is not finite")
    if not np.all(np.isfinite(found)):
        return _Error(np.inf, 0.0)
    # Where a start that is off gives no number, nothing is known of what rounding does.
    known = [other for other in others if np.all(np.isfinite(other))]
    rounding = np.max([np.abs(o - expected).max(initial=0.0) for o in known], initial=0.0)
    unexplained = np.abs(found - expected) - _MARGIN * rounding - last_digit
    scale = np.abs(expected).max(initial=0.0) or 1.0
    return _Error(
        float(max(0.0, unexplained.max(initial=0.0)) / scale),
        float(rounding / scale),
    )
