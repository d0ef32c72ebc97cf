"""Keras models to TFLite files, one signature for each sub-net."""

import contextlib
import dataclasses
import gzip
import os
import pathlib
import re
import uuid
from collections.abc import Iterable, Iterator

import keras
import numpy as np

from spfde_keras.export import acceptance
from spfde_keras.export.conversion import (
    DEFAULT_SIGNATURE,
    PRECISIONS,
    convert_models,
    in_float32,
)
from spfde_keras.export.conversion import tolerance as default_tolerance
from spfde_keras.export.inspection.inspector import inspect_tflite
from spfde_keras.export.rewriting.mobile import make_mobile_ready
from spfde_keras.export.verification import compare, input_names, named_inputs, reference
from spfde_keras.sparsify import densify
from spfde_keras.training import SparseModel

CALIBRATION_SAMPLES = 256  # TensorFlow's guide asks for 100 to 500
VERIFICATION_SAMPLES = 16


@dataclasses.dataclass(frozen=True)
class ExportReport:
    """What `export_tflite` wrote.

    Args:
        path: the file.
        precision: one of `PRECISIONS`.
        sparse: bool, whether any weights are stored sparse.
        bytes: int, size of the file.
        gzip_bytes: int, its size after gzip, as app stores ship it.
        signatures: the names by which the file is run: of the sub-nets, where there are several.
        max_error: float, largest error of any signature against the Keras model, a share of the
            output's scale.
        tolerance: float, the error it was allowed.
        checked_samples: int, samples that both were run on.
        runs_sparse: bool, whether phones run it sparse, by `inspect_tflite`.
        obstacle: str, the first reason why not, or why weights had to be stored dense; else "".
        sparse_mode: str, the runtime in which it was run with sparse kernels; None if it was not.
        sparse_mode_error: float, the largest error of any signature there; None if it was not.
    """

    path: str
    precision: str
    sparse: bool
    bytes: int
    gzip_bytes: int
    signatures: tuple[str, ...]
    max_error: float
    tolerance: float
    checked_samples: int
    runs_sparse: bool = False
    obstacle: str = ""
    sparse_mode: str | None = None
    sparse_mode_error: float | None = None

    def __str__(self):
        encoding = "sparse" if self.sparse else "dense"
        lines = [
            f"{self.path}: {self.precision}, {encoding}, {self.bytes:,} bytes "
            f"({self.gzip_bytes:,} after gzip), {', '.join(self.signatures)}: largest error "
            f"{self.max_error:.1e} of the output's scale on {self.checked_samples} samples"
        ]
        if self.sparse:
            lines += [self._speed(), self._proof()]
        elif self.obstacle:
            lines.append(f"stored dense: {self.obstacle}")
        return "\n".join(lines)

    def _speed(self) -> str:
        if self.runs_sparse:
            return "runs sparse on phones (ARM64, ARM, WebAssembly)"
        return (
            f"does not run sparse on phones, where it is smaller only: {self.obstacle} (more by "
            "tflite/inspect.py; mobile=True rewrites what it can)"
        )

    def _proof(self) -> str:
        if self.sparse_mode is None:
            return "not run in sparse mode: no runtime is installed; `make mobile-kit` installs one"
        return (
            f"run in sparse mode ({self.sparse_mode}): largest error {self.sparse_mode_error:.1e}"
        )


