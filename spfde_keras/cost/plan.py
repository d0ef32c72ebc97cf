"""FLOPs and memory of a whole training run, before it starts."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np

from spfde_keras import checks
from spfde_keras.cost.model import Densities, ModelCost
from spfde_keras.freezing.plan import FreezePlan
from spfde_keras.timeline import Timeline
from spfde_keras.updaters import Moment, Updater


@dataclasses.dataclass(frozen=True)
class PlanCost:
    """What a planned run costs.

    Attributes:
        flops: float array (epochs,), training FLOPs of each epoch.
        memory: float array (epochs,), bytes in each epoch.
    """

    flops: np.ndarray
    memory: np.ndarray

    @property
    def total(self) -> float:
        """Training FLOPs of the run."""
        return float(self.flops.sum())


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingPlan:
    """A run as the cost model sees it: how dense, how long, on how many samples.

    Density of a kernel: what `updater` trains with in the current interval; its final density
    while its block is frozen (a block takes its last mask update when it is frozen). An updater
    that asks for gradients takes them from one extra pass over a batch at each mask update, with
    the weight gradient of the dense model if it asks for that.

    Args:
        model: the `ModelCost` of the model.
        densities: final densities by kernel path; kernels not named are dense. Of several
            sub-nets, a list of these.
        updater: an `Updater`, or None: densities stay as they are.
        epochs: int, length of training.
        interval: int, epochs between mask updates.
        samples: float, number of samples trained on per epoch, or a list of one for each epoch.
        batch_size: int.
        passes: int, how many of the sub-nets each step trains.

    Example:

    >>> mlp = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4), keras.layers.Dense(2)])
    >>> plan = TrainingPlan(profile(mlp), {}, None, epochs=3, interval=1, samples=10)
    >>> plan.flops(0, frozen=0), plan.flops(0, frozen=1)
    (1760.0, 960.0)
    >>> plan.cost().total
    5280.0

    Source: SpFDE (Yuan et al., NeurIPS 2022), section 4.
    """

    model: ModelCost
    densities: Densities | Sequence[Densities]
    updater: Updater | None
    epochs: int
    interval: int
    samples: float | Sequence[float]
    batch_size: int = 64
    passes: int = 1

    def __post_init__(self) -> None:
        checks.instance("model", self.model, ModelCost, "a ModelCost, as of `profile`")
        rule = "a dictionary from kernel paths to densities, or a list of such"
        several = isinstance(self.densities, (list, tuple))
        for densities in self.densities if several else [self.densities]:
            for density in checks.instance("densities", densities, Mapping, rule).values():
                checks.number("densities", density, least=0, most=1)
        checks.optional(checks.instance, "updater", self.updater, Updater, "None or an Updater")
        for name in ("epochs", "interval", "batch_size", "passes"):
            checks.whole(name, getattr(self, name))
        self._check_samples()

    def _check_samples(self) -> None:
        if np.ndim(self.samples) == 0:
            checks.number("samples", self.samples, least=0)
            return
        rule = f"a number, or a list of one for each of {self.epochs} epochs"
        if len(checks.each(checks.number, "samples", self.samples, rule, least=0)) != self.epochs:
            checks.refuse("samples", rule, self.samples)

    def flops(self, epoch: int, frozen: int) -> float:
        """Returns FLOPs of training one epoch with `frozen` front blocks, mask updates left out.

        This is what `Freezing.plan` asks for.
        """
        costs = [
            self.model.training(densities, frozen) for densities in self._densities(epoch, frozen)
        ]
        return self._trained_on(epoch) * self.passes * float(np.mean(costs))

    def _trained_on(self, epoch: int) -> float:
        return float(np.broadcast_to(self.samples, self.epochs)[epoch])

    def memory(self, epoch: int, frozen: int) -> float:
        """Returns bytes needed in one epoch with `frozen` front blocks.

        Of several sub-nets that is what the densest one needs, as if it held the others.
        """
        return max(
            self.model.memory(densities, frozen, self.batch_size)
            for densities in self._densities(epoch, frozen)
        )

    def cost(self, freeze: FreezePlan | None = None) -> PlanCost:
        """Returns what the run costs, frozen according to `freeze` (None: not at all)."""
        frozen = np.zeros(self.epochs, int) if freeze is None else freeze.frozen
        steps = [(epoch, int(count)) for epoch, count in enumerate(frozen)]
        return PlanCost(
            flops=np.array([self.flops(*step) + self._update_gradients(*step) for step in steps]),
            memory=np.array([self.memory(*step) for step in steps]),
        )

    @property
    def timeline(self) -> Timeline:
        """When masks change."""
        stop = 0.0 if self.updater is None else self.updater.stop
        return Timeline(self.epochs, self.interval, stop)

    @property
    def _subnets(self) -> Sequence[Densities]:
        return [self.densities] if isinstance(self.densities, Mapping) else self.densities

    def _densities(self, epoch: int, frozen: int) -> list[Densities]:
        if self.updater is None:
            return list(self._subnets)
        thawed = {kernel.path for kernel in self.model.kernels if kernel.block >= frozen}
        plan = functools.partial(self.updater.plan, *self._last_update(epoch))

        def trained(path: str, final: float) -> float:
            density = plan(final).density if path in thawed else None
            return final if density is None else density

        return [
            {path: trained(path, final) for path, final in subnet.items()}
            for subnet in self._subnets
        ]

    def _last_update(self, epoch: int) -> tuple[Moment, float]:
        """For what, and when, masks changed last before `epoch`."""
        start = self.timeline.interval_start(epoch)
        return Moment.UPDATE if start else Moment.START, self.timeline.fraction(start)

    def _update_gradients(self, epoch: int, frozen: int) -> float:
        """FLOPs of the extra passes, one for each sub-net, for the updates before `epoch`."""
        wanted = None if self.updater is None else self.updater.gradient
        updated = epoch in self.timeline.boundaries and self.timeline.masks_change(epoch)
        if wanted is None or not updated:
            return 0.0
        return self.batch_size * sum(
            self.model.update_gradient(wanted, densities, frozen)
            for densities in self._densities(epoch, frozen)
        )
