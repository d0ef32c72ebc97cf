"""Progressive layer freezing: which front blocks are frozen in which epoch."""

import dataclasses
import functools
import math
import warnings
from collections.abc import Callable, Sequence

import keras
import numpy as np

from spfde_keras import checks
from spfde_keras.configurable import Configurable
from spfde_keras.freezing import schemes
from spfde_keras.freezing.blocks import check_blocks
from spfde_keras.freezing.schemes import FreezingScheme, Horizon
from spfde_keras.open_sizes import InputShape, check_shape
from spfde_keras.timeline import Timeline
from spfde_keras.updaters import Updater

AUTOMATIC = "auto"
"""Stands for the default share, or as much of it as a run allows."""

_DEFAULT = 0.2
_WIDE = 0.9  # the share of kernels that may be frozen where the usual one is too small

PlannedFlops = Callable[["FreezePlan"], float]
"""A plan -> training FLOPs of all its epochs."""


@dataclasses.dataclass(frozen=True, eq=False)
class FreezePlan:
    """Which blocks are frozen when. The frozen ones are always the front ones.

    Args:
        frozen: int array (epochs,), the number of frozen front blocks in each epoch.
        blocks: int, the number of blocks of the model.

    Raises:
        ValueError: if an entry of `frozen` is outside [0, blocks].

    Example:

    >>> plan = FreezePlan([0, 0, 1, 1], blocks=2)
    >>> plan.multipliers(1).round(3).tolist()
    [0.5, 0.854]
    """

    frozen: np.ndarray
    blocks: int

    def __post_init__(self) -> None:
        blocks = checks.whole("blocks", self.blocks)
        rule = f"a list with an integer from 0 to {blocks} for each epoch"
        entries = checks.each(checks.whole, "frozen", self.frozen, rule, least=0, below=blocks + 1)
        frozen = np.array(entries, dtype=int)
        frozen.flags.writeable = False
        object.__setattr__(self, "frozen", frozen)

    @property
    def epochs(self) -> int:
        """Number of epochs planned."""
        return len(self.frozen)

    def multipliers(self, epoch: int) -> np.ndarray:
        """Returns the factor on each block's learning rate in `epoch`.

        A block trained in A epochs gets (1 + cos(pi a / A)) / 2 in the epoch after a
        trained ones: it starts at 1 and has come down to 0 when it is frozen for good. Time
        spent frozen in between does not count.

        Args:
            epoch: int in [0, epochs).

        Returns:
            A float array (blocks,).

        Source: SpFDE, section 3.2 (layer-wise cosine learning rate).
        """
        active = self.frozen[:, None] <= np.arange(self.blocks)
        trained, total = active[:epoch].sum(axis=0), active.sum(axis=0)
        return (1 + np.cos(np.pi * trained / np.maximum(total, 1))) / 2

    def frozen_throughout(self, start: int, stop: int) -> int:
        """Returns the number of front blocks frozen in each epoch from `start` to `stop`."""
        return int(np.min(self.frozen[start:stop], initial=self.blocks))

    def settled(self, interval: int) -> np.ndarray:
        """Returns when each block is settled, in epochs done: int array (blocks,).

        That is the first boundary after which it is frozen throughout an interval, or the end.
        """
        starts = np.arange(0, self.epochs, interval)
        settles = np.minimum.reduceat(self.frozen, starts)[:, None] > np.arange(self.blocks)
        return np.where(settles.any(axis=0), starts[settles.argmax(axis=0)], self.epochs)

    def times(self, updater: Updater, t: float | np.ndarray, interval: int) -> np.ndarray:
        """Returns the time at which each block asks an updater for its densities.

        That is the time of training; for an updater that follows blocks it is the block's own,
        which runs from 0 at the start to 1 when the block is settled, and stays there.

        Args:
            updater: an `Updater`.
            t: float in [0, 1], fraction of training done, or an array of them.
            interval: int, epochs between mask updates.

        Returns:
            A float array of the shape of `t`, and (blocks,) behind it.

        Example:

        >>> from spfde_keras.updaters import SET, Magnitude
        >>> plan = FreezePlan([0, 0, 1, 1], blocks=2)
        >>> plan.times(Magnitude(), 0.25, interval=1).tolist()
        [0.5, 0.25]
        >>> plan.times(SET(), 0.25, interval=1).tolist()
        [0.25, 0.25]
        """
        if not updater.follows_block:
            return np.multiply.outer(t, np.ones(self.blocks))
        faster = self.epochs / np.maximum(self.settled(interval), 1)
        return np.minimum(np.multiply.outer(t, faster), 1.0)

    def to_dict(self) -> dict:
        """Returns the plan as plain ints and lists."""
        return {"frozen": self.frozen.tolist(), "blocks": self.blocks}

    @classmethod
    def from_dict(cls, values: dict) -> "FreezePlan":
        """Returns the plan that `to_dict` described."""
        return cls(**values)


