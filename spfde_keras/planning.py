"""What a training with a callback will cost, before it starts."""

import dataclasses
from collections.abc import Sequence

import keras

from spfde_keras.cost.model import ModelCost
from spfde_keras.cost.plan import TrainingPlan
from spfde_keras.freezing.blocks import first_trained
from spfde_keras.freezing.plan import FreezePlan, Freezing
from spfde_keras.masking import Mask
from spfde_keras.sieve.data_sieve import DataSieve
from spfde_keras.sieve.planned import planned_samples
from spfde_keras.timeline import Timeline
from spfde_keras.updaters import Updater


@dataclasses.dataclass(frozen=True)
class Planning:
    """What a callback knows of a training to come.

    Args:
        costs: of the model.
        masks: the masks of the model.
        updater: how they change.
        timeline: when they do.
        sieve: None, or what chooses the samples.
        most_steps: None, or int, the most steps of an epoch of the sieve.
        passes: int, how many sub-nets a step trains.
    """

    costs: ModelCost
    masks: Sequence[Mask]
    updater: Updater
    timeline: Timeline
    sieve: DataSieve | None
    most_steps: int | None
    passes: int

    def samples(self) -> float | list[int]:
        """Returns the samples of each epoch, as far as they are known: 1 stands for all."""
        if self.sieve is None:
            return 1
        return planned_samples(self.sieve, self.timeline, self.most_steps)

    def plan(self, samples: float | Sequence[float], batch_size: int) -> TrainingPlan:
        """Returns the plan of a training.

        Args:
            samples: those of an epoch, a number or one for each epoch.
            batch_size: int.
        """
        # A model without masks is one sub-net, too, which names no kernel.
        subnets = range(max((len(mask.subnets) for mask in self.masks), default=1))
        return TrainingPlan(
            self.costs,
            [
                {one.kernel_path: 1 - one.sparsity for one in (m.subnets[k] for m in self.masks)}
                for k in subnets
            ],
            self.updater,
            self.timeline.epochs,
            self.timeline.interval,
            samples,
            batch_size,
            self.passes,
            self.timeline.update_steps,
        )

    def solved(
        self, freezing: Freezing | None, blocks: list[list[keras.layers.Layer]]
    ) -> FreezePlan | None:
        """Returns when blocks freeze; None where they do not.

        Args:
            freezing: None, or what is to be saved, and how.
            blocks: the layers of each.
        """
        if freezing is None:
            return None
        # Front blocks that the user has frozen save nothing more, and take no turn of their own.
        return self.plan(self.samples(), batch_size=1).solve(freezing, first_trained(blocks))
