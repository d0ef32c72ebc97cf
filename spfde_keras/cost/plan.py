"""FLOPs and memory of a whole training run, before it starts."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from spfde_keras import checks
from spfde_keras.cost.model import Densities, ModelCost
from spfde_keras.freezing.plan import FreezePlan, Freezing
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

    Density of a kernel: what `updater` trains with in the current interval, asked at the time of
    its block (`FreezePlan.times`); its final density while its block is frozen (a block takes its
    last mask update when it is frozen). An updater that asks for gradients takes them from one
    extra pass over a batch at each mask update, with the weight gradient of the dense model if it
    asks for that.

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
        update_steps: None, or int, steps between two mask updates within an interval. Densities
            are asked for in the middle of each epoch then.

    Example:

    >>> mlp = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4), keras.layers.Dense(2)])
    >>> plan = TrainingPlan(profile(mlp), {}, None, epochs=3, interval=1, samples=10)
    >>> plan.flops().tolist(), plan.flops(FreezePlan([0, 1, 1], blocks=2)).tolist()
    ([1760.0, 1760.0, 1760.0], [1760.0, 960.0, 960.0])
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
    update_steps: int | None = None

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
        checks.optional(checks.whole, "update_steps", self.update_steps)
        self._check_samples()

    def _check_samples(self) -> None:
        if np.ndim(self.samples) == 0:
            checks.number("samples", self.samples, least=0)
            return
        rule = f"a number, or a list of one for each of {self.epochs} epochs"
        if len(checks.each(checks.number, "samples", self.samples, rule, least=0)) != self.epochs:
            checks.refuse("samples", rule, self.samples)

    def flops(self, freeze: FreezePlan | None = None) -> np.ndarray:
        """Returns FLOPs of training each epoch, mask updates left out: float array (epochs,).

        Args:
            freeze: None, or the plan by which blocks are frozen.
        """
        freeze = self._or_none(freeze)
        kept = self._kept(freeze).mean(axis=0)
        of_sample = (kept * self._rates[freeze.frozen]).sum(axis=1)
        return np.multiply(self.samples, self.passes) * of_sample

    def cost(self, freeze: FreezePlan | None = None) -> PlanCost:
        """Returns what the run costs, frozen according to `freeze` (None: not at all).

        Of several sub-nets the densest is held in memory, as if it held the others.
        """
        freeze = self._or_none(freeze)
        paths = [kernel.path for kernel in self.model.kernels]
        epochs = [
            (epoch, int(frozen), [dict(zip(paths, one, strict=True)) for one in kept])
            for epoch, (frozen, kept) in enumerate(
                zip(freeze.frozen, self._kept(freeze).swapaxes(0, 1), strict=True)
            )
        ]
        memory = [
            max(self.model.memory(one, frozen, self.batch_size) for one in densities)
            for _, frozen, densities in epochs
        ]
        gradients = np.array([self._update_gradients(*epoch) for epoch in epochs])
        return PlanCost(flops=self.flops(freeze) + gradients, memory=np.array(memory))

    def solve(self, freezing: Freezing, first: int = 0) -> FreezePlan:
        """Returns the plan by which `freezing` saves its share of the FLOPs of this run.

        Args:
            freezing: a `Freezing`.
            first: int, number of front blocks that never train: they take no turn.

        Raises:
            ValueError: as `Freezing.plan`.
        """

        def whole(plan: FreezePlan) -> FreezePlan:
            return FreezePlan(plan.frozen + first, self.model.blocks)

        # What falls until its block freezes takes a step in between, at least.
        trained = 2 if self.updater is not None and self.updater.follows_block else 0
        solved = freezing.plan(
            lambda plan: float(self.flops(whole(plan)).sum()),
            self.model.block_sizes[first:],
            self.epochs,
            self.interval,
            trained,
        )
        return whole(solved)

    @property
    def timeline(self) -> Timeline:
        """When masks change."""
        stop = 0.0 if self.updater is None else self.updater.stop
        return Timeline(self.epochs, self.interval, stop, update_steps=self.update_steps)

    @property
    def _subnets(self) -> Sequence[Densities]:
        return [self.densities] if isinstance(self.densities, Mapping) else self.densities

    def _or_none(self, freeze: FreezePlan | None) -> FreezePlan:
        return freeze or FreezePlan(np.zeros(self.epochs, int), self.model.blocks)

    def _kept(self, freeze: FreezePlan) -> np.ndarray:
        """The shares of weights trained with, a float array (sub-nets, epochs, kernels)."""
        final = np.array([self.model.kept(one) for one in self._subnets])
        epochs = np.arange(self.epochs)
        if self.updater is None:
            return np.repeat(final[:, None], self.epochs, axis=1)
        every, middle = (self.interval, 0) if self.update_steps is None else (1, 0.5)
        starts = np.array([self.timeline.fraction(one + middle) for one in epochs[::every]])
        block = np.array([kernel.block for kernel in self.model.kernels])
        asked = freeze.times(self.updater, starts, self.interval)[:, block]
        times, place = np.unique(asked, return_inverse=True)
        levels, level = np.unique(final, return_inverse=True)
        table = np.array([self._trained(float(t), tuple(levels.tolist())) for t in times])
        trained = table[place.reshape(asked.shape), level.reshape(final.shape)[:, None]]
        named = np.array([[k.path in one for k in self.model.kernels] for one in self._subnets])
        thaws = named[:, None] & (block >= freeze.frozen[:, None])
        return np.where(thaws, trained[:, epochs // every], final[:, None])

    @functools.cached_property
    def _trained(self) -> Callable[[float, tuple[float, ...]], list[float]]:
        """(time of the last update, final densities) -> those trained with until the next one."""
        updater = self.updater
        assert updater is not None

        def ask(t: float, levels: tuple[float, ...]) -> list[float]:
            moment = Moment.UPDATE if t else Moment.START
            planned = (updater.plan(moment, t, final).density for final in levels)
            # Nothing happens to it: it has its final density from the start.
            return [f if p is None else p for p, f in zip(planned, levels, strict=True)]

        return functools.cache(ask)

    @functools.cached_property
    def _rates(self) -> np.ndarray:
        """FLOPs per sample and density, by the number of frozen blocks and kernel."""
        rates = [self.model.rates(frozen) for frozen in range(self.model.blocks + 1)]
        return np.array([sum(parts.values()) for parts in rates])

    def _update_gradients(self, epoch: int, frozen: int, densities: Sequence[Densities]) -> float:
        """FLOPs of the extra passes, one for each sub-net, for updates before and in `epoch`."""
        if self.updater is None or (wanted := self.updater.gradient) is None:
            return 0.0
        timeline = self.timeline
        steps = math.ceil(np.broadcast_to(self.samples, self.epochs)[epoch] / self.batch_size)
        updates = timeline.updates_within(epoch, max(1, steps))
        updates += epoch in timeline.boundaries and timeline.masks_change(epoch)
        if not updates:
            return 0.0
        once = sum(self.model.update_gradient(wanted, one, frozen) for one in densities)
        return self.batch_size * updates * once
