"""What a file that trains computes: the functions behind its signatures."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from spfde_keras import compat, compat_updates
from spfde_keras.device.contents import Contents, Stored
from spfde_keras.device.mutation import Mutable, Mutations
from spfde_keras.device.operators import in_builtins
from spfde_keras.device.sieving import QUEUE, Sieving
from spfde_keras.device.stages import Stages
from spfde_keras.device.state import State
from spfde_keras.masking import Subnet
from spfde_keras.schemes import Unstructured
from spfde_keras.updaters import Updater

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
        stages: the blocks that are frozen one after another.
        mutations: None, or how masks change.
        sieving: None, or what is known of samples.
        state: of all these.
    """

    contents: Contents
    optimizer: keras.optimizers.Optimizer
    updated: Sequence[Updated]
    slots: Mapping[str, Slot]
    judge: Callable | None
    stages: Stages
    mutations: Mutations | None
    sieving: Sieving | None
    state: State

    def infer(self, x: tf.Tensor) -> Tensors:
        """Returns "outputs" for a batch, as inference gives them."""
        features, read = self.of_prefix(x), self.state.read()
        with in_builtins(), self._scope(self._kernels(read), read):
            return {"outputs": self.contents.parts.tail(features, training=False)}

    def features(self, x: tf.Tensor) -> Tensors:
        """Returns "features" for a batch, what the frozen layers give."""
        return {"features": self.of_prefix(x)}

    def train(
        self,
        stage: int,
        features: tf.Tensor,
        y: tf.Tensor,
        rate: tf.Tensor,
        sample: tf.Tensor | None = None,
    ) -> Tensors:
        """Makes one update; where loss, rate or gradients are not finite, nothing is changed.

        Args:
            stage: int, how many blocks are frozen.
            features: what the frozen layers in front give, (batch, ...).
            y: labels (batch, ...).
            rate: float32 (blocks,), the learning rate of each block.
            sample: int32 (batch,), ids of samples, where they are counted.

        Returns:
            "loss", float32 (1,), NaN if nothing was changed, and, where the loss tells it,
            "correct", int32 (batch,).
        """
        read = self.state.read()
        kernels = self._kernels(read)
        trained = self._trained(stage)
        with self.stages.frozen(stage), in_builtins(), self._scope(kernels, read) as scope:
            loss, outputs = self._loss(features, y)
            gradients = tf.gradients(loss, [kernels[i] for i in trained])
            statistics = self.contents.statistics
            changed = {name: scope.get_current_value(v) for name, v in statistics.items()}
        stored = [self.contents.stored[i] for i in trained]
        # Of rows that are looked up, optimizers square gradients before they add them up.
        gradients = [
            g if g is None or one.places is None else one.packed(tf.convert_to_tensor(g), read)
            for one, g in zip(stored, gradients, strict=True)
        ]
        changed |= self._update(trained, kernels, gradients, rate, read)
        valid = _all_finite([loss, rate, *gradients, *changed.values()])
        found = {}
        if self.judge is not None:
            found["correct"] = tf.cast(self.judge(y, outputs), tf.int32)
        if self.sieving is not None:
            valid = tf.logical_and(valid, self.sieving.known(sample))
            changed |= self.sieving.count(sample, found["correct"], read)
        self.state.assign(changed, valid)
        loss = tf.where(valid, loss, tf.constant(np.nan, loss.dtype))
        return {"loss": tf.reshape(loss, [1]), **found}

    def mutate(
        self,
        stage: int,
        share: tf.Tensor,
        random: tf.Tensor,
        features: tf.Tensor | None = None,
        y: tf.Tensor | None = None,
    ) -> Tensors:
        """Changes the masks of blocks that are not frozen.

        Args:
            stage: int, how many blocks are frozen.
            share: float32 (blocks,), how far the masks of each block change.
            random: float32 (numbers,).
            features, y: a batch, as for `train`, where importance has a part of the gradient.

        Returns:
            "stayed", float32 (1,): the share of stored weights that are still stored, NaN if
            nothing was changed, since the arguments make no sense.
        """
        mutations, read = self.mutations, self.state.read()
        assert mutations is not None
        gradients: Tensors = {}
        if features is not None:
            kernels, stored = self._kernels(read), [one.stored for one in mutations.kernels]
            places = {one.name: i for i, one in enumerate(self.contents.stored)}
            with self.stages.frozen(stage), in_builtins(), self._scope(kernels, read):
                loss, _ = self._loss(features, y)
                found = tf.gradients(loss, [kernels[places[one.name]] for one in stored])
            gradients = {
                one.name: one.packed(tf.convert_to_tensor(g), read)
                for one, g in zip(stored, found, strict=True)
                if g is not None
            }
        frozen = tf.constant([block < stage for block in range(len(self.stages.blocks))])
        valid = tf.logical_and(_all_finite([share, random]), mutations.allows(share))
        changed, stayed = mutations.change(tf.where(frozen, -1.0, share), random, gradients, read)
        self.state.assign(changed, valid)
        return {"stayed": tf.where(valid, stayed, np.nan)}

    def member(self) -> Tensors:
        """Returns "member", int32 (samples,): 1 for the samples that are trained on."""
        sieving = self.sieving
        assert sieving is not None
        return {"member": sieving.member(self.state.read()[QUEUE])}

    def sieve(self, random: tf.Tensor, shuffle: tf.Tensor) -> Tensors:
        """Exchanges samples if the numbers are finite, as `Sieving.update`; returns "member"."""
        sieving, read = self.sieving, self.state.read()
        assert sieving is not None
        changed, member = sieving.update(random, shuffle, read)
        valid = _all_finite([random, shuffle])
        self.state.assign(changed, valid)
        return {"member": tf.where(valid, member, sieving.member(read[QUEUE]))}

    def of_prefix(self, x: tf.Tensor) -> tf.Tensor:
        """Returns what the frozen layers in front give; `x` itself where there are none."""
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

    def _loss(self, features: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The loss of a batch in training, and the outputs."""
        tail = self.contents.parts.tail
        outputs = tail(features, training=True)
        return tail.compute_loss(features, y, outputs), outputs

    def _trained(self, stage: int) -> list[int]:
        """Numbers of the variables that are trained where some blocks are frozen."""
        variables = [one.variable for one in self.contents.stored]
        return [i for i, v in enumerate(variables) if self.stages.block_of(v) >= stage]

    def _update(
        self,
        trained: Sequence[int],
        kernels: Sequence[tf.Tensor],
        gradients: Sequence[tf.Tensor | None],
        rate: tf.Tensor,
        read: Tensors,
    ) -> Tensors:
        """What the optimizer makes of weights and slots, from gradients of what is stored."""
        updated = [self.updated[i] for i in trained]
        values = [(slot, read[name]) for name, (slot, _) in self.slots.items()]
        values.append(
            (self.optimizer.learning_rate, rate[0] if self._has_one_rate else tf.ones(()))
        )
        for one, kernel in zip(self.updated, kernels, strict=True):
            values.append((one.seen, kernel if one.whole else read[one.stored.name]))
        seen_gradients = [
            one.stored.whole(g, read) if one.whole and g is not None else g
            for one, g in zip(updated, gradients, strict=True)
        ]
        with compat_updates.catching_updates(), self._rates(rate):
            with in_builtins(), keras.StatelessScope(values) as scope:
                self.optimizer.apply(seen_gradients, [one.seen for one in updated])
        new = {name: scope.get_current_value(slot) for name, (slot, _) in self.slots.items()}
        for one in updated:
            value = scope.get_current_value(one.seen)
            new[one.stored.name] = one.stored.packed(value, read) if one.whole else value
        return new

    @property
    def _has_one_rate(self) -> bool:
        return len(self.stages.blocks) == 1

    @contextlib.contextmanager
    def _rates(self, rate: tf.Tensor) -> Iterator[None]:
        """Gives each block its own learning rate, where there are several."""
        if self._has_one_rate:
            yield
            return
        block_of = {id(one.seen): self.stages.block_of(one.stored.variable) for one in self.updated}
        compat.scale_updates(self.optimizer, lambda v: block_of[id(v)], lambda block: rate[block])
        try:
            yield
        finally:
            compat.restore_updates(self.optimizer)


def program_of(
    contents: Contents,
    optimizer: keras.optimizers.Optimizer,
    judge: Callable | None,
    stages: Stages,
    changes: Mapping[str, Subnet] | None = None,
    updater: Updater | None = None,
    sieving: Sieving | None = None,
) -> Program:
    """Returns what the file of a model computes.

    Args:
        contents: of the model, whose tail is compiled with the loss.
        optimizer: not built yet.
        judge: as in `Program`.
        stages: as in `Program`.
        changes: None, or the kernels whose masks change, by path.
        updater: None, or what changes them.
        sieving: as in `Program`.

    Raises:
        ValueError: if the optimizer or the kernels do not let masks change.
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
    mutations = None
    if updater is not None:
        names = {id(slot): name for name, (slot, _) in slots.items()}
        kernels = [_mutable(one, changes or {}, stages, optimizer, names) for one in updated]
        mutations = Mutations(updater, [one for one in kernels if one is not None])
        if not mutations.kernels:
            raise ValueError(
                "`updater` must be None where nothing that is trained has a mask. "
                f"Received: {updater}"
            )
    first = {name: np.asarray(slot) for name, (slot, _) in slots.items()}
    kinds = [type(optimizer).__name__, about, [value.shape for value in first.values()]]
    if sieving is not None:
        first |= sieving.initial
        kinds.append([sieving.samples, sieving.removed])
    state = State(contents.initial, contents.about, first, kinds)
    return Program(contents, optimizer, updated, slots, judge, stages, mutations, sieving, state)


def _mutable(
    one: Updated,
    changes: Mapping[str, Subnet],
    stages: Stages,
    optimizer: keras.optimizers.Optimizer,
    names: Mapping[int, str],
) -> Mutable | None:
    variable = one.stored.variable
    kernel = changes.get(variable.path)
    if kernel is None or one.stored.places is None:
        return None
    if one.whole:
        raise ValueError(
            "`updater` must be None where an optimizer, or a constraint, sees whole kernels. "
            f"Received: {type(optimizer).__name__}, and {variable.path!r} with the constraint "
            f"{variable.constraint}"
        )
    if not isinstance(kernel.scheme, Unstructured):
        raise ValueError(
            "`updater` must be None where weights are not kept one by one. Received: scheme "
            f"{kernel.scheme} of {variable.path!r}"
        )
    slots = {names[id(v)]: start for v, start in compat.slots(optimizer, one.seen)}
    return Mutable(one.stored, kernel, stages.block_of(variable), slots)


def _seen(one: Stored, optimizer: keras.optimizers.Optimizer) -> keras.Variable:
    by_weight = type(optimizer) in _BY_WEIGHT and one.variable.constraint is None
    if one.places is None or not by_weight:
        return one.variable
    # By its name an optimizer may leave a variable without decay.
    return keras.Variable(one.stored(np.asarray(one.variable)), name=one.variable.name)


def _all_finite(tensors: Sequence[tf.Tensor | None]) -> tf.Tensor:
    # A sum with infinity or NaN is one of them. LiteRT's `IsFinite` behind `add_n` misses infinity.
    values = [tf.convert_to_tensor(tensor) for tensor in tensors if tensor is not None]
    sums = [tf.reduce_sum(value) for value in values if value.dtype.is_floating]
    return tf.abs(tf.add_n(sums)) < tf.float32.max
