"""One run: prepared, trained, evaluated, exported, its results written."""

import dataclasses
import functools
import json
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from spfde_keras import (
    AlternatingSparseTraining,
    DataSieve,
    Freezing,
    Resume,
    SparseModel,
    SpFDE,
    export_tflite,
    sparsify,
    updaters,
    wrap,
)
from spfde_keras.alternating import JointSparseTraining
from spfde_keras.cost.model import profile
from spfde_keras.cost.plan import PlanCost
from spfde_keras.export import ExportReport
from spfde_keras.extras import extra
from spfde_keras.sieve import policies
from spfde_keras.sparse_training import SparseTraining
from spfde_keras.sparsity_summary import mask_overlap, target_sparsities

from . import (
    datasets,
    evaluation,
    model_parts,
    models,
    plots,
    progress,
    results,
    schedule_flags,
    strategies,
)
from .config import ALTERNATING, SCHEDULES, RunConfig
from .program import called
from .progress import say
from .provenance import provenance
from .streamed import Streamed

with extra("apps"):
    # Needed at the end: where it is missing, nothing begins.
    from spfde_keras.export import litert  # noqa: F401

# Test samples used for the curve; the result is measured on all.
_CURVE_SAMPLES = 2000


@dataclasses.dataclass
class Run:
    """A run ready to train: everything that could be wrong with it has been checked."""

    config: RunConfig
    folder: results.RunFolder
    dataset: datasets.Dataset | Streamed
    model: SparseModel
    sieve: DataSieve
    training: SparseTraining
    recorder: results.Recorder
    callbacks: keras.callbacks.CallbackList
    begun: float


def finished_before(config: RunConfig) -> dict | None:
    """Returns the results of a run that is to be resumed but has nothing left to do, or None.

    Raises:
        ValueError: the folder holds something that is not of a run.
    """
    found = results.RunFolder(config).finished()
    # Only the chief has results, and all must do the same.
    known = strategies.make(config.strategy).summed(np.array(int(found is not None)))
    return (found or {}) if known else None


def prepare(config: RunConfig, states: RunConfig | None = None) -> Run:
    """Makes everything a run needs, and only then its output folder.

    Args:
        config: the options.
        states: the options of the chief, in whose folder the states of the run are, where
            `config` are those of another worker.

    Returns:
        A `Run` for `train`.

    Raises:
        ValueError: something about the options, the data or the folder is wrong. Output of an
            earlier run is untouched then.

    Example:

    >>> run = prepare(RunConfig(output_dir="runs/example"))
    >>> run.sieve.active
    1150
    """
    begun = time.perf_counter()
    replicas = strategies.make(config.strategy)
    keras.utils.set_random_seed(config.seed)
    folder = results.RunFolder(config)
    folder.check()
    dataset = datasets.load(
        config.dataset, config.data_dir, config.train_samples, image_size=config.image_size
    )
    with replicas.strategy.scope():
        model = _model(config, dataset)
    with called(fraction="sieve_fraction"):
        sieve = DataSieve(dataset.samples, config.sieve_fraction, _policy(config), seed=config.seed)
    steps = sieve.steps(config.batch_size)
    with replicas.strategy.scope():
        model.compile(
            optimizer=optimizer(config, steps),
            loss=_loss(config),
            metrics=["accuracy"],
            steps_per_execution=config.steps_per_execution,
        )
    training = _training(config, sieve)
    curve = _as_trained(config, dataset, dataset.tests(_CURVE_SAMPLES))
    resume = Resume(results.RunFolder(states or config).states.path)
    measure = functools.partial(evaluation.now, model, curve)
    recorder = results.Recorder(folder.unfinished / "history.csv", measure, resume)
    # Made here, not by `fit`: when it is given the model, the callback checks it and plans the run.
    with called(blocks="freeze_blocks"):
        callbacks = keras.callbacks.CallbackList(
            [training, recorder, progress.EpochLines(recorder, config.epochs), resume],
            add_history=True,
            model=model,
            epochs=config.epochs,
            steps=steps,
            verbose=2,
        )
    folder.open()
    return Run(config, folder, dataset, model, sieve, training, recorder, callbacks, begun)


def train(run: Run) -> dict:
    """Trains, evaluates, exports, and writes the results.

    Args:
        run: from `prepare`.

    Returns:
        What is in `results.json`.
    """
    config, dataset, model = run.config, run.dataset, run.model
    say(
        f"training {config.model} on {dataset.train_samples} samples of {config.dataset}: "
        f"{config.epochs} epochs of {config.method}"
    )
    model.fit(
        _as_trained(
            config,
            dataset,
            dataset.batches(run.sieve, config.batch_size, config.augment, config.seed),
        ),
        epochs=config.epochs,
        callbacks=run.callbacks,
        shuffle=False,  # the sieve shuffles
        verbose=2,
    )
    new = run.folder.unfinished
    model.save(new / "model.keras")
    try:
        found = _found(run)
    except Exception:
        say(f"what was trained is kept: {new / 'model.keras'}")
        raise
    if not model.replicas.chief:
        return {}  # its folder goes, and its model has saved nothing
    (new / "results.json").write_text(json.dumps(found, indent=2) + "\n")
    run.folder.publish()
    return found