@keras.saving.register_keras_serializable("spfde_keras")
class Freezing(Configurable):
    """How a model is frozen while it trains.

    Freezing changes at multiples of the mask-update interval only, never in epoch 0.

    Args:
        reduction: float in (0, 1), the share of the unfrozen run's training FLOPs to save; the
            time from which blocks are frozen follows from it. "auto": 0.2, or, where the run is
            too short for that, as much as it allows, with a warning. None: nothing is solved
            for, the whole pattern runs; for `scheme="periodic"` only.
        scheme: "single_shot" (from some epoch on, one more block every interval),
            "single_shot_resume" (the same, earlier, and everything thawed at the end),
            "periodic" (of the three thirds of the layers the front one trains one interval in 4,
            the middle one 1 in 2, the last one always) or "delayed_periodic" (everything
            trains, then periodic). "periodic" with a reduction leaves trailing blocks out
            while the reduction is still met.
        blocks: None for the model's own blocks, or a list as `find_blocks` takes it.
        share: float in (0, 1), the share of the model's kernels that may be frozen.
        input_shape: None, or the shape of one sample without the batch axis, to plan with where
            the model leaves sizes open: (128,) for sequences of 128 tokens. Of several inputs
            a list of shapes, or a dictionary by name.

    Raises:
        ValueError: if an argument is out of range.

    Example:

    >>> plan = Freezing(0.25).plan(lambda plan: (4.0 - plan.frozen).sum(), [1, 1, 1, 1], 12, 2)
    >>> plan.frozen.tolist()
    [0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 2, 2]

    Source: SpFDE (Yuan et al., NeurIPS 2022), section 3.2, Algorithm 1 and appendix.
    """

    argument = "reduction"
    """What the caller calls the share."""

    def __init__(
        self,
        reduction: float | str | None = AUTOMATIC,
        scheme: str | FreezingScheme = "single_shot",
        blocks: Sequence | None = None,
        share: float = 2 / 3,
        input_shape: InputShape | None = None,
    ):
        self.scheme = schemes.get(scheme)
        if reduction is None and self.scheme.needs_reduction:
            raise ValueError(f"`reduction` must be a number with scheme={scheme!r}. Received: None")
        if isinstance(reduction, str) and reduction == AUTOMATIC:
            reduction = AUTOMATIC  # that of a file is another object
        elif reduction is not None:
            instead = f", or {AUTOMATIC!r}"
            reduction = checks.number("reduction", reduction, above=0, below=1, otherwise=instead)
        self.reduction = reduction
        self.blocks = checks.optional(check_blocks, "blocks", blocks)
        self.share = checks.number("share", share, above=0, below=1)
        self.input_shape = checks.optional(check_shape, "input_shape", input_shape)

    @classmethod
    def get(cls, identifier: "float | bool | Freezing | None") -> "Freezing | None":
        """Returns what `freeze` stands for.

        Args:
            identifier: a `Freezing`; a number, the share to save; True for the default; None or
                False for no freezing.

        Raises:
            ValueError: if it is anything else.
        """
        if isinstance(identifier, cls):
            return identifier
        if identifier is None or (isinstance(identifier, bool | np.bool_) and not identifier):
            return None
        if isinstance(identifier, bool | np.bool_):
            made = cls(AUTOMATIC)
        else:
            instead = ", None, True or a Freezing"
            made = cls(checks.number("freeze", identifier, above=0, below=1, otherwise=instead))
        made.argument = "freeze"
        return made

    def plan(
        self,
        cost: PlannedFlops,
        block_sizes: Sequence[int],
        epochs: int,
        interval: int,
        trained: int = 0,
    ) -> FreezePlan:
        """Returns the plan that freezes as late, and then as little, as the reduction allows.

        Args:
            cost: callable, `FreezePlan` -> training FLOPs of all its epochs.
            block_sizes: ints, the number of kernels in each block, front to back.
            epochs: int, length of training.
            interval: int, epochs between mask updates.
            trained: int, intervals in which all blocks train at least, so that densities can
                fall.

        Returns:
            A `FreezePlan`.

        Raises:
            ValueError: if there are fewer than two blocks, or no second interval, or if the
                reduction is out of reach; the message gives the largest possible one, and what
                would reach it.
        """
        try:
            solver = _Solver(self.scheme, cost, block_sizes, epochs, trained)
            candidates = solver.candidates(interval, self.share)
        except ValueError as error:
            if self.reduction is not AUTOMATIC:
                raise
            warnings.warn(f"Nothing is frozen. {error}", stacklevel=2)
            return FreezePlan(np.zeros(epochs, int), len(block_sizes))
        if self.reduction is None:
            return FreezePlan(candidates[0], len(block_sizes))
        target = _DEFAULT if self.reduction is AUTOMATIC else float(self.reduction)
        frozen = solver.least(candidates, target)
        if frozen is None and self.reduction is not AUTOMATIC:
            raise ValueError(self._out_of_reach(solver, target, epochs, interval))
        if frozen is None:
            frozen = max(candidates, key=solver.reduction)
            warnings.warn(
                f"Freezing saves {_shown(solver.reduction(frozen))} of the training FLOPs, the "
                f"most that {epochs} epochs with interval {interval} allow, instead of {target:g}.",
                stacklevel=2,
            )
        return FreezePlan(frozen, len(block_sizes))

    def settings(
        self, interval: int | None = None, share: float | None = None, scheme: str | None = None
    ) -> str:
        """Returns, for messages, how callers write these settings; None is one that stays."""
        parts = [] if interval is None else [f"interval={interval}"]
        if share is not None:
            parts.append(f"Freezing({self.reduction:g}, share={share})")
        if scheme is not None:
            parts.append(f"scheme={scheme!r}")
        return " and ".join(parts)

    def _out_of_reach(self, solver: "_Solver", target: float, epochs: int, interval: int) -> str:
        largest = solver.largest(interval, self.share)
        others = [
            *((one, None) for one in range(interval - 1, 0, -1)),
            (None, _WIDE),
            (1, _WIDE),
        ]
        reaching = (
            self.settings(one, share)
            for one, share in others
            if solver.largest(one or interval, share or self.share) >= target
        )
        instead = next(reaching, None)
        return (
            f"`{self.argument}` must be at most {_shown(largest, np.floor)} with "
            f"{self.settings(scheme=self._scheme_name)}, {epochs} epochs and interval {interval}. "
            f"Received: {target:g}; "
            + (f"{instead} reaches it" if instead else "save less, or train longer")
        )

    @property
    def _scheme_name(self) -> str:
        return schemes.REGISTRY.name_of(self.scheme) or repr(self.scheme)

    def get_config(self) -> dict:
        return {
            "reduction": self.reduction,
            "scheme": keras.saving.serialize_keras_object(self.scheme),
            "blocks": self.blocks,
            "share": self.share,
            "input_shape": self.input_shape,
        }


