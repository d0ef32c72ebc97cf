"""What a file that trains computes: the functions behind its signatures."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from spfde_keras import compat
from spfde_keras.device.operators import in_builtins
from spfde_keras.device.state import State, hash_of
from spfde_keras.device.weights import Stored, stored_weights

Tensors = dict[str, tf.Tensor]


class Slot(NamedTuple):
    """A variable of an optimizer, and whose slot it is, if it is one."""

    variable: keras.Variable
    owner: Stored | None


@dataclasses.dataclass(frozen=True)
class Program:
    """The functions of a file that trains.

    Args:
        model: plain, compiled with the loss.
        optimizer: built on what is `seen` of `stored`.
        stored: how its trainable variables are stored.
        statistics: other variables that training changes, by name.
        slots: the optimizer's variables, by name.
        constants: all other variables of the model, and their values.
        judge: None, or the function (y, outputs) -> bool (batch,) that says what is right.
        state: of all these.
    """

    model: keras.Model
    optimizer: keras.optimizers.Optimizer
    stored: Sequence[Stored]
    statistics: Mapping[str, keras.Variable]
    slots: Mapping[str, Slot]
    constants: Sequence[tuple[keras.Variable, np.ndarray]]
    judge: Callable | None
    state: State

    def infer(self, x: tf.Tensor) -> Tensors:
        """Returns "outputs" for a batch, as inference gives them."""
        read = self.state.read()
        kernels = [one.kernel(read) for one in self.stored]
        with in_builtins(), self._scope(kernels, read):
            return {"outputs": self.model(x, training=False)}

    def train(self, x: tf.Tensor, y: tf.Tensor, rate: tf.Tensor) -> Tensors:
        """Makes one update; where loss, rate or gradients are not finite, nothing is changed.

        Args:
            x: inputs (batch, ...).
            y: labels (batch, ...).
            rate: float32 (1,), the learning rate.

        Returns:
            "loss", float32 (1,), and, where the loss tells it, "correct", int32 (batch,).
        """
        read = self.state.read()
        kernels = [one.kernel(read) for one in self.stored]
        with in_builtins(), self._scope(kernels, read) as scope:
            outputs = self.model(x, training=True)
            loss = self.model.compute_loss(x, y, outputs)
            gradients = tf.gradients(loss, kernels)
            changed = {name: scope.get_current_value(v) for name, v in self.statistics.items()}
        gradients = [
            None if g is None else one.packed(tf.convert_to_tensor(g), read)
            for one, g in zip(self.stored, gradients, strict=True)
        ]
        changed |= self._updated(kernels, gradients, rate[0], read)
        self.state.assign(changed, _all_finite([loss, rate, *gradients]))
        found = {"loss": tf.reshape(loss, [1])}
        if self.judge is not None:
            found["correct"] = tf.cast(self.judge(y, outputs), tf.int32)
        return found

    def _scope(self, kernels: Sequence[tf.Tensor], read: Tensors) -> keras.StatelessScope:
        values = [(one.variable, kernel) for one, kernel in zip(self.stored, kernels, strict=True)]
        values += [(variable, read[name]) for name, variable in self.statistics.items()]
        values += [(variable, tf.constant(value)) for variable, value in self.constants]
        return keras.StatelessScope(values, collect_losses=True)

    def _updated(
        self,
        kernels: Sequence[tf.Tensor],
        gradients: Sequence[tf.Tensor | None],
        rate: tf.Tensor,
        read: Tensors,
    ) -> Tensors:
        """What the optimizer makes of weights and slots, from gradients of what is stored."""
        values, seen_gradients = [(slot, read[name]) for name, (slot, _) in self.slots.items()], []
        for one, kernel, gradient in zip(self.stored, kernels, gradients, strict=True):
            values.append((one.seen, read[one.name] if one.sees_kept else kernel))
            whole = gradient is not None and not one.sees_kept
            seen_gradients.append(one.unpacked(gradient, read) if whole else gradient)
        values.append((self.optimizer.learning_rate, rate))
        with compat.catching_updates(), keras.StatelessScope(values) as scope:
            self.optimizer.apply(seen_gradients, [one.seen for one in self.stored])
        updated = {name: scope.get_current_value(slot) for name, (slot, _) in self.slots.items()}
        for one in self.stored:
            new = scope.get_current_value(one.seen)
            updated[one.name] = new if one.sees_kept else one.packed(new, read)
        return updated


def program_of(
    model: keras.Model,
    plain: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    judge: Callable | None,
) -> Program:
    """Returns what the file of a model computes.

    Args:
        model: of one sub-net.
        plain: the same as `densify` returns it, compiled with the loss.
        optimizer: not built yet.
        judge: as in `Program`.
    """
    about = keras.optimizers.serialize(optimizer)
    stored = stored_weights(model, plain, optimizer)
    optimizer.build([one.seen for one in stored])
    owners = {id(v): one for one in stored for v, _ in compat.slots(optimizer, one.seen)}
    slots = {
        f"slots:{i}:{v.path}": Slot(v, owners.get(id(v)))
        for i, v in enumerate(optimizer.variables)
        if v is not optimizer.learning_rate  # an input of each update
    }
    changed = _changed_by_calls(plain)
    if own := [v.path for v in changed if v.trainable]:
        raise ValueError(
            "`model` must leave its weights to the optimizer. Received: layers that change, when "
            f"they are called, {', '.join(own)}"
        )
    statistics = {f"statistics:{v.path}": v for v in changed}
    varied = {id(v) for v in [*plain.trainable_variables, *changed]}
    constants = [(v, np.asarray(v)) for v in plain.variables if id(v) not in varied]
    initial: dict[str, np.ndarray] = {}
    for one in stored:
        initial |= one.entries(np.asarray(one.variable))
    initial |= {name: np.asarray(v) for name, v in statistics.items()}
    initial |= {name: np.asarray(v) for name, (v, _) in slots.items()}
    state = State(initial, [about, [hash_of(value) for _, value in constants]])
    return Program(plain, optimizer, stored, statistics, slots, constants, judge, state)


def _all_finite(tensors: Sequence[tf.Tensor | None]) -> tf.Tensor:
    # A sum with infinity or NaN is one of them.
    sums = [tf.reduce_sum(tensor) for tensor in tensors if tensor is not None]
    return tf.math.is_finite(tf.add_n(sums))


def _changed_by_calls(model: keras.Model) -> list[keras.Variable]:
    """The variables that a call in training changes, such as moving averages."""
    values: dict[int, tuple[keras.Variable, Any]] = {}
    changed: list[keras.Variable] = []

    @tf.function(autograph=False)
    def call(x: tf.Tensor) -> tf.Tensor:
        values.update({id(v): (v, tf.identity(v.value)) for v in model.variables})
        with keras.StatelessScope(values.values(), collect_losses=True) as scope:
            outputs = model(x, training=True)
        changed.extend(v for v, value in values.values() if scope.get_current_value(v) is not value)
        return outputs

    call.get_concrete_function(*[tf.TensorSpec((2, *t.shape[1:]), t.dtype) for t in model.inputs])
    return changed
