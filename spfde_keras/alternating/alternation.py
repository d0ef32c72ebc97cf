"""Which sub-net a step trains, and how its gradients are corrected."""

from collections.abc import Callable

import keras
import tensorflow as tf

from spfde_keras import checks
from spfde_keras.alternating.correction import correct
from spfde_keras.alternating.gradients import intercepted
from spfde_keras.masking import find_masks
from spfde_keras.replicas import in_common
from spfde_keras.sieve.data_sieve import DataSieve
from spfde_keras.state import SavedState


@keras.saving.register_keras_serializable("spfde_keras")
class Alternation(SavedState):
    """Trains one sub-net per step, in turn, and corrects gradients within each round.

    Args:
        model: the `SparseModel` with several sub-nets.
        correction: bool, whether gradients are corrected.

    Source: AST (Yang et al., NeurIPS 2022), Algorithm 1.
    """

    def __init__(self, model: keras.Model, correction: bool = True):
        super().__init__(name="alternation")
        if not hasattr(model, "subnets"):
            checks.refuse("model", "a SparseModel", model)
        correction = checks.switch("correction", correction)
        self._subnets = max(1, len(model.subnets))
        self._replicas = model.replicas.count
        with model.replicas.strategy.scope():
            self._create_state(model, correction)

    def _create_state(self, model: keras.Model, correction: bool) -> None:
        self.step = self.variable("step", (), "int64")
        self.corrections = self.variable("corrections", (), "int64")
        # Named by the index of the mask: Keras saves variables, but not dictionaries of them.
        masks = find_masks(model) if correction and self._subnets > 1 else []
        self._previous = {
            id(mask.kernel): (
                mask,
                self.variable(f"gradient_{index}", mask.layout.shape, "float32"),
            )
            for index, mask in enumerate(masks)
        }

    def variable(self, name: str, shape: tuple[int, ...], dtype: str) -> keras.Variable:
        # Near the kernels; all replicas write the same.
        return self.add_weight(
            name=name,
            shape=shape,
            dtype=dtype,
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",
        )

    def count(self, sieve: DataSieve, sample_id: tf.Tensor, right: tf.Tensor) -> None:
        """Counts which samples of a batch were right at this visit.

        Args:
            sieve: the `DataSieve`.
            sample_id: integer tensor (batch,).
            right: bool tensor (batch,), as the sub-net in training has them.
        """
        sieve.count(sample_id, right)

    def train_step(self, model: keras.Model, train: Callable[[], dict]) -> dict:
        """Runs `train`, Keras' train step, with the sub-net whose turn it is."""
        turn = self.step.value % self._subnets

        def receive(pairs: list, apply: Callable) -> None:
            found = {id(kernel): gradient for gradient, kernel in pairs}
            kernels = [k for k in self._previous if found.get(k) is not None]
            whole = in_common([tf.convert_to_tensor(found[kernel]) for kernel in kernels])
            for kernel, gradient in zip(kernels, whole, strict=True):
                # The optimizer adds up those of all replicas, here again the same ones.
                found[kernel] = self._corrected(gradient, kernel, turn) / self._replicas
            apply([(found[id(kernel)], kernel) for _, kernel in pairs])

        with model.at(tf.cast(turn, tf.int32)), intercepted(model.optimizer, receive):
            logs = train()
        self.step.assign_add(1)
        return logs

    def _corrected(self, gradient: tf.Tensor, kernel: int, turn: tf.Tensor) -> tf.Tensor:
        """The gradient of a kernel, known by its `id`, on the whole batch."""
        mask, stored = self._previous[kernel]
        gradient = mask(gradient)
        corrected, conflict = correct(gradient, tf.cast(stored.value, gradient.dtype), mask.running)
        # The first sub-net of a round has no predecessor to conflict with.
        conflict &= turn > 0
        self.corrections.assign_add(tf.cast(conflict, tf.int64))
        stored.assign(gradient)
        return tf.where(conflict, corrected, gradient)