class _Solver:
    """Plans of a freezing scheme, and what they save.

    Args:
        scheme: the `FreezingScheme`.
        cost, block_sizes, epochs, trained: as for `Freezing.plan`.
    """

    def __init__(
        self,
        scheme: FreezingScheme,
        cost: PlannedFlops,
        block_sizes: Sequence[int],
        epochs: int,
        trained: int,
    ):
        if len(block_sizes) < 2:
            raise ValueError(
                f"Freezing needs a model of at least 2 blocks. Received: {len(block_sizes)}; "
                "pass `blocks`, or train without freezing"
            )
        self._scheme, self._sizes, self._epochs = scheme, block_sizes, epochs
        self._trained = trained
        self._flops = functools.cache(lambda counts: cost(FreezePlan(counts, len(block_sizes))))

    def candidates(self, interval: int, share: float) -> list[np.ndarray]:
        """Returns the plans there are, those that freeze first in front."""
        half, limit = (_front(self._sizes, part) for part in (share / 2, share))
        horizon = Horizon(Timeline(self._epochs, interval), half, limit)
        found = [self._scheme.frozen(horizon, start) for start in self._scheme.starts(horizon)]
        name = schemes.REGISTRY.name_of(self._scheme) or repr(self._scheme)
        if not found:
            raise ValueError(
                f"`epochs` must leave an interval in which {name!r} can freeze. "
                f"Received: epochs={self._epochs}, interval={interval}"
            )
        late = [frozen for frozen in found if not frozen[: self._trained * interval].any()]
        if not late:
            raise ValueError(
                f"With an updater whose density falls, blocks must train for {self._trained} "
                f"intervals before any is frozen. Received: scheme={name!r}, "
                f"epochs={self._epochs}, interval={interval}; train longer, or use another scheme "
                "or updater"
            )
        return late

    def reduction(self, frozen: np.ndarray) -> float:
        """Returns the share of FLOPs that a plan saves."""
        return 1 - self._flops(tuple(frozen.tolist())) / self._flops((0,) * self._epochs)

    def largest(self, interval: int, share: float) -> float:
        """Returns the largest share that any plan saves; 0 if there is none."""
        try:
            return max(map(self.reduction, self.candidates(interval, share)))
        except ValueError:
            return 0.0

    def least(self, candidates: list[np.ndarray], target: float) -> np.ndarray | None:
        """Returns what freezes as late, and then as little, as saves the target; None if none."""

        def reaches(frozen: np.ndarray) -> bool:
            # A reduction reached on paper must not be missed by rounding.
            return self.reduction(frozen) >= target - 1e-9

        latest = next(filter(reaches, reversed(candidates)), None)
        if latest is None:
            return None
        fewer = (np.minimum(latest, count) for count in range(1, int(latest.max()) + 1))
        return next(filter(reaches, fewer))


def _shown(share: float, rounding: Callable = np.round) -> str:
    """A share with three decimals, or more for two digits other than 0.

    >>> _shown(0.0239), _shown(0.000238, np.floor), _shown(0.0)
    ('0.024', '0.00023', '0')
    """
    if share < 1e-9:
        return "0"
    digits = max(3, 1 - math.floor(math.log10(share)))
    return f"{rounding(share * 10**digits + 1e-6) / 10**digits:.{digits}f}"


def _front(block_sizes: Sequence[int], share: float) -> int:
    """How many front blocks hold at most `share` of the kernels; some, but never all."""
    held = np.cumsum(block_sizes) / np.sum(block_sizes)
    return int(np.clip(np.sum(held <= share + 1e-9), 1, len(block_sizes) - 1))
