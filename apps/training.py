"""One run: prepared, trained, evaluated, exported, its results written."""

import dataclasses
import functools
import json
import pathlib
import time
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from spfde_keras import (
    Analyses,
    DataSieve,
    Resume,
    SparseModel,
    export_tflite,
)
from spfde_keras.cost.model import profile
from spfde_keras.cost.plan import PlanCost
from spfde_keras.export import ExportReport
from spfde_keras.extras import extra
from spfde_keras.rounding import rounded
from spfde_keras.sparse_training import SparseTraining
from spfde_keras.sparsity_summary import mask_overlap, target_sparsities

from . import (
    analyses,
    datasets,
    evaluation,
    parts,
    plots,
    progress,
    results,
    strategies,
)
from .config import RunConfig
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
    analyses: Analyses | None
    callbacks: keras.callbacks.CallbackList
    planned: PlanCost
    origin: dict
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
    origin = provenance()  # of the code that trains, whatever becomes of its files meanwhile
    replicas = strategies.make(config.strategy)
    keras.utils.set_random_seed(config.seed)
    folder = results.RunFolder(config)
    folder.check()
    dataset = datasets.load(
        config.dataset, config.data_dir, config.train_samples, image_size=config.image_size
    )
    with replicas.strategy.scope():
        model = parts.model(config, dataset)
    with called(fraction="sieve_fraction"):
        sieve = DataSieve(
            dataset.samples, config.sieve_fraction, parts.policy(config), seed=config.seed
        )
    steps = sieve.steps(config.batch_size)
    with replicas.strategy.scope():
        model.compile(
            optimizer=parts.optimizer(config, steps),
            loss=parts.loss(config),
            metrics=["accuracy"],
            steps_per_execution=config.steps_per_execution,
        )
    training = parts.callback(config, sieve)
    curve = _as_trained(config, dataset, dataset.tests(_CURVE_SAMPLES))
    resume = Resume(results.RunFolder(states or config).states.path)
    measure = functools.partial(evaluation.now, model, curve)
    recorder = results.Recorder(folder.unfinished / "history.csv", measure, resume)
    analysing = analyses.callback(training, dataset) if config.analyse else None
    # Made here, not by `fit`: when it is given the model, the callback checks it and plans the run.
    lines = progress.EpochLines(recorder, config.epochs)
    with called(blocks="freeze_blocks"):
        callbacks = keras.callbacks.CallbackList(
            # Analyses of samples and layers are no time of training; of an update's gradients
            # they are.
            [training, recorder, *([analysing] if analysing else []), lines, resume],
            add_history=True,
            model=model,
            epochs=config.epochs,
            steps=steps,
            verbose=2,
        )
    training.check_begin(steps)
    # Now: methods that move weights from kernel to kernel will have moved them in the end.
    planned = training.planned_cost(batch_size=config.batch_size)
    folder.open()
    return Run(
        config,
        folder,
        dataset,
        model,
        sieve,
        training,
        recorder,
        analysing,
        callbacks,
        planned,
        origin,
        begun,
    )


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
    if isinstance(dataset, Streamed):
        say(dataset.described(config.augment, config.train_samples))
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
    if run.analyses is not None:
        analyses.write(run.analyses, dataset, new)
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
    planned = run.planned
    _draw(run, new / "training.png", [subnet["test_accuracy"] for subnet in subnets])
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
    return rounded(found) | run.origin | {"config": dataclasses.asdict(config)}


def _draw(run: Run, path: pathlib.Path, accuracies: Sequence[float]) -> None:
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
            "flops_share": run.planned.total / dense,
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


def _as_trained(
    config: RunConfig, dataset: datasets.Dataset | Streamed, batches: tf.data.Dataset
) -> tf.data.Dataset:
    """Returns batches with labels as the loss takes them."""
    if not config.label_smoothing:
        return batches
    return batches.map(lambda x, y: (x, keras.ops.one_hot(y, dataset.classes)))
