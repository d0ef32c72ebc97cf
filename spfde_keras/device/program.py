"""What a file that trains computes: the functions behind its signatures."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from spfde_keras import compat, compat_updates
from spfde_keras.device.contents import Contents, Stored
from spfde_keras.device.operators import in_builtins
from spfde_keras.device.state import State

Tensors = dict[str, tf.Tensor]

# Types of optimizers that update each weight by its own gradient and slots, or by norms, which
# zeros do not change. Others see whole kernels.
_BY_WEIGHT = {
    getattr(keras.optimizers, name)
    for name in (
        "SGD Adam AdamW Adadelta Adagrad Adamax Ftrl Lamb Lion Nadam RMSprop ScheduleFreeAdamW"
    ).split()
    if hasattr(keras.optimizers, name)
}


class Slot(NamedTuple):
    """A variable of an optimizer, and whose slot it is, if it is one."""

    variable: keras.Variable
    owner: Stored | None


class Updated(NamedTuple):
    """A trainable variable, and what the optimizer updates in its place.

    Args:
        stored: how it is stored.
        seen: the variable itself, or one of what is stored of it.
    """

    stored: Stored
    seen: keras.Variable

    @property
    def whole(self) -> bool:
        """Whether the optimizer sees all of a variable that is stored packed."""
        return self.seen is self.stored.variable


@dataclasses.dataclass(frozen=True)
class Program:
    """The functions of a file that trains.

    Args:
        contents: what of the model is stored; its tail is compiled with the loss.
        optimizer: built on what is `seen` of `updated`.
        updated: the trainable variables, as in `contents`.
        slots: the optimizer's variables, by name.
        judge: None, or the function (y, outputs) -> bool (batch,) that says what is right.
        state: of all these.
    """

    contents: Contents
    optimizer: keras.optimizers.Optimizer
    updated: Sequence[Updated]
    slots: Mapping[str, Slot]
    judge: Callable | None
    state: State

    def infer(self, x: tf.Tensor) -> Tensors:
        """Returns "outputs" for a batch, as inference gives them."""
        features, read = self._features(x), self.state.read()
        with in_builtins(), self._scope(self._kernels(read), read):
            return {"outputs": self.contents.parts.tail(features, training=False)}

    def features(self, x: tf.Tensor) -> Tensors:
        """Returns "features" for a batch, what the frozen layers give."""
        return {"features": self._features(x)}

    def train(self, x: tf.Tensor, y: tf.Tensor, rate: tf.Tensor) -> Tensors:
        """Makes one update; where loss, rate or gradients are not finite, nothing is changed.

        Args:
            x: inputs (batch, ...).
            y: labels (batch, ...).
            rate: float32 (1,), the learning rate.

        Returns:
            "loss", float32 (1,), NaN if nothing was changed, and, where the loss tells it,
            "correct", int32 (batch,).
        """
        return self.train_on_features(self._features(x), y, rate)

    def train_on_features(self, features: tf.Tensor, y: tf.Tensor, rate: tf.Tensor) -> Tensors:
        """Makes the same update from features (batch, ...)."""
        tail, read = self.contents.parts.tail, self.state.read()
        kernels = self._kernels(read)
        with in_builtins(), self._scope(kernels, read) as scope:
            outputs = tail(features, training=True)
            loss = tail.compute_loss(features, y, outputs)
            gradients = tf.gradients(loss, kernels)
            statistics = self.contents.statistics
            changed = {name: scope.get_current_value(v) for name, v in statistics.items()}
        # Rows that are looked up keep gradients of their own, which optimizers take as they are.
        gradients = [
            g if g is None or one.places is None else one.packed(tf.convert_to_tensor(g), read)
            for one, g in zip(self.contents.stored, gradients, strict=True)
        ]
        changed |= self._update(kernels, gradients, rate[0], read)
        valid = _all_finite([loss, rate, *gradients])
        self.state.assign(changed, valid)
        found = {"loss": tf.reshape(tf.where(valid, loss, tf.constant(np.nan, loss.dtype)), [1])}
        if self.judge is not None:
            found["correct"] = tf.cast(self.judge(y, outputs), tf.int32)
        return found

    def _features(self, x: tf.Tensor) -> tf.Tensor:
        prefix = self.contents.parts.prefix
        if prefix is None:
            return x
        with in_builtins(kernels_change=False), keras.StatelessScope(self._constants()):
            return prefix(x, training=False)

    def _kernels(self, read: Tensors) -> list[tf.Tensor]:
        return [one.whole(read[one.name], read) for one in self.contents.stored]

    def _scope(self, kernels: Sequence[tf.Tensor], read: Tensors) -> keras.StatelessScope:
        contents = self.contents
        variables = [one.variable for one in contents.stored]
        values = list(zip(variables, kernels, strict=True))
        values += [(variable, read[name]) for name, variable in contents.statistics.items()]
        return keras.StatelessScope([*values, *self._constants()], collect_losses=True)

    def _constants(self) -> list[tuple[keras.Variable, tf.Tensor]]:
        return [(variable, tf.constant(value)) for variable, value in self.contents.constants]

    def _update(
        self,
        kernels: Sequence[tf.Tensor],
        gradients: Sequence[tf.Tensor | None],
        rate: tf.Tensor,
        read: Tensors,
    ) -> Tensors:
        """What the optimizer makes of weights and slots, from gradients of what is stored."""
        values = [(slot, read[name]) for name, (slot, _) in self.slots.items()]
        values.append((self.optimizer.learning_rate, rate))
        seen_gradients = []
        for one, kernel, gradient in zip(self.updated, kernels, gradients, strict=True):
            stored = one.stored
            values.append((one.seen, kernel if one.whole else read[stored.name]))
            unpacks = one.whole and gradient is not None
            seen_gradients.append(stored.whole(gradient, read) if unpacks else gradient)
        with compat_updates.catching_updates(), keras.StatelessScope(values) as scope:
            self.optimizer.apply(seen_gradients, [one.seen for one in self.updated])
        new = {name: scope.get_current_value(slot) for name, (slot, _) in self.slots.items()}
        for one in self.updated:
            value = scope.get_current_value(one.seen)
            new[one.stored.name] = one.stored.packed(value, read) if one.whole else value
        return new


def program_of(
    contents: Contents, optimizer: keras.optimizers.Optimizer, judge: Callable | None
) -> Program:
    """Returns what the file of a model computes.

    Args:
        contents: of the model, whose tail is compiled with the loss.
        optimizer: not built yet.
        judge: as in `Program`.
    """
    config = optimizer.get_config()
    # The name is counted up in each session, and the rate is an input.
    about = {key: value for key, value in config.items() if key not in ("name", "learning_rate")}
    updated = [Updated(one, _seen(one, optimizer)) for one in contents.stored]
    optimizer.build([one.seen for one in updated])
    owners = {id(v): one.stored for one in updated for v, _ in compat.slots(optimizer, one.seen)}
    slots = {
        f"slots:{i}:{v.path}": Slot(v, owners.get(id(v)))
        for i, v in enumerate(optimizer.variables)
        if v is not optimizer.learning_rate  # an input of each update
    }
    first = {name: np.asarray(slot) for name, (slot, _) in slots.items()}
    kinds = [type(optimizer).__name__, about, [value.shape for value in first.values()]]
    state = State(contents.initial, contents.about, first, kinds)
    return Program(contents, optimizer, updated, slots, judge, state)


def _seen(one: Stored, optimizer: keras.optimizers.Optimizer) -> keras.Variable:
    by_weight = type(optimizer) in _BY_WEIGHT and one.variable.constraint is None
    if one.places is None or not by_weight:
        return one.variable
    # By its name an optimizer may leave a variable without decay.
    return keras.Variable(one.stored(np.asarray(one.variable)), name=one.variable.name)


def _all_finite(tensors: Sequence[tf.Tensor | None]) -> tf.Tensor:
    # A sum with infinity or NaN is one of them.
    sums = [tf.reduce_sum(tf.convert_to_tensor(t)) for t in tensors if t is not None]
    return tf.math.is_finite(tf.add_n(sums))
