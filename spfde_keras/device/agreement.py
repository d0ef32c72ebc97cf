"""Compares updates that a file makes with those that Keras makes, before the file is published."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from spfde_keras import kernels
from spfde_keras.device.cutting import Parts
from spfde_keras.device.program import Program
from spfde_keras.export.verification import quiet

STEPS = 2
"""So that the second update takes the slots that the first has left."""

_RATE = 0.1  # whatever the optimizer's own is: updates must not drown in the weights' rounding
_ROUNDING = 1e-7  # of float32
_DRAWS = 4
_MARGIN = 10.0  # over the largest of as many draws
_INFERENCE_TOLERANCE = 1e-4

Arrays = dict[str, np.ndarray]
Batch = tuple[np.ndarray, np.ndarray]


def check_agreement(
    path: str | os.PathLike[str],
    program: Program,
    twin: Parts,
    labels: tf.TensorSpec,
    tolerance: float,
) -> float:
    """Returns the largest error of the updates that a file makes, on random data.

    That of a variable is the largest difference from its change in Keras, less what rounding
    explains, as a share of the variable's largest change. Rounding is measured: Keras makes the
    same updates from inputs and weights that differ in their last digits.

    Args:
        path: the file.
        program: what it computes.
        twin: the parts of the model with masks, the tail compiled; they are trained.
        labels: of a batch.
        tolerance: the largest error accepted.

    Raises:
        RuntimeError: names what is off by more.
    """
    file, batches = _File(path, program), list(_batches(program.contents.parts, labels))
    with kernels.disabled():
        reference = _Reference(program, twin)
        try:
            errors = _errors(file, reference, batches)
        finally:  # layers that cannot be copied are those of the user's model
            reference.start()
    worst = max(errors, key=errors.__getitem__)
    if not errors[worst] <= tolerance:
        raise RuntimeError(
            f"an update of {worst} is off by {errors[worst]:.2g} of the update, more than "
            f"{tolerance:g}"
        )
    return errors[worst]


def _errors(file: "_File", reference: "_Reference", batches: Sequence[Batch]) -> dict[str, float]:
    """The error of each variable in each signature that makes updates."""
    features = [(reference.features(x), y) for x, y in batches]
    others = [reference.train(features, noise) for noise in range(1, _DRAWS + 1)]
    expected = reference.train(features)
    if unsound := [name for name, change in expected.items() if not np.all(np.isfinite(change))]:
        raise RuntimeError(f"Keras' own update of {unsound[0]} is not finite")
    found: dict[str, float] = {}
    for signature in file.trains:
        before = file.state()
        for name, change in file.train(signature, batches).items():
            last_digit = np.spacing(np.abs(before[name], dtype="float32")) if name in before else 0
            noise = [other[name] for other in others]
            found[f"{name} in {signature}"] = _error(change, expected[name], noise, last_digit)
        outputs = reference.infer(features[0][0], file.state())
        off = np.abs(file.infer(batches[0][0]) - outputs).max() / (np.abs(outputs).max() or 1.0)
        if not off <= _INFERENCE_TOLERANCE:
            raise RuntimeError(f"the outputs are off by {off:.2g} of their scale")
        file.check_restores()
    return found


class _File:
    """A file in LiteRT's interpreter."""

    def __init__(self, path: str | os.PathLike[str], program: Program):
        from spfde_keras.export.litert import Interpreter

        with quiet():
            self._interpreter = Interpreter(model_path=os.fspath(path))
            self._signatures = {
                name: self._interpreter.get_signature_runner(name)
                for name in self._interpreter.get_signature_list()
            }
        self._program = program
        self._first = self._save()

    @property
    def trains(self) -> list[str]:
        """The signatures that make an update."""
        return [name for name in self._signatures if name.startswith("train")]

    def state(self) -> Arrays:
        return self._program.state.take_apart(self._save())

    def train(self, signature: str, batches: Sequence[Batch]) -> Arrays:
        """Returns changes by name."""
        before, losses = self.state(), []
        for x, y in batches:
            inputs = {"x": x} if signature == "train" else {"features": self._features(x)}
            rate = np.array([_RATE], "float32")
            losses.append(self._signatures[signature](**inputs, y=y, rate=rate)["loss"][0])
        return _changes(before, self.state()) | {"loss": np.array(losses)}

    def infer(self, x: np.ndarray) -> np.ndarray:
        return self._singly("infer", x)

    def _features(self, x: np.ndarray) -> np.ndarray:
        return self._singly("features", x)

    def _singly(self, signature: str, x: np.ndarray) -> np.ndarray:
        outputs = [self._signatures[signature](x=x[i : i + 1]) for i in range(len(x))]
        return np.concatenate([value for one in outputs for value in one.values()])

    def check_restores(self) -> None:
        restored = self._signatures["restore"](state=self._first)["restored"]
        if restored.tolist() != [1] or not np.array_equal(self._save(), self._first):
            raise RuntimeError("a saved state does not come back")

    def _save(self) -> np.ndarray:
        return self._signatures["save"]()["state"]


