"""Carries out a freeze plan on a model while it trains."""

import contextlib
import gc
from collections.abc import Iterator

import keras
import numpy as np

from spfde_keras import compat
from spfde_keras.freezing.learning_rate import BlockwiseLearningRate
from spfde_keras.freezing.plan import FreezePlan
from spfde_keras.masking import Mask, find_masks
from spfde_keras.timeline import Timeline
from spfde_keras.trainability import Trainability
from spfde_keras.updaters import Updater


class Freezer:
    """Freezes and thaws the front blocks of a model, epoch by epoch.

    A frozen block's layers are not trainable: no gradient is computed upstream of the first
    thawed block, and frozen BatchNormalization runs in inference mode. Layers that the user
    freezes, before or during training, stay frozen.

    Args:
        blocks: list of lists of layers, front to back.
        plan: the `FreezePlan`, or None for a model that is never frozen.
    """

    def __init__(self, blocks: list[list[keras.layers.Layer]], plan: FreezePlan | None):
        self.blocks = len(blocks)
        self.plan = plan
        self._layers = blocks
        self._as_the_user_set_it: dict[int, list[Trainability]] = {}  # blocks that are frozen
        self._block_of = {
            mask.kernel_path: index
            for index, block in enumerate(blocks)
            for layer in block
            for mask in find_masks(layer)
        }
        self._frozen = self._compiled_for = 0
        self._rate: BlockwiseLearningRate | None = None

    def block_of(self, mask: Mask) -> int:
        """Returns the index of the block a kernel is in."""
        return self._block_of[mask.kernel_path]

    def frozen(self, epoch: int) -> int:
        """Returns the number of front blocks frozen in an epoch."""
        return 0 if self.plan is None else int(self.plan.frozen[epoch])

    def frozen_throughout(self, start: int, stop: int) -> int:
        """Returns the number of front blocks frozen in each epoch from `start` to `stop`."""
        return 0 if self.plan is None else self.plan.frozen_throughout(start, stop)

    def settled(self, done: int, timeline: Timeline) -> tuple[int, int]:
        """Returns how many front blocks were settled before a boundary, and how many are then.

        A block frozen from there on is settled; one frozen all through the last interval was.

        Args:
            done: int, epochs done at the boundary.
            timeline: of the training.
        """
        before = self.frozen_throughout(timeline.interval_start(done - 1), done)
        if done == timeline.epochs:
            return before, self.blocks
        return before, self.frozen_throughout(done, done + timeline.interval)

    def times(self, updater: Updater, t: float, interval: int) -> np.ndarray:
        """Returns the time at which each block asks an updater, as `FreezePlan.times`."""
        if self.plan is None:
            return np.full(self.blocks, t)
        return self.plan.times(updater, t, interval)

    def begin(self, model: keras.Model) -> None:
        """Gives each block its learning rate; call it while everything is thawed."""
        # So that a later `fit` can undo what an interrupted one left frozen.
        model.freezer = self
        if self.plan is not None and self.plan.frozen.any():
            variables = [
                [variable for layer in block for variable in layer.trainable_variables]
                for block in self._layers
            ]
            self._rate = BlockwiseLearningRate(model.optimizer, variables).__enter__()

    def apply(self, model: keras.Model, epoch: int) -> bool:
        """Freezes the blocks that the plan says; recompiles only if they have changed.

        Returns whether they have: the next step is then traced anew.
        """
        frozen = self.frozen(epoch)
        self._set(frozen)
        if self._rate is not None and self.plan is not None:
            self._rate.assign(self.plan.multipliers(epoch))
        changed = frozen != self._compiled_for
        if changed:
            model.make_train_function(force=True)
            self._compiled_for = frozen
            gc.collect()  # the step of before refers to itself, and holds a graph
        return changed

    def thaw(self) -> None:
        """Thaws all blocks, leaving the compiled train function as it is."""
        self._set(0)

    @contextlib.contextmanager
    def thawed(self) -> Iterator[None]:
        """In it layers are as the user set them, for what looks at them or writes them down."""
        frozen = self._frozen
        self._set(0)
        try:
            yield
        finally:
            self._set(frozen)

    def end(self, model: keras.Model) -> None:
        """Leaves the model as it was: thawed, with the optimizer's own learning rate."""
        self.thaw()
        if self._rate is not None:
            self._rate.__exit__()
        compat.forget_train_function(model)
        model.freezer = None

    def _set(self, frozen: int) -> None:
        self._frozen = frozen
        before = self._as_the_user_set_it
        for index, layers in enumerate(self._layers):
            if index < frozen and index not in before:
                before[index] = [Trainability(layer) for layer in layers]
                for layer in layers:
                    layer.trainable = False
            elif index >= frozen and index in before:
                for flags in before.pop(index):
                    flags.restore()
