"""Mutation in a file: which weights of packed kernels are stored changes, as an updater says."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from spfde_keras.device import shares
from spfde_keras.device.contents import Stored
from spfde_keras.masking import Subnet
from spfde_keras.updaters import Updater

Tensors = Mapping[str, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Mutable:
    """A kernel whose mask changes.

    Args:
        stored: how it is stored.
        kernel: what the updater sees of it.
        block: int, the block that it is in.
        slots: the first values of its slots, by name.
    """

    stored: Stored
    kernel: Subnet
    block: int
    slots: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Mutations:
    """Drops and grows as `carry_out` does.

    Args:
        updater: as `shares.get` returns it.
        kernels: those whose masks change, in the order of the random numbers that they take.
    """

    updater: Updater
    kernels: Sequence[Mutable]

    @property
    def numbers(self) -> int:
        """How many random numbers an update of all kernels takes: two for each weight."""
        return sum(2 * one.stored.nowhere for one in self.kernels)

    def change(
        self,
        share: tf.Tensor,
        random: tf.Tensor,
        gradients: Mapping[str, tf.Tensor],
        read: Tensors,
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """Drops the least important weights, and grows others at zero.

        Args:
            share: float32 (blocks,), how much of each block is exchanged; below 0: nothing is
                touched.
            random: float32 (numbers,), for each kernel first those of growth, then those of
                ties: of weights that are not stored, and of equally important ones, those with
                larger numbers are stored.
            gradients: those of stored weights by the names of these; empty if importance is
                that of weights alone.
            read: what is stored now, by name.

        Returns:
            What is stored then, by name, and the share of weights that stayed: float32 (1,).
        """
        drawn = tf.split(random, [2 * one.stored.nowhere for one in self.kernels])
        new: dict[str, tf.Tensor] = {}
        stayed, before = [], []
        for one, numbers in zip(self.kernels, drawn, strict=True):
            stored = one.stored
            importance = tf.abs(read[stored.name])
            if stored.name in gradients:
                weight = shares.gradient_weight(self.updater)
                importance += _finite(gradients[stored.name]) * weight
            places, held = read[stored.name_of_places], _held(stored, read)
            moved = self._places(one, share[one.block], importance, numbers, places, held)
            was = _moved(held, places, moved, stored.nowhere)
            new[stored.name_of_places] = moved
            for name, first in {stored.name: 0.0, **one.slots}.items():
                value = _moved(read[name], places, moved, stored.nowhere)
                new[name] = tf.where(was > 0, value, tf.constant(first, value.dtype))
            stayed.append(tf.reduce_sum(was))
            before.append(tf.reduce_sum(held))
        return new, tf.reshape(tf.add_n(stayed) / tf.add_n(before), [1])

    def allows(self, share: tf.Tensor) -> tf.Tensor:
        """Returns whether shares are numbers of which there is room."""
        most = np.ones(share.shape, "float32")
        if shares.grows_first(self.updater):
            for one in self.kernels:
                density = 1 - one.kernel.sparsity
                room = shares.densest(self.updater, density) - density
                # A kernel adds at most its own density, however large the share is.
                if room < min(density, 1 - density):
                    most[one.block] = min(most[one.block], room + _ROUNDING)
        return tf.reduce_all(share <= most)

    def _places(
        self,
        one: Mutable,
        share: tf.Tensor,
        importance: tf.Tensor,
        numbers: tf.Tensor,
        places: tf.Tensor,
        held: tf.Tensor,
    ) -> tf.Tensor:
        """The places of what is stored then: what stays, what grows, and room."""
        nowhere, room = one.stored.nowhere, one.stored.size
        drop_to, grow_to = self._counts(one, share)
        now = tf.cast(tf.reduce_sum(held), tf.int32)
        stays = tf.minimum(drop_to, now)
        kept = tf.maximum(stays, grow_to)
        claims, ties = tf.split(numbers, 2)
        # All weights are put in order: how many are then taken must not change a shape. Of equal
        # ones `top_k` takes the first, so they are in the order of `ties` before.
        drawn = tf.math.top_k(tf.gather(tf.pad(ties, [[0, 1]]), places), room).indices
        scores = tf.gather(tf.where(held > 0, importance, -1.0), drawn)
        order = tf.gather(drawn, tf.math.top_k(scores, room).indices)
        best, index = tf.gather(places, order), tf.range(room)
        staying = tf.cast(index < stays, tf.float32)
        taken = tf.scatter_nd(tf.expand_dims(best, 1), staying, [nowhere + 1])[:nowhere]
        grown = tf.math.top_k(tf.where(taken > 0, -1.0, claims), room).indices
        grown = tf.gather(grown, tf.maximum(index - stays, 0))
        moved = tf.where(index < stays, best, tf.where(index < kept, grown, nowhere))
        return tf.where(share < 0, places, moved)

    def _counts(self, one: Mutable, share: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """How many weights are dropped to, and then grown to."""
        nowhere, density = one.stored.nowhere, 1 - one.kernel.sparsity
        settled = tf.constant(one.kernel.count(density))
        if shares.grows_first(self.updater):
            opened = density + tf.minimum(share, min(density, 1 - density))
            return settled, tf.cast(tf.round(opened * nowhere), tf.int32)
        dropped = tf.cast(tf.round((1 - share) * (density * nowhere)), tf.int32)
        return tf.maximum(dropped, 1), settled


_ROUNDING = 1e-6


def _held(stored: Stored, read: Tensors) -> tf.Tensor:
    """1 for what is stored of a weight, 0 for room."""
    return tf.cast(read[stored.name_of_places] < stored.nowhere, tf.float32)


def _moved(value: tf.Tensor, places: tf.Tensor, moved: tf.Tensor, nowhere: int) -> tf.Tensor:
    """What is stored at other places: zero at those that are new."""
    whole = tf.scatter_nd(tf.expand_dims(places, 1), value, [nowhere + 1])
    return tf.gather(tf.pad(whole[:nowhere], [[0, 1]]), moved)


def _finite(gradient: tf.Tensor) -> tf.Tensor:
    """Sizes of gradients: an overflow must not decide which weights are kept."""
    known = tf.where(tf.equal(gradient, gradient), gradient, 0.0)
    return tf.minimum(tf.abs(known), tf.float32.max)
