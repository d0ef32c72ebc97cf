"""Progressive layer freezing: which front blocks are frozen in which epoch."""

import dataclasses
from collections.abc import Callable, Sequence

import keras
import numpy as np

from spfde_keras.configurable import Configurable
from spfde_keras.freezing import schemes
from spfde_keras.freezing.schemes import FreezingScheme, Horizon
from spfde_keras.open_sizes import InputShape
from spfde_keras.timeline import Timeline

EpochCost = Callable[[int, int], float]
"""(epoch, number of frozen front blocks) -> FLOPs of training that epoch."""


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
        frozen = np.array(self.frozen, dtype=int)
        if frozen.ndim != 1 or np.any((frozen < 0) | (frozen > self.blocks)):
            raise ValueError(
                f"`frozen` must have an entry in [0, {self.blocks}] per epoch. "
                f"Received: {frozen.tolist()}"
            )
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
            time from which blocks are frozen follows from it. None: nothing is solved
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

    >>> plan = Freezing(0.25).plan(lambda epoch, frozen: 4.0 - frozen, [1, 1, 1, 1], 12, 2)
    >>> plan.frozen.tolist()
    [0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 2, 2]

    Source: SpFDE (Yuan et al., NeurIPS 2022), section 3.2, Algorithm 1 and appendix.
    """

    def __init__(
        self,
        reduction: float | None = 0.2,
        scheme: str | FreezingScheme = "single_shot",
        blocks: Sequence | None = None,
        share: float = 2 / 3,
        input_shape: InputShape | None = None,
    ):
        self.scheme = schemes.get(scheme)
        if reduction is None and self.scheme.needs_reduction:
            raise ValueError(f"`reduction` must be a number with scheme={scheme!r}. Received: None")
        if reduction is not None and not 0 < reduction < 1:
            raise ValueError(f"`reduction` must be in (0, 1). Received: {reduction}")
        if not 0 < share < 1:
            raise ValueError(f"`share` must be in (0, 1). Received: {share}")
        self.reduction = reduction
        self.blocks = blocks
        self.share = share
        self.input_shape = input_shape

    @classmethod
    def get(cls, identifier: "float | Freezing | None") -> "Freezing | None":
        """Returns a `Freezing` as it is, one with that reduction for a number, None for None."""
        if identifier is None or isinstance(identifier, cls):
            return identifier
        if isinstance(identifier, bool) or not isinstance(identifier, int | float | np.number):
            raise ValueError(
                f"`freeze` must be None, a number in (0, 1) or a Freezing. Received: {identifier!r}"
            )
        return cls(float(identifier))

    def plan(
        self, cost: EpochCost, block_sizes: Sequence[int], epochs: int, interval: int
    ) -> FreezePlan:
        """Returns the plan that freezes as late, and then as little, as the reduction allows.

        Args:
            cost: callable, (epoch, frozen front blocks) -> training FLOPs of that epoch.
            block_sizes: ints, the number of kernels in each block, front to back.
            epochs: int, length of training.
            interval: int, epochs between mask updates.

        Returns:
            A `FreezePlan`.

        Raises:
            ValueError: if there are fewer than two blocks, or no second interval, or if the
                reduction is out of reach; the message gives the largest possible one.
        """
        if len(block_sizes) < 2:
            raise ValueError(
                f"Freezing needs a model of at least 2 blocks. Received: {len(block_sizes)}; "
                "pass `blocks`, or train without freezing"
            )
        half, limit = (_front(block_sizes, share) for share in (self.share / 2, self.share))
        horizon = Horizon(Timeline(epochs, interval), half, limit)
        starts = self.scheme.starts(horizon)
        if not starts:
            raise ValueError(
                f"`epochs` must leave an interval in which {self._scheme_name!r} can freeze. "
                f"Received: epochs={epochs}, interval={interval}"
            )

        candidates = [self.scheme.frozen(horizon, start) for start in starts]
        target = self.reduction
        if target is None:
            return FreezePlan(candidates[0], len(block_sizes))
        table = np.array([[cost(e, n) for n in range(limit + 1)] for e in range(epochs)])

        def reduction(frozen: np.ndarray) -> float:
            return 1 - table[np.arange(epochs), frozen].sum() / table[:, 0].sum()

        def reaches(frozen: np.ndarray) -> bool:
            # A reduction reached on paper must not be missed by rounding.
            return reduction(frozen) >= target - 1e-9

        reached = [frozen for frozen in candidates if reaches(frozen)]
        if not reached:
            largest = max(map(reduction, candidates))
            raise ValueError(
                f"`reduction` must be at most {np.floor(largest * 1000 + 1e-6) / 1000:.3f} with "
                f"scheme={self._scheme_name!r}, {epochs} epochs and interval {interval}. "
                f"Received: {target:g}; reduce less, shorten the interval or raise `share`"
            )
        fewer = (np.minimum(reached[-1], count) for count in range(1, limit + 1))
        return FreezePlan(next(filter(reaches, fewer)), len(block_sizes))

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


def _front(block_sizes: Sequence[int], share: float) -> int:
    """How many front blocks hold at most `share` of the kernels; some, but never all."""
    held = np.cumsum(block_sizes) / np.sum(block_sizes)
    return int(np.clip(np.sum(held <= share + 1e-9), 1, len(block_sizes) - 1))