def _found(run: Run) -> dict:
    """Exports, evaluates and draws what was trained; returns the results."""
    config, dataset, model, new = run.config, run.dataset, run.model, run.folder.unfinished
    samples = dataset.typical(16)
    say("converting to model.tflite, and checking it")
    tflite = _export(model, new / "model.tflite", samples)
    say("converting without sparse encoding, to compare")
    twin = export_tflite(model, new / "dense.tflite", sparse=False, representative_data=samples)
    subnets = evaluation.in_the_end(
        model,
        new / "model.tflite",
        dataset,
        functools.partial(_as_trained, config, dataset),
    )
    planned = run.training.planned_cost(batch_size=config.batch_size)
    _draw(run, new / "training.png", [subnet["test_accuracy"] for subnet in subnets], planned)
    last = run.recorder.rows[-1]
    costs = profile(model)
    found = {
        **{k: v for k, v in subnets[0].items() if k not in ("name", "sparsity")},
        "subnets": subnets,
        "mask_overlap": mask_overlap(model),
        "sparsity": last["sparsity"],
        "training_flops": run.training.training_flops,
        "dense_training_flops": run.training.dense_training_flops,
        "flops_share": run.training.training_flops / run.training.dense_training_flops,
        "planned_training_flops": planned.total,
        "memory_average_bytes": float(planned.memory.mean()),
        "memory_minimum_bytes": float(planned.memory.min()),
        "block_flops_per_sample": {
            name: flops.tolist() for name, flops in costs.by_block().items()
        },
        "active_samples": int(last["active_samples"]),
        "train_samples": dataset.train_samples,
        "test_samples": dataset.test_samples,
        "frozen_blocks": int(last["frozen_blocks"]),
        "blocks": costs.blocks,
        "steps": int(model.optimizer.iterations.numpy()),
        "wall_time_s": time.perf_counter() - run.begun + run.recorder.seconds_before,
        "training_time_s": sum(row["seconds"] for row in run.recorder.rows),
        "tflite_bytes": tflite.bytes,
        "tflite_dense_bytes": twin.bytes,
        "tflite_share": tflite.bytes / twin.bytes,
        "tflite_runs_sparse": tflite.runs_sparse,
        "pixel_mean": dataset.mean.tolist(),
        "pixel_std": dataset.std.tolist(),
    }
    return results.rounded(found) | provenance() | {"config": dataclasses.asdict(config)}


def _draw(run: Run, path: pathlib.Path, accuracies: Sequence[float], planned: PlanCost) -> None:
    """Draws the history of the run, with lines at what it was to reach."""
    config, dense = run.config, run.training.dense_training_flops
    found = ", ".join(f"{accuracy:.4f}" for accuracy in accuracies)
    targets = target_sparsities(run.model)
    single = len(targets) == 1
    plots.plot_history(
        run.recorder.rows,
        path,
        f"{config.dataset}, {config.model}, {config.method}: test accuracy {found}",
        {
            "active_samples": run.dataset.train_samples,
            "flops_share": planned.total / dense,
            **{
                "sparsity" if single else f"sparsity/{name}": target
                for name, target in zip(run.model.subnets, targets, strict=True)
            },
        },
    )


def _export(model: SparseModel, path: pathlib.Path, samples: np.ndarray) -> ExportReport:
    try:
        return export_tflite(model, path, representative_data=samples)
    except RuntimeError as error:
        # The converter's sparse encoding fails for some shapes, which must not end the run.
        say(f"written without sparse encoding: {error}")
        return export_tflite(model, path, sparse=False, representative_data=samples)


def _model(config: RunConfig, dataset: datasets.Dataset | Streamed) -> SparseModel:
    plain = models.build(config.model, dataset.input_shape, dataset.classes, config.width)
    if config.coupled_weight_decay:
        plain = model_parts.with_l2(plain, config.coupled_weight_decay)
    if config.method == "dense":
        return wrap(plain)
    return sparsify(
        plain,
        _one_or_all(config.sparsity),
        scheme=_one_or_all(config.scheme),
        distribution=config.distribution,
        dense=models.dense_layers(config.model),
        initial=config.initial or _updater(config).initial,
        seed=config.seed,
    )


def _one_or_all(values: tuple | None) -> Any:
    # A single value holds for all sub-nets; a sequence of one would mean a single sub-net.
    return values[0] if values and len(values) == 1 else values


def _updater(config: RunConfig) -> updaters.Updater:
    given: dict[str, Any] = {}
    if config.method in ALTERNATING:
        given["initial_density"] = config.initial_density
    for flag, argument in config.updater_arguments.items():
        value = getattr(config, flag)
        if value is not None:
            given[argument] = schedule_flags.schedule(flag, value) if flag in SCHEDULES else value
    with called(**{argument: flag for flag, argument in config.updater_arguments.items()}):
        return type(updaters.get(config.updater))(**given)


def _policy(config: RunConfig) -> policies.SievePolicy:
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


def _training(config: RunConfig, sieve: DataSieve) -> SparseTraining:
    callbacks: dict[str, Callable[..., SparseTraining]] = {
        "ast": functools.partial(
            AlternatingSparseTraining, gradient_correction=config.gradient_correction
        ),
        "joint": JointSparseTraining,
    }
    return callbacks.get(config.method, SpFDE)(
        epochs=config.epochs,
        updater=_updater(config),
        interval=config.interval,
        freeze=_Freezing(config) if config.freezes else None,
        sieve=sieve,
        seed=config.seed,
        data_stop=config.data_stop,
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


def _loss(config: RunConfig) -> keras.losses.Loss:
    """The loss; Keras smooths labels that are rows only."""
    if not config.label_smoothing:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=config.label_smoothing
    )


def _as_trained(
    config: RunConfig, dataset: datasets.Dataset | Streamed, batches: tf.data.Dataset
) -> tf.data.Dataset:
    """Returns batches with labels as the loss takes them."""
    if not config.label_smoothing:
        return batches
    return batches.map(lambda x, y: (x, keras.ops.one_hot(y, dataset.classes)))
