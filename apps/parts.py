"""What a run is made of, as its options say."""

import functools
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from spfde_keras import (
    AlternatingSparseTraining,
    DataSieve,
    Freezing,
    SparseModel,
    SpFDE,
    saliency,
    sparsify,
    updaters,
    wrap,
)
from spfde_keras.alternating import JointSparseTraining
from spfde_keras.distributions import ByScores
from spfde_keras.sieve import policies
from spfde_keras.sieve.identified import strip_ids
from spfde_keras.sparse_training import SparseTraining

from . import datasets, model_parts, models, schedule_flags
from .config import BY_SCORES, SCHEDULES, SCORES, RunConfig
from .program import called
from .streamed import Streamed


def model(config: RunConfig, dataset: datasets.Dataset | Streamed) -> SparseModel:
    """Returns the net with its first masks; one of method dense has none."""
    plain = models.build(config.model, dataset.input_shape, dataset.classes, config.width)
    if config.coupled_weight_decay:
        plain = model_parts.with_l2(plain, config.coupled_weight_decay)
    if config.method == "dense":
        return wrap(plain)
    initial: Any = config.initial or updater(config).initial
    if initial in SCORES:
        initial = _scores(config, dataset, plain)
    by_scores = config.distribution == BY_SCORES
    return sparsify(
        plain,
        _one_or_all(config.sparsity),
        scheme=_one_or_all(config.scheme),
        distribution=ByScores(initial) if by_scores else config.distribution,
        dense=models.dense_layers(config.model),
        initial=initial,
        seed=config.seed,
    )


def _scores(
    config: RunConfig, dataset: datasets.Dataset | Streamed, plain: keras.Model
) -> dict[str, np.ndarray]:
    """What `config.initial` makes of the initial weights, on ten samples for each class."""
    everything = DataSieve(dataset.samples, 0.0, seed=config.seed)
    batches = dataset.batches(everything, config.batch_size, False, config.seed)
    some = batches.take(math.ceil(10 * dataset.classes / config.batch_size))
    score = {"snip": saliency.snip, "grasp": saliency.grasp}[str(config.initial)]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)
    return score(plain, [(strip_ids(x), y) for x, y in some], loss)


def _one_or_all(values: tuple | None) -> Any:
    # A single value holds for all sub-nets; a sequence of one would mean a single sub-net.
    return values[0] if values and len(values) == 1 else values


def updater(config: RunConfig) -> updaters.Updater:
    """Returns the updater, with the arguments that have flags."""
    given: dict[str, Any] = {}
    for flag, argument in config.updater_arguments.items():
        value = getattr(config, flag)
        if value is not None:
            given[argument] = schedule_flags.schedule(flag, value) if flag in SCHEDULES else value
    with called(**{argument: flag for flag, argument in config.updater_arguments.items()}):
        return type(updaters.get(config.updater_name))(**given)


def policy(config: RunConfig) -> policies.SievePolicy:
    """Returns the policy of the sieve."""
    given = {} if config.exchange is None else {"exchange": config.exchange}
    return type(policies.get(config.sieve_policy))(**given)


class _Freezing(Freezing):
    """Freezing by flags, in whose words messages are."""

    argument = "freeze_reduction"

    def __init__(self, config: RunConfig):
        reduction = "auto" if config.freeze_reduction is None else config.freeze_reduction
        blocks = config.freeze_blocks and list(config.freeze_blocks)
        super().__init__(reduction, config.freeze_scheme, blocks)
        self.share = config.freeze_share or self.share

    def settings(
        self, interval: int | None = None, share: float | None = None, scheme: str | None = None
    ) -> str:
        flags = {"interval": interval, "freeze_share": share, "freeze_scheme": scheme}
        return " ".join(f"--{name}={value}" for name, value in flags.items() if value is not None)


def callback(config: RunConfig, sieve: DataSieve) -> SparseTraining:
    """Returns the callback that trains sparse."""
    callbacks: dict[str, Callable[..., SparseTraining]] = {
        "ast": functools.partial(
            AlternatingSparseTraining, gradient_correction=config.gradient_correction
        ),
        "joint": JointSparseTraining,
    }
    return callbacks.get(config.method, SpFDE)(
        epochs=config.epochs,
        updater=updater(config),
        interval=config.interval,
        freeze=_Freezing(config) if config.freezes else None,
        sieve=sieve,
        seed=config.seed,
        data_stop=config.data_stop,
        update_steps=config.update_steps,
    )


def optimizer(config: RunConfig, steps: int) -> keras.optimizers.Optimizer:
    """Returns SGD with momentum, warm-up and a cosine; only kernels decay.

    With freezing, the callback multiplies the rate of each block by a cosine, so the schedule
    stays constant after warm-up. If a policy removes samples later on, the run has fewer steps
    than `steps` says, and the cosine ends above 0.

    Args:
        config: the options.
        steps: batches in an epoch.

    Example:

    >>> round(float(optimizer(RunConfig(learning_rate=0.05), 40).momentum), 1)
    0.9
    """
    warmup = (config.warmup_epochs or 0) * steps
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else config.learning_rate,
        warmup_target=config.learning_rate if warmup else None,
        warmup_steps=warmup,
        decay_steps=config.epochs * steps - warmup,
        alpha=1.0 if config.freezes else 0.0,
    )
    sgd = keras.optimizers.SGD(
        schedule,
        momentum=0.9,
        nesterov=config.nesterov,
        weight_decay=config.weight_decay or None,
    )
    sgd.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    return sgd


def loss(config: RunConfig) -> keras.losses.Loss:
    """Returns the loss; Keras smooths labels that are rows only."""
    if not config.label_smoothing:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=config.label_smoothing
    )
