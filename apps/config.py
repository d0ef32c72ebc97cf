"""The options of one training run, and the checks of their values."""

import dataclasses
import json
from collections.abc import Collection, Iterator, Mapping

from . import families, models, schedule_flags
from .program import Options, option, text

# What scores the initial weights, and the distribution that follows such scores.
SCORES, BY_SCORES = ("snip", "grasp"), "scores"

# Methods that can train several sub-nets in one run.
ALTERNATING = ("ast", "joint")


def methods() -> list[str]:
    """Returns the methods there are: no masks, each updater by name, several sub-nets."""
    return ["dense", *families.names("updaters"), *ALTERNATING]


MASK_FLAGS = {
    "lam": ("lam",),
    "bound": ("bound",),
    "mutation": ("mutation", "fraction"),
    "stop": ("stop",),
    "initial_density": ("initial_density",),
    "begin": ("begin",),
    "ramp_end": ("end",),
    "warm_up": ("warm_up",),
    "phase": ("phase",),
}
"""Flags about masks, and what updaters call them."""

SCHEDULES = ("bound", "mutation")


NOT_OF_TRAINING = ("data_dir", "output_dir", "resume", "paper_accuracy", "paper_flops")
"""Options that do not change what is trained: a resumed run may differ in these only."""


@dataclasses.dataclass(frozen=True)
class RunConfig(Options):
    """The options of one run; every field is a flag of `spfde train`.

    A field of several values takes them as a sequence or as text with commas, or just one.

    Raises:
        ValueError: a value out of range.

    Example:

    >>> RunConfig(method="set").folder
    'runs/digits-tiny_cnn-set'
    >>> RunConfig(method="ast", sparsity="0.9,0.95").sparsity
    (0.9, 0.95)
    """

    dataset: str = option(
        "digits", "digits, or any image data set of tensorflow-datasets", topic="data"
    )
    data_dir: str | None = option(None, "folder of the prepared tensorflow-datasets")
    train_samples: int | None = option(
        None,
        "training samples to use, at random, or the first where images stay in their files; all "
        "if unset",
        least=1,
    )
    image_size: int | None = option(
        None,
        "side of the square that images are cropped and resized to; if unset as they are, or 224 "
        "where they differ",
        least=1,
    )
    augment: bool = option(
        False,
        "shift and mirror the training images at random (not mirrored: writing, as of mnist); "
        "random crops of those that stay in their files, resized",
    )
    model: str = option("tiny_cnn", "the net", choices=models.names, topic="model")
    width: float = option(1.0, "factor on its channels", above=0)
    method: str = option(
        "mest_ems",
        "how masks change; dense has none (freezing and sieve stay on unless their flags are 0), "
        "ast and joint train several sub-nets",
        choices=methods,
        topic="sparsity",
    )
    sparsity: tuple[float, ...] | None = option(
        None,
        "share of zeros; if unset 0.9, or as an N:M scheme says; several with commas: a sub-net "
        "for each",
        several=float,
        least=0,
        below=1,
    )
    scheme: tuple[str, ...] = option(
        "unstructured",
        lambda: (
            "which weights go together; several with commas: a sub-net for each "
            f"({', '.join(families.names('schemes'))}, N:M)"
        ),
        several=str,
    )
    distribution: str = option(
        "uniform",
        "how sparsity is divided among layers; scores: as those of --initial have it",
        choices=lambda: [*families.names("distributions"), BY_SCORES],
    )
    interval: int | None = option(
        None,
        "epochs between two updates of masks and samples; if unset it follows the epochs: 5 of 160",
        least=1,
    )
    update_steps: int | None = option(
        None,
        "steps between two updates of masks within an interval, as RigL and AST count; if unset "
        "masks change once an interval",
        least=1,
    )
    initial: str | None = option(
        None,
        "masks to start from: at random, by the weights' size, or by what the loss (snip) or its "
        "gradient (grasp) on some samples owes to a weight; if unset as the method has it",
        choices=("random", "magnitude", "dense", *SCORES),
    )
    mutation: str | None = option(
        None,
        "share of kept weights exchanged at an update: a number, or one that changes, as "
        "0.2,0.1,0@0.5625,0.75 from these shares of training on; as the method has it if unset",
    )
    bound: str | None = option(
        None,
        "mest_ems: density added between updates, as `mutation`; if unset "
        "0.05,0.025,0@0.5625,0.75 (MEST's script; its README has 0.02,0.01,0)",
    )
    lam: float | None = option(
        None, "mest_em, mest_ems: weight of the gradient in importance; 0.01 if unset", least=0
    )
    stop: float | None = option(
        None,
        "share of training after which masks rest; as the method has it if unset",
        above=0,
        most=1,
    )
    initial_density: float | None = option(
        None,
        "share of weights trained with at first; as the method has it if unset",
        above=0,
        most=1,
    )
    begin: float | None = option(
        None,
        "magnitude, global_magnitude: share of training from which density falls; 0 if unset",
        least=0,
        below=1,
    )
    ramp_end: float | None = option(
        None,
        "prune_and_regrow, granet: share of training after which the final density is reached; "
        "as the method has it if unset",
        above=0,
        most=1,
    )
    warm_up: float | None = option(
        None, "ac_dc: share of training before masks close; 0.1 if unset", least=0, below=1
    )
    phase: float | None = option(
        None, "ac_dc: share of training that a phase takes; 0.05 if unset", above=0, below=1
    )
    updater: str | None = option(
        None,
        "ast and joint: how the masks of a sub-net change; prune_and_regrow if unset",
        choices=lambda: families.names("updaters"),
    )
    gradient_correction: bool = option(
        True, "ast: correct gradients that conflict with the previous sub-net's"
    )
    freeze_reduction: float | None = option(
        None,
        "share of training FLOPs that freezing saves; 0 never freezes; if unset 0.2, or as much "
        "as the run allows",
        least=0,
        below=1,
        topic="freezing",
    )
    freeze_share: float | None = option(
        None, "share of the kernels that may be frozen; 2/3 if unset", above=0, below=1
    )
    freeze_scheme: str = option(
        "single_shot", "when blocks freeze", choices=lambda: families.names("freezing.schemes")
    )
    freeze_blocks: tuple[str, ...] | None = option(
        None,
        "layer names or regular expressions with commas, one for each block from front to back; "
        "the model's own blocks if unset",
        several=str,
    )
    sieve_fraction: float = option(
        0.2, "share of the samples set aside at a time; 0 uses all", least=0, below=1, topic="sieve"
    )
    sieve_policy: str = option(
        "circular", "do samples come back?", choices=lambda: families.names("sieve.policies")
    )
    exchange: float | None = option(
        None,
        "circular: share of the samples set aside that return at an update; 1, all of them, if "
        "unset",
        above=0,
        most=1,
    )
    data_stop: float | None = option(
        None,
        "share of training after which samples are not exchanged; with the masks if unset",
        least=0,
        most=1,
    )
    epochs: int = option(60, "epochs", least=1, topic="training")
    batch_size: int = option(32, "samples in a batch", least=1)
    learning_rate: float = option(0.1, "rate of SGD with momentum 0.9, at its highest", above=0)
    nesterov: bool = option(False, "Nesterov's momentum")
    warmup_epochs: int | None = option(
        None, "epochs of linear warm-up, before the cosine; epochs // 20 if unset", least=0
    )
    weight_decay: float = option(
        1e-3,
        "decoupled: 10x the L2 penalty of equal strength under momentum 0.9",
        least=0,
    )
    coupled_weight_decay: float = option(
        0.0,
        "L2 penalty of kernels, a part of the gradient as in the papers' SGD: 1e-4 there, with "
        "--weight_decay=0",
        least=0,
    )
    label_smoothing: float = option(
        0.0, "share of each label that is spread over all classes", least=0, below=1
    )
    steps_per_execution: int = option(1, "batches in one call of the train function", least=1)
    strategy: str = option(
        "none",
        "the devices to train on: mirrored for all of this machine, multiworker for those of all "
        "processes in the environment variable TF_CONFIG",
        choices=("none", "mirrored", "multiworker"),
    )
    seed: int = option(0, "seed of everything random", least=0, below=2**32)
    output_dir: str | None = option(
        None, "results; runs/DATASET-MODEL-METHOD if unset", topic="output"
    )
    paper_accuracy: float | None = option(
        None, "test accuracy that a paper reports for this run, printed beside", above=0, most=1
    )
    paper_flops: float | None = option(
        None, "training FLOPs that a paper reports for this run, printed beside", above=0
    )
    analyse: bool = option(
        False,
        "record similarity, CKA, gradients, exploration and forgetting at each update: "
        "analyses.json, easiest.png, hardest.png; gradients count as time of training",
    )
    resume: bool = option(False, "continue the killed run of the same options in output_dir")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("sparsity", "scheme"):
            values = getattr(self, name) or ()
            if len(values) > 1 and self.method not in ALTERNATING:
                raise ValueError(
                    f"`{name}` must be one value with method {self.method}; several are for "
                    f"{' and '.join(ALTERNATING)}. Received: {text(values)}"
                )
        for name in SCHEDULES:
            if (given := getattr(self, name)) is not None:
                schedule_flags.parse(name, given)
                object.__setattr__(self, name, str(given))
        kept = round(1 - max(self.sparsity or (0.0,)), 9)
        if self.sparsity and self.initial_density is not None and self.initial_density < kept:
            raise ValueError(
                f"`initial_density` must not be below what is kept in the end, {kept:g}. "
                f"Received: {self.initial_density}"
            )
        if self.distribution == BY_SCORES and self.initial not in SCORES:
            raise ValueError(
                f"`distribution` must not be {BY_SCORES} without --initial={' or '.join(SCORES)}. "
                f"Received: initial={self.initial}"
            )
        if not self.dataset or any(part in ("", "..") for part in self.dataset.split("/")):
            raise ValueError(
                "`dataset` must be the name of a data set, which is part of that of the output "
                f"folder. Received: {self.dataset!r}"
            )
        warmup = self.epochs // 20 if self.warmup_epochs is None else self.warmup_epochs
        object.__setattr__(self, "warmup_epochs", warmup)
        if warmup >= self.epochs:
            raise ValueError(
                f"`warmup_epochs` must be less than `epochs`, {self.epochs}. Received: {warmup}"
            )

    def check_given(self, names: Collection[str]) -> None:
        for name, because in self._without_effect():
            if name in names:
                raise ValueError(
                    f"`{name}` must be left out with {because}, which does not use it. "
                    f"Received: {text(getattr(self, name))}"
                )

    def _without_effect(self) -> Iterator[tuple[str, str]]:
        """Gives the options that this run does not use, each with the one that makes it so."""
        method = f"--method={self.method}"
        if self.method not in ALTERNATING:
            yield "updater", method
        if self.method != "ast":
            yield "gradient_correction", method
        elif self.subnets == 1:
            yield "gradient_correction", f"{method} and one sub-net"
        if self.subnets > 1:
            yield from ((name, "several sub-nets") for name in ("paper_accuracy", "paper_flops"))
        if self.method == "dense":
            of_masks = ("sparsity", "scheme", "distribution", "update_steps", "initial")
            yield from ((name, method) for name in of_masks)
        if self.updater_name == "static":
            method = f"--updater={self.updater}" if self.updater else method
            yield "update_steps", method
        yield from ((name, method) for name in MASK_FLAGS if name not in self.updater_arguments)
        if not self.freezes:
            of_freezing = ("freeze_share", "freeze_scheme", "freeze_blocks")
            yield from ((name, "--freeze_reduction=0") for name in of_freezing)
        if self.sieve_fraction == 0:
            of_sieve = ("sieve_policy", "data_stop", "exchange")
            yield from ((name, "--sieve_fraction=0") for name in of_sieve)
        if "exchange" not in families.parameters("sieve.policies", self.sieve_policy):
            yield "exchange", f"--sieve_policy={self.sieve_policy}"
        nothing_changes = not self.freezes and self.sieve_fraction == 0 and not self.analyse
        if self.method == "dense" and nothing_changes:
            yield "interval", f"{method}, --freeze_reduction=0 and --sieve_fraction=0"
        if self.dataset == "digits":
            yield "data_dir", "--dataset=digits"

    @property
    def subnets(self) -> int:
        """How many sub-nets there are."""
        return max(len(self.sparsity or ()), len(self.scheme))

    @property
    def updater_name(self) -> str:
        """The name of the updater: a dense model has no masks, and nothing to update."""
        if self.method in ALTERNATING:
            return self.updater or "prune_and_regrow"
        return "static" if self.method == "dense" else self.method

    @property
    def updater_arguments(self) -> dict[str, str]:
        """The flags about masks that the updater knows, each with what it calls them."""
        known = families.parameters("updaters", self.updater_name)
        return {
            flag: argument
            for flag, arguments in MASK_FLAGS.items()
            for argument in arguments
            if argument in known
        }

    @property
    def freezes(self) -> bool:
        """Whether blocks are frozen."""
        return self.freeze_reduction != 0

    @property
    def folder(self) -> str:
        """The output folder."""
        seed = f"-seed{self.seed}" if self.seed else ""
        return self.output_dir or f"runs/{self.dataset}-{self.model}-{self.method}{seed}"

    def to_json(self) -> str:
        """Returns the options as JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    def check_resumes(self, earlier: Mapping) -> None:
        """Raises `ValueError` naming the flags in which this run differs from the `earlier` one.

        Options that there were not yet when that one began had their defaults.
        """
        earlier = json.loads(RunConfig(epochs=self.epochs).to_json()) | dict(earlier)
        changed = [
            f"--{name} was {text(earlier.get(name))}, is {text(value)}"
            for name, value in json.loads(self.to_json()).items()
            if name not in NOT_OF_TRAINING and earlier.get(name) != value
        ]
        if changed:
            raise ValueError(
                f"`resume` must continue a run of the same options. Received: {'; '.join(changed)}"
            )