def export_tflite(
    model: keras.Model,
    path,
    precision: str = "float32",
    sparse: bool | None = None,
    representative_data=None,
    tolerance: float | None = None,
    mobile: bool = False,
) -> ExportReport:
    """Writes a model's TFLite file; no file gets its name unless it agrees with the model.

    Masks are folded into the kernels. The file takes one sample at a time, in float32 whatever
    `precision` is. It is loaded in LiteRT and compared with the Keras model first; when
    anything fails, an older file at `path` stays as it was.

    A file with sparse weights is inspected as well: one that phones would run wrong, or not at
    all, is refused. Where a sparse-mode runtime is installed (`available_runtimes`), it is run
    in there too.

    A model of several sub-nets gives one file with a signature for each, named as in
    `model.subnets`. What they have in common is stored once: layers that are neither masked nor
    followed by a batch normalization, which is folded into the kernel in front of it. For a file
    of one of them, pass `densify(model, subnet=k)`.

    Args:
        model: a functional or Sequential model, with masks or without, of known input shapes.
        path: where to write, ending in .tflite.
        precision: "float32", "float16" (weights), "int8_dynamic" (weights; activations on the
            fly) or "int8_full" (weights and activations).
        sparse: bool, whether to store weights sparse where that is smaller. None: as far as
            the precision can, which is float32 and float16, and as the converter writes it
            right, which it does not for some dense layers.
        representative_data: array (samples, *input shape), or an iterable or dataset of such
            batches, x or (x, y). "int8_full" takes the ranges of activations from its first
            256 samples; any precision is verified on its first 16 instead of random ones.
        tolerance: float, the largest error as a share of the output's scale, instead of the
            precision's own in `PRECISIONS`.
        mobile: bool, whether the file must run sparse on phones: the model is rewritten to an
            equal one that does (`make_mobile_ready`), or refused if that takes a change of what
            it computes.

    Returns:
        An `ExportReport`; print it.

    Raises:
        ValueError: if an argument is wrong; nothing has been converted then.
        RuntimeError: if the file cannot be made, or loaded, or a signature is not its model, or
            phones would run it wrong, or, with `mobile`, not sparse.

    Example:

    >>> report = export_tflite(model, "model.tflite", precision="float16")
    >>> report.max_error <= report.tolerance
    True
    """
    encode = _resolve_sparse(precision, sparse, mobile)
    if precision == "int8_full" and representative_data is None:
        raise ValueError(
            "`representative_data` must be given with precision='int8_full': about 100 samples "
            "of training data to take the ranges of activations from."
        )
    if tolerance is not None and not tolerance > 0:
        raise ValueError(f"`tolerance` must be greater than 0. Received: {tolerance}")
    path = pathlib.Path(path)
    temporary = _reserve(path)
    try:
        names = _signature_names(model)
        models = {name: densify(model, subnet=index) for index, name in enumerate(names)}
        plain = models[names[0]]
        _check_static(plain)
        if representative_data is None:
            samples = _random_samples(plain)
        else:
            samples = _collect(plain, representative_data)
        checked = {name: array[:VERIFICATION_SAMPLES] for name, array in samples.items()}
        expected = {name: reference(model, checked, name) for name in names}
        allowed = default_tolerance(plain, precision) if tolerance is None else tolerance
        with _explained(precision, encode, path):
            models = {name: in_float32(plain) for name, plain in models.items()}
            if mobile:
                models = {name: make_mobile_ready(plain) for name, plain in models.items()}
            temporary.write_bytes(convert_models(models, precision, encode, samples))
            inspected = inspect_tflite(temporary) if encode else None
            miswritten = acceptance.miswritten(inspected) if encode else ""
            if miswritten and sparse is None and not mobile:
                inspected = None
                temporary.write_bytes(convert_models(models, precision, False, samples))
        if inspected:
            acceptance.accept(inspected, mobile)
        stored_sparse = inspected is not None and acceptance.is_stored_sparse(inspected)
        with _explained(precision, encode, path):
            errors = [compare(temporary, checked, expected[name], allowed, name) for name in names]
            runtime, sparse_error = None, None
            if stored_sparse:
                proof = acceptance.run_in_sparse_mode(temporary, checked, expected, allowed)
                runtime, sparse_error = proof
        content = temporary.read_bytes()
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return ExportReport(
        path=str(path),
        precision=precision,
        sparse=stored_sparse,
        bytes=len(content),
        gzip_bytes=len(gzip.compress(content)),
        signatures=tuple(names),
        max_error=max(errors),
        tolerance=allowed,
        checked_samples=len(next(iter(checked.values()))),
        runs_sparse=stored_sparse and inspected.sparse_on_arm64,
        obstacle=acceptance.obstacle(inspected) if stored_sparse else miswritten,
        sparse_mode=runtime,
        sparse_mode_error=sparse_error,
    )


