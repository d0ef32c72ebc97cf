"""Joint training, the traditional way to train sub-nets: all of them in every step."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from spfde_keras import compat
from spfde_keras.alternating.alternation import Alternation
from spfde_keras.alternating.callback import AlternatingSparseTraining
from spfde_keras.alternating.gradients import intercepted
from spfde_keras.sieve.data_sieve import DataSieve


class _AllAtOnce(Alternation):
    """Trains all sub-nets in each step, by the mean of their gradients."""

    def train_step(self, model: keras.Model, train: Callable[[], dict]) -> dict:
        collected: list = []
        compat.set_untracked(self, _judged=[])
        for index in range(self._subnets):
            with (
                model.at(index),
                intercepted(model.optimizer, lambda pairs, apply: collected.append(pairs)),
            ):
                logs = train()
        model.optimizer.apply_gradients([_mean(pairs) for pairs in zip(*collected, strict=True)])
        if self._judged:
            sieve, sample_id, _ = self._judged[0]
            sieve.count(sample_id, tf.reduce_all([right for *_, right in self._judged], axis=0))
        compat.set_untracked(self, _judged=[])
        return logs

    def count(self, sieve: DataSieve, sample_id: tf.Tensor, right: tf.Tensor) -> None:
        # One visit: a sample is right in it if it is in all sub-nets.
        self._judged.append((sieve, sample_id, right))


class JointSparseTraining(AlternatingSparseTraining):
    """Trains all sub-nets in every step, by the mean of their losses: AST's baseline.

    A step costs as much as one step of each sub-net. There is nothing to correct.

    Args:
        epochs, updater, interval, freeze, sieve, log_dir, seed, data_stop, update_steps: as for
            `AlternatingSparseTraining`.

    Source: the baseline of AST (Yang et al., NeurIPS 2022); Yu et al., "Slimmable neural
    networks", ICLR 2019.
    """

    def __init__(self, epochs: int | None = None, **kwargs: Any):
        super().__init__(epochs, gradient_correction=False, **kwargs)

    @property
    def _passes(self) -> int:
        return self._subnets

    def _alternation(self) -> _AllAtOnce:
        return _AllAtOnce(self.model, correction=False)


def _mean(
    pairs: Sequence[tuple[tf.Tensor | None, keras.Variable]],
) -> tuple[tf.Tensor | None, keras.Variable]:
    gradients = [gradient for gradient, _ in pairs if gradient is not None]
    mean = sum(gradients) / len(pairs) if gradients else None
    return mean, pairs[0][1]
