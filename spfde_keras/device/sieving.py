"""Data sieving in a file: forgetting is counted by sample, and the easiest samples rest."""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from spfde_keras.randomness import generator

Tensors = Mapping[str, tf.Tensor]

FORGETS, WAS_CORRECT, LEARNED = "sieve:forgets", "sieve:was_correct", "sieve:learned"
QUEUE, RETRIEVED = "sieve:queue", "sieve:retrieved"


@dataclasses.dataclass(frozen=True)
class Sieving:
    """What a file knows of its samples; the same rules as `DataSieve` and its "circular" policy.

    Args:
        samples: int, how many there are; their ids are from 0 on.
        removed: int, how many of them rest.
        exchange: float in (0, 1], share of those that come back at once.
        seed: int, of those that rest at first.
    """

    samples: int
    removed: int
    exchange: float = 1.0
    seed: int = 0

    @property
    def initial(self) -> dict[str, np.ndarray]:
        """What is known at first, by name."""
        drawn = generator(self.seed, 0, "sieve/start").permutation(self.samples)
        found = {n: np.zeros(self.samples, "int32") for n in (FORGETS, WAS_CORRECT, LEARNED)}
        if self.removed:
            found[QUEUE] = drawn[: self.removed].astype("int32")
            found[RETRIEVED] = np.zeros(1, "int32")
        return found

    def known(self, sample: tf.Tensor) -> tf.Tensor:
        """Returns whether all ids int32 (batch,) are those of samples."""
        return tf.reduce_all(tf.logical_and(sample >= 0, sample < self.samples))

    def count(self, sample: tf.Tensor, correct: tf.Tensor, read: Tensors) -> dict[str, tf.Tensor]:
        """Returns what is known after a visit.

        Args:
            sample: int32 (batch,), ids.
            correct: int32 (batch,), 1 where the model is right.
            read: what is known now, by name.
        """
        at = tf.clip_by_value(sample, 0, self.samples - 1)  # others have changed nothing by then
        was, learned = read[WAS_CORRECT], read[LEARNED]
        before, known = tf.gather(was, at), tf.gather(learned, at)

        def added(change: tf.Tensor) -> tf.Tensor:
            return tf.scatter_nd(tf.expand_dims(at, 1), change, [self.samples])

        # An id that comes twice in a batch is counted twice, but not right twice.
        return {
            FORGETS: read[FORGETS] + added(before * (1 - correct)),
            WAS_CORRECT: tf.clip_by_value(was + added(correct - before), 0, 1),
            LEARNED: tf.clip_by_value(learned + added((1 - known) * correct), 0, 1),
        }

    def update(
        self, random: tf.Tensor, shuffle: tf.Tensor, read: Tensors
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """Exchanges samples.

        Args:
            random: float32 (samples,); of samples equally easy, those with larger numbers rest.
            shuffle: float32 (removed,); where the queue is shuffled, larger numbers come first.
            read: what is known now, by name.

        Returns:
            What is known then, by name, and which samples are trained on: int32 (samples,).
        """
        queue, member = read[QUEUE], self.member(read[QUEUE])
        learned = tf.cast(read[LEARNED], tf.float32)
        hardness = learned * tf.cast(read[FORGETS], tf.float32) + (1.0 - learned) * _NEVER
        hardness += tf.cast(1 - member, tf.float32) * 2 * _NEVER
        # Of equals, `top_k` takes the first: so ids are drawn, and then put in order.
        drawn = tf.math.top_k(random, self.samples).indices
        count = min(math.ceil(self.exchange * self.removed), self.samples - self.removed)
        easiest = tf.gather(drawn, tf.math.top_k(-tf.gather(hardness, drawn), count).indices)
        queue = tf.concat([queue, easiest], 0)[count:]
        shuffled = tf.gather(queue, tf.math.top_k(shuffle, self.removed).indices)
        all_have_been_back = read[RETRIEVED] + count >= self.removed
        queue = tf.where(all_have_been_back, shuffled, queue)
        chosen = self.member(queue)
        back = tf.reduce_sum(chosen * (1 - member), keepdims=True)
        nothing = 0 * read[FORGETS]  # zeros would be stored in the file, as large as the samples
        known = {
            QUEUE: queue,
            # It is asked for no more than that: a float32 state must hold it.
            RETRIEVED: tf.minimum(read[RETRIEVED] + back, self.removed),
            WAS_CORRECT: read[WAS_CORRECT] * member * chosen,
            FORGETS: nothing,
            LEARNED: nothing,
        }
        return known, chosen

    def member(self, queue: tf.Tensor) -> tf.Tensor:
        """Returns which samples are trained on where those of a queue rest: int32 (samples,)."""
        return 1 - tf.scatter_nd(tf.expand_dims(queue, 1), 0 * queue + 1, [self.samples])


_NEVER = float(2**20)
"""Harder than any sample that was ever right: more visits than an interval has."""
