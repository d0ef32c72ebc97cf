"""What one training run is made of: `RunConfig`, its flags, and the checks of its values."""

import dataclasses
import json
import typing
from collections.abc import Callable, Sequence

from absl import flags

from apps import models
from spfde_keras import distributions, schemes, updaters
from spfde_keras.freezing import schemes as freezing_schemes
from spfde_keras.sieve import policies

# These train several sub-nets in one run, or one by the same rules.
ALTERNATING = ("ast", "joint")


def methods() -> list[str]:
    """Returns the methods there are: no masks, each updater by name, several sub-nets."""
    return ["dense", *updaters.names(), *ALTERNATING]


# A resumed run may live in another place, but must not differ in anything else.
_NOT_COMPARED = ("data_dir", "output_dir", "resume")


def _option(
    default,
    help: str | Callable[[], str],
    choices: Callable[[], Sequence[str]] | None = None,
    least: float | None = None,
    several: type | None = None,
):
    rules = {"help": help, "choices": choices, "least": least, "several": several}
    return dataclasses.field(default=default, metadata=rules)


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """The options of one run; every field is a flag of `python -m apps.train`.

    A field of several values takes them as a sequence or as text with commas, or just one.

    Raises:
        ValueError: a value out of range.

    Example:

    >>> RunConfig(method="set").folder
    'runs/digits-small_cnn-set'
    >>> RunConfig(method="ast", sparsity="0.9,0.95").sparsity
    (0.9, 0.95)
    """

    dataset: str = _option("digits", "digits, or any image data set of tensorflow-datasets")
    data_dir: str | None = _option(None, "folder of the prepared tensorflow-datasets")
    train_samples: int | None = _option(
        None, "random training samples to use; all if unset", least=1
    )
    model: str = _option("small_cnn", "the model", choices=models.names)
    width: float = _option(1.0, "factor on the model's channels")
    method: str = _option(
        "mest_ems",
        "how masks change; dense has none, ast and joint train several sub-nets",
        choices=methods,
    )
    sparsity: tuple[float, ...] | None = _option(
        None,
        "share of zeros; if unset 0.9, or as an N:M scheme says; several with commas: a sub-net "
        "for each",
        several=float,
    )
    scheme: tuple[str, ...] = _option(
        "unstructured",
        lambda: f"{', '.join(schemes.names())}, or N:M; several with commas: a sub-net for each",
        several=str,
    )
    distribution: str = _option(
        "uniform", "how sparsity is divided among layers", choices=distributions.names
    )
    interval: int = _option(2, "epochs between two updates of masks and samples", least=1)
    initial_density: float = _option(0.5, "ast and joint: share of weights trained with at first")
    gradient_correction: bool = _option(
        True, "ast: correct gradients that go against the previous sub-net's"
    )
    freeze_reduction: float = _option(
        0.2, "share of training FLOPs that freezing saves; 0 never freezes", least=0
    )
    freeze_scheme: str = _option(
        "single_shot", "when blocks freeze", choices=freezing_schemes.names
    )
    sieve_fraction: float = _option(
        0.2, "share of the samples that rest at a time; 0 uses all", least=0
    )
    sieve_policy: str = _option("circular", "do samples come back?", choices=policies.names)
    data_stop: float | None = _option(
        None, "share of training after which samples are not exchanged; with the masks if unset"
    )
    epochs: int = _option(60, "epochs", least=1)
    batch_size: int = _option(32, "samples in a batch", least=1)
    learning_rate: float = _option(0.1, "rate of SGD with momentum 0.9, at its highest")
    warmup_epochs: int | None = _option(
        None, "epochs of linear warm-up, before the cosine; epochs // 20 if unset", least=0
    )
    weight_decay: float = _option(
        1e-3,
        "decoupled: 10x the L2 penalty of equal strength under momentum 0.9",
        least=0,
    )
    augment: bool = _option(False, "shift and mirror the training images at random")
    steps_per_execution: int = _option(1, "batches in one call of the train function", least=1)
    seed: int = _option(0, "seed of everything random", least=0)
    output_dir: str | None = _option(None, "results; runs/DATASET-MODEL-METHOD if unset")
    resume: bool = _option(False, "continue the killed run of the same options in output_dir")

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value, rule = getattr(self, field.name), field.metadata
            if rule["several"] and value is not None:
                object.__setattr__(self, field.name, _several(field.name, value, rule["several"]))
            choices = rule["choices"]() if rule["choices"] else [value]
            if value not in choices:
                raise ValueError(
                    f"`{field.name}` must be one of {', '.join(choices)}. Received: {value}"
                )
            if rule["least"] is not None and value is not None and not value >= rule["least"]:
                raise ValueError(
                    f"`{field.name}` must be at least {rule['least']}. Received: {value}"
                )
        for name in ("sparsity", "scheme"):
            values = getattr(self, name) or ()
            if len(values) > 1 and self.method not in ALTERNATING:
                raise ValueError(
                    f"`{name}` must be one value with method {self.method}; several are for "
                    f"{' and '.join(ALTERNATING)}. Received: {_text(values)}"
                )
        if not self.learning_rate > 0:
            raise ValueError(f"`learning_rate` must be positive. Received: {self.learning_rate}")
        if self.warmup_epochs is None:
            object.__setattr__(self, "warmup_epochs", self.epochs // 20)
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"`warmup_epochs` must be less than `epochs`, {self.epochs}. "
                f"Received: {self.warmup_epochs}"
            )

    @property
    def folder(self) -> str:
        """The output folder."""
        return self.output_dir or f"runs/{self.dataset}-{self.model}-{self.method}"

    def to_json(self) -> str:
        """Returns the options as JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    def check_resumes(self, earlier: dict) -> None:
        """Raises `ValueError` naming the flags in which this run differs from the `earlier` one."""
        changed = [
            f"--{name} was {_text(earlier.get(name))}, is {_text(value)}"
            for name, value in json.loads(self.to_json()).items()
            if name not in _NOT_COMPARED and earlier.get(name) != value
        ]
        if changed:
            raise ValueError(
                f"`resume` must continue a run of the same options. Received: {'; '.join(changed)}"
            )


def parse(arguments: Sequence[str]) -> RunConfig | str:
    """Reads command line flags, also from `--flagfile=FILE`.

    Args:
        arguments: of the command line, without the program's name.

    Returns:
        The options, or the text to print if `--help` was asked for.

    Raises:
        ValueError: an unknown flag or a value that cannot be read.

    Example:

    >>> parse(["--epochs=3", "--warmup_epochs=1"]).epochs
    3
    """
    # Flags of its own, not absl's global ones: several programs may live in one process.
    values = flags.FlagValues()
    flags.DEFINE_boolean("help", False, "print the flags", short_name="h", flag_values=values)
    for field in dataclasses.fields(RunConfig):
        _define(field, values)
    try:
        rest = values(["train", *arguments])[1:]
    except flags.Error as error:
        raise ValueError(" ".join(str(error).split())) from None
    if rest:
        raise ValueError(f"arguments must be flags, as --name=value. Received: {' '.join(rest)}")
    if values.help:
        return values.get_help()
    return RunConfig(
        **{field.name: values[field.name].value for field in dataclasses.fields(RunConfig)}
    )


def _several(name: str, given, kind: type) -> tuple:
    """The values of a field that takes several, from text with commas, a sequence or one value."""
    parts = given.split(",") if isinstance(given, str) else given
    parts = parts if isinstance(parts, (list, tuple)) else [parts]
    try:
        return tuple(kind(part.strip() if isinstance(part, str) else part) for part in parts)
    except ValueError:
        raise ValueError(
            f"`{name}` must be numbers with commas between. Received: {_text(given)}"
        ) from None


def _text(value) -> str:
    """A value as a flag has it."""
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _define(field: dataclasses.Field, values: flags.FlagValues) -> None:
    types = (str,) if field.metadata["several"] else typing.get_args(field.type) or (field.type,)
    kind = next(t for t in types if t is not type(None))
    arguments = (field.name, field.default)
    text = field.metadata["help"]
    text = text() if callable(text) else text
    if field.metadata["choices"]:
        flags.DEFINE_enum(*arguments, field.metadata["choices"](), text, flag_values=values)
        return
    define = {
        bool: flags.DEFINE_boolean,
        int: flags.DEFINE_integer,
        float: flags.DEFINE_float,
        str: flags.DEFINE_string,
    }[kind]
    define(*arguments, text, flag_values=values)
