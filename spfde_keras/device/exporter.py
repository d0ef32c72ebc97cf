"""Keras models to TFLite files that train."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import keras

from spfde_keras import checks
from spfde_keras.device import shares, trainable
from spfde_keras.device.agreement import check_agreement
from spfde_keras.device.contents import contents_of, kernels_of
from spfde_keras.device.conversion import convert, trace
from spfde_keras.device.cutting import check_cut, parts_of
from spfde_keras.device.expressible import check_operators
from spfde_keras.device.program import Program, program_of
from spfde_keras.device.stages import stages_of
from spfde_keras.export import acceptance
from spfde_keras.export.exporter import checked_path
from spfde_keras.export.inspection import inspect_tflite
from spfde_keras.files import replacing
from spfde_keras.rebuilding import as_functional
from spfde_keras.sparsify import densify, wrap
from spfde_keras.updaters.base import UpdaterLike


@dataclasses.dataclass(frozen=True)
class TrainableReport:
    """What `export_trainable_tflite` wrote.

    Args:
        path: the file.
        bytes: int, size of the file.
        batch_size: int, samples that an update takes.
        sparse: bool, whether any frozen weights are stored sparse.
        state_size: int, numbers in a saved state, four bytes each.
        kept: int, weights of masked kernels that are stored.
        masked: int, weights that they would be without masks.
        max_error: float, largest error of two updates against Keras, as a share of the update.
        tolerance: float, the error it was allowed.
    """

    path: str
    bytes: int
    batch_size: int
    sparse: bool
    state_size: int
    kept: int
    masked: int
    max_error: float
    tolerance: float

    def __str__(self) -> str:
        packed = f"; {self.kept:,} of {self.masked:,} masked weights stored" * bool(self.masked)
        return (
            f"{self.path}: {self.bytes:,} bytes, trains on batches of {self.batch_size}; a state "
            f"has {self.state_size:,} numbers{packed}; updates are off by at most "
            f"{self.max_error:.1e} of those in Keras"
        )


def export_trainable_tflite(
    model: keras.Model,
    path: str | os.PathLike[str],
    optimizer: Any,
    loss: Any,
    batch_size: int = 16,
    cut: str | None = None,
    stages: int = 0,
    updater: UpdaterLike = None,
    samples: int = 0,
    sieve: float = 0.0,
    exchange: float = 1.0,
    seed: int = 0,
    tolerance: float = 1e-5,
) -> TrainableReport:
    """Writes a model as a TFLite file that trains, after comparing its updates with Keras'.

    The file has nothing but LiteRT's built-in operators: no delegate and no code in the app but
    calls of its signatures.

    - `infer`: x (1, ...) to outputs (1, ...);
    - `train`: x (batch, ...), y (batch, ...) and rate float32 (1,) to loss float32 (1,) and, if
      the loss tells what is right, correct int32 (batch,);
    - `save`: to state float32 (numbers,);
    - `restore`: state to restored int32 (1,);
    - with `cut`, `features`: x (1, ...) to features (1, ...), and `train_on_features`: as `train`,
      with features (batch, ...) in place of x. An app computes them once for each sample.

    With `stages`, `updater`, `samples` and `sieve` the file trains as `SpFDE` does:

    - `train_1`, `train_2` ...: as `train`, with one more block frozen in each; so for
      `train_on_features`. `rate` is then float32 (blocks,), a learning rate for each block;
    - `mutate`, and `mutate_1` ... with blocks frozen: share float32 (blocks,), how far masks
      change (a number below 0 leaves a block as it is), and random float32 (numbers,) to stayed
      float32 (1,), the share of weights that are still there. Where importance has a part of
      the gradient, it takes the x (or features) and y of a batch, too;
    - with `samples`, updates also take sample int32 (batch,), and count what is forgotten;
    - `sieve`: random float32 (samples,) and shuffle float32 (removed,) to member int32
      (samples,), 1 for those that are trained on; `member`: to the same, as it is.

    `train` makes one update with the learning rate `rate`; where loss or gradients are not
    finite, or a label is no class, it changes nothing, and the loss is NaN. `restore` takes a
    state that `save` gave, of this file or of one that differs in its weights alone; it gives 0,
    and changes nothing, for any other, and fails for one of another size.

    What is frozen by `cut` is constant in the file, stored sparse where that is smaller and
    phones compute it right. Of other weights, those that masks drop are not stored, neither are
    their slots, where the optimizer treats each weight by itself (Muon and Adafactor do not).

    Args:
        model: a functional or Sequential model of one input of known shape, one output and one
            sub-net, with masks or without.
        path: where to write, ending in .tflite.
        optimizer: a Keras optimizer or its name; its state starts anew. Its learning rate is not
            in the file.
        loss: a Keras loss, its name, or a function (y_true, y_pred). Labels are int32 (batch,)
            for sparse categorical losses, and otherwise float32 of the output's shape.
        batch_size: int, samples of an update.
        cut: name of the last layer that is frozen, with all in front of it; everything must pass
            through it. None: those with `trainable=False` alone are frozen.
        stages: int, how many more blocks can be frozen one after another: those of
            `find_blocks`, of what is trained, the last of which always is.
        updater: None: masks stay; or what changes them, "set", "mest_em" or "mest_ems", or one
            of these as an `Updater`. There is room for the largest bound of "mest_ems".
        samples: int, how many samples are counted; their ids are from 0 on. 0: none.
        sieve: float in [0, 1), share of the samples that rest.
        exchange: float in (0, 1], as of the policy "circular": share of those at rest that
            come back at once.
        seed: int, of the samples that rest at first, as of `DataSieve`.
        tolerance: float, the largest error of an update, as a share of the update, beyond what
            Keras' own changes by if inputs and weights change by a millionth.

    Returns:
        A `TrainableReport`; print it.

    Raises:
        ValueError: if an argument is wrong, or a layer cannot be expressed; nothing has been
            converted then.
        ModuleNotFoundError: if the extra "export" is not installed.
        RuntimeError: if the file cannot be made, or its updates do not agree with Keras.

    Example:

    >>> report = export_trainable_tflite(
    ...     model, "trainable.tflite", "sgd", "sparse_categorical_crossentropy", batch_size=4)
    >>> report.max_error <= 1e-5
    True
    """
    from spfde_keras.export import litert  # noqa: F401  where it is missing, nothing begins

    path = checked_path(path)
    checks.whole("batch_size", batch_size)
    checks.number("tolerance", tolerance, above=0)
    graph = trainable.checked_graph(model)
    make_optimizer = trainable.optimizers_like(optimizer)
    labels = trainable.labels_of(graph, loss, batch_size)
    check_cut(graph, cut)
    checks.whole("stages", stages, least=0)
    changing = shares.get(updater)
    plain = densify(model)
    judge = trainable.judge_of(plain, loss)
    sieving = trainable.sieving_of(judge, samples, sieve, exchange, seed)
    parts = parts_of(plain, cut)
    parts.tail.compile(loss=loss)
    contents = contents_of(model, parts, changing)
    frozen = stages_of(plain, parts, stages)
    program = program_of(
        contents, make_optimizer(), judge, frozen, kernels_of(model), changing, sieving
    )
    traced = trace(program, labels)
    check_operators(plain, traced)
    with replacing(path) as beside:
        try:
            sparse = cut is not None and _write_sparse(beside, program, traced)
            if not sparse:
                beside.write_bytes(convert(program, traced, sparse=False))
            whole = as_functional(wrap(model))
            twin = parts_of(whole, cut)
            twin.tail.compile(make_optimizer(), loss)
            same = stages_of(whole, twin, stages)
            error = check_agreement(beside, program, twin, same, labels, tolerance)
        except Exception as failure:
            reason = (str(failure) or type(failure).__name__).splitlines()[0]
            raise RuntimeError(
                f"The trainable export of {path} failed: {reason[:300]}. No file was written."
            ) from failure
        size = beside.stat().st_size
    packed = [one for one in contents.stored if one.places is not None]
    return TrainableReport(
        path=str(path),
        bytes=size,
        batch_size=batch_size,
        sparse=sparse,
        state_size=program.state.size,
        kept=sum(one.kept for one in packed),
        masked=sum(one.nowhere for one in packed),
        max_error=error,
        tolerance=tolerance,
    )


def _write_sparse(path: pathlib.Path, program: Program, traced: Mapping[str, Any]) -> bool:
    """Writes a file with sparse frozen weights; returns whether there are any, and are right."""
    path.write_bytes(convert(program, traced, sparse=True))
    inspected = inspect_tflite(path)
    wrong = acceptance.miswritten(inspected) or not inspected.safe_on_arm64
    return acceptance.is_stored_sparse(inspected) and not wrong