class _Reference:
    """The same model in Keras, which `train_on_batch` trains."""

    def __init__(self, program: Program, twin: Parts):
        self._program, (self._prefix, self._tail) = program, twin
        optimizer = self._tail.optimizer
        optimizer.build(self._tail.trainable_variables)
        optimizer.learning_rate.assign(_RATE)
        self._variables = [*self._tail.variables, *optimizer.variables]
        self._start = [np.asarray(v).copy() for v in self._variables]

    def features(self, x: np.ndarray) -> np.ndarray:
        return x if self._prefix is None else np.asarray(self._prefix(x, training=False))

    def start(self) -> None:
        """Gives all variables the values that they had at first."""
        for variable, value in zip(self._variables, self._start, strict=True):
            variable.assign(value)

    def train(self, batches: Sequence[Batch], noise: int = 0) -> Arrays:
        """Returns changes by name, from the start, which is off in its last digits for `noise`."""
        random = np.random.default_rng(noise)

        def off(value: np.ndarray) -> np.ndarray:
            if not noise or value.dtype.kind != "f":
                return value
            factors = 1 + _ROUNDING * random.uniform(-1, 1, value.shape)
            return (value * factors).astype(value.dtype)

        self.start()
        for variable in self._tail.trainable_variables:
            variable.assign(off(np.asarray(variable)))
        before = self._named()
        losses = [float(self._tail.train_on_batch(off(x), y)) for x, y in batches]
        return _changes(before, self._named()) | {"loss": np.array(losses)}

    def infer(self, x: np.ndarray, state: Mapping[str, np.ndarray]) -> np.ndarray:
        """Returns the outputs with the weights and statistics of a file's state."""
        own, contents = {v.path: v for v in self._tail.variables}, self._program.contents
        for one in contents.stored:
            own[one.variable.path].assign(one.unpacked(state[one.name]))
        for name, variable in contents.statistics.items():
            own[variable.path].assign(state[name])
        return np.asarray(self._tail(x, training=False))

    def _named(self) -> Arrays:
        """The values by the names that they have in the program, packed as they are there."""
        program, optimizer = self._program, self._tail.optimizer
        own = {v.path: np.asarray(v).copy() for v in self._tail.variables}
        found: Arrays = {}
        for one in program.contents.stored:
            found |= one.entries(own[one.variable.path])
        found |= {name: own[v.path] for name, v in program.contents.statistics.items()}
        slots = [v for v in optimizer.variables if v is not optimizer.learning_rate]
        for (name, (slot, owner)), variable in zip(program.slots.items(), slots, strict=True):
            value = np.asarray(variable).copy()
            if owner is not None and value.shape != tuple(slot.shape):
                value = owner.stored(value)
            found[name] = value
        return found


def _changes(before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]) -> Arrays:
    return {name: after[name].astype("float64") - before[name].astype("float64") for name in after}


def _error(
    found: np.ndarray, expected: np.ndarray, others: Sequence[np.ndarray], last_digit: Any
) -> float:
    if not np.all(np.isfinite(found)):
        return np.inf
    rounding = np.max([np.abs(other - expected) for other in others], axis=0)
    unexplained = np.abs(found - expected) - _MARGIN * rounding - STEPS * last_digit
    return float(
        max(0.0, unexplained.max(initial=0.0)) / (np.abs(expected).max(initial=0.0) or 1.0)
    )


def _batches(parts: Parts, labels: tf.TensorSpec) -> Iterator[Batch]:
    (tensor,) = (parts.prefix or parts.tail).inputs
    random = np.random.default_rng(0)
    shape = tuple(labels.shape)
    for _ in range(STEPS):
        x = random.uniform(
            high=1 if "float" in tensor.dtype else 2, size=(shape[0], *tensor.shape[1:])
        )
        y: np.ndarray = random.uniform(size=shape)
        if labels.dtype.is_integer:
            y = random.integers(parts.tail.outputs[0].shape[-1], size=shape)
        yield x.astype(tensor.dtype), y.astype(labels.dtype.name)