def _resolve_sparse(precision: str, sparse: bool | None, mobile: bool) -> bool:
    """Returns whether to ask the converter for sparse weights."""
    if precision not in PRECISIONS:
        raise ValueError(f"`precision` must be one of {list(PRECISIONS)}. Received: {precision!r}")
    if mobile and not PRECISIONS[precision].sparse:
        raise ValueError(
            "`precision` must be 'float32' or 'float16' with mobile=True: phones skip zeros in "
            f"floating point only. Received: {precision!r}"
        )
    if mobile and sparse is False:
        raise ValueError(
            "`sparse` must not be False with mobile=True: phones skip zeros in a file with sparse "
            "weights only."
        )
    if sparse and not PRECISIONS[precision].sparse:
        # It converts without a word.
        raise ValueError(
            f"`sparse` must be False with precision={precision!r}: where LiteRT loads sparse int8 "
            "at all, it is neither faster nor smaller once compressed. Use precision='float16' "
            "with sparse=True, or int8 with sparse=False."
        )
    return PRECISIONS[precision].sparse if sparse is None else bool(sparse)


def _reserve(path: pathlib.Path) -> pathlib.Path:
    """Creates the empty file that becomes `path`, which shows that its folder is writable."""
    if path.suffix != ".tflite":
        raise ValueError(f"`path` must end in .tflite. Received: {path}")
    if path.is_dir():
        raise ValueError(f"`path` must not be a folder. Received: {path}")
    temporary = path.with_name(f".{path.stem}-{uuid.uuid4().hex[:8]}.tflite")
    try:
        temporary.touch(exist_ok=False)
    except OSError as error:
        raise ValueError(
            f"`path` must be in an existing, writable folder. Received: {path} ({error.strerror})"
        ) from error
    return temporary


def _signature_names(model: keras.Model) -> list[str]:
    subnets = model.subnets if isinstance(model, SparseModel) else []
    if len(set(subnets)) < len(subnets):
        raise ValueError(
            f"`model` must have sub-nets of different sparsity. Received: {subnets}; export them "
            "one by one, as densify(model, subnet=k)."
        )
    return subnets if len(subnets) > 1 else [DEFAULT_SIGNATURE]


def _check_static(model: keras.Model) -> None:
    for tensor in model.inputs:
        if None in tensor.shape[1:]:
            raise ValueError(
                f"`model` must have fixed input shapes: build it again with them in keras.Input. "
                f"Received: {tensor.shape} for input {tensor.name!r}"
            )


def _random_samples(model: keras.Model) -> dict[str, np.ndarray]:
    """Uniform in [0, 1), as scaled images are; integers are 0 or 1, which every table has."""
    random = np.random.default_rng(0)
    return {
        name: random.uniform(
            high=1 if "float" in tensor.dtype else 2,
            size=(VERIFICATION_SAMPLES, *tensor.shape[1:]),
        ).astype(tensor.dtype)
        for name, tensor in zip(input_names(model), model.inputs, strict=True)
    }


def _collect(model: keras.Model, data) -> dict[str, np.ndarray]:
    batches = [data] if hasattr(data, "shape") or isinstance(data, dict) else data
    if not isinstance(batches, Iterable):
        raise ValueError(
            "`representative_data` must be an array, or an iterable or dataset of batches of x. "
            f"Received: {type(data).__name__}"
        )
    collected, count = [], 0
    for batch in batches:
        collected.append(named_inputs(model, batch[0] if isinstance(batch, tuple) else batch))
        count += len(next(iter(collected[-1].values())))
        if count >= CALIBRATION_SAMPLES:
            break
    if not collected:
        raise ValueError("`representative_data` must hold at least one sample. Received: none")
    return {
        name: np.concatenate([inputs[name] for inputs in collected])[:CALIBRATION_SAMPLES]
        for name in collected[0]
    }


@contextlib.contextmanager
def _explained(precision: str, sparse: bool, path: pathlib.Path) -> Iterator[None]:
    """Says of any failure inside what can be done about it."""
    try:
        yield
    except Exception as failure:
        raise RuntimeError(_explain(failure, precision, sparse, path)) from failure


def _explain(failure: Exception, precision: str, sparse: bool, path: pathlib.Path) -> str:
    text = str(failure) or type(failure).__name__
    missing = sorted(set(re.findall(r"Flex\w+|'tfl?\.\w+' op", text)))
    reason = f"LiteRT does not have {', '.join(missing)}" if missing else text.splitlines()[0]
    encoding = "sparse" if sparse else "dense"
    remedy = PRECISIONS[precision].remedy
    if precision == "float32" and not sparse:
        remedy = "layers that LiteRT has"
    return (
        f"The {precision} ({encoding}) export of {path} failed: {reason[:300]}. "
        f"Use {remedy} instead. No file was written."
    )
