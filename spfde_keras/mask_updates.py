"""The masks of a model changed at a boundary, as an updater plans."""

import dataclasses
from collections.abc import Callable, Sequence

import keras
import numpy as np

from spfde_keras.freezing.learning_rate import reset_slots
from spfde_keras.masking import Mask, Subnet
from spfde_keras.randomness import generator
from spfde_keras.updaters import Moment, Mutation, Updater, carry_out

Gradients = Callable[[list[Mask], str], dict[str, np.ndarray]]
"""(masks, "masked" or "dense") -> the gradients of their kernels, by path."""


@dataclasses.dataclass(frozen=True)
class MaskUpdate:
    """One change of the masks of one sub-net.

    Args:
        updater: what plans it.
        subnet: int, which sub-net.
        moment: what masks change for.
        t: float in [0, 1], fraction of training done.
        seed: int, seed of what is drawn.
        event: int, epochs begun; 0 at the start.
        step: int, steps of the epoch done, where masks change within it.
    """

    updater: Updater
    subnet: int
    moment: Moment
    t: float
    seed: int
    event: int
    step: int = 0

    def apply(
        self,
        masks: Sequence[Mask],
        times: Sequence[float],
        gradients_of: Gradients,
        optimizer: keras.optimizers.Optimizer,
    ) -> dict[str, float]:
        """Changes masks, and gives weights that start over new optimizer slots.

        Args:
            masks: those that change.
            times: floats in [0, 1], the time that each is asked for.
            gradients_of: function that returns the gradients the updater asks for.
            optimizer: a built optimizer.

        Returns:
            By the name of the mask, the share of kept weights that are still kept.
        """
        plans = self._plans(masks, times)
        gradients: dict[str, np.ndarray] = {}
        for kind in {plan.gradient for _, plan in plans if plan.gradient is not None}:
            gradients |= gradients_of([k.mask for k, plan in plans if plan.gradient == kind], kind)
        if self.moment is Moment.UPDATE and plans:
            kernels = [kernel for kernel, _ in plans]
            shares = self.updater.allocate(kernels, self.t, gradients)
            if shares is not None:
                for kernel, share in zip(kernels, shares, strict=True):
                    kernel.mask.retarget(self.subnet, 1 - share)
                plans = self._plans(masks, times)
        overlaps = {}
        for kernel, plan in plans:
            path = kernel.kernel_path
            # At the start, sub-nets draw the same numbers, so that they have much in common.
            own = f"/{self.subnet}" if self.subnet and self.event else ""
            step = f"@{self.step}" if self.step else ""
            rng = generator(self.seed, self.event, f"{kernel.stream}{own}{step}")
            change = carry_out(plan, self.updater, kernel, rng, gradients.get(path))
            if change.fresh.any():
                reset_slots(optimizer, kernel.mask, change.fresh)
            overlaps[f"{path}{own}"] = change.overlap
        return overlaps

    def _plans(
        self, masks: Sequence[Mask], times: Sequence[float]
    ) -> list[tuple[Subnet, Mutation]]:
        kernels = [mask.subnets[self.subnet] for mask in masks]
        return [
            (kernel, self.updater.plan(self.moment, time, 1 - kernel.sparsity))
            for time, kernel in zip(times, kernels, strict=True)
        ]
