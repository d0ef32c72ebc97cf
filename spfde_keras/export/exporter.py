"""Keras models to TFLite files, one signature for each sub-net."""

import dataclasses
import gzip
import os
import pathlib
import re
import tempfile
import warnings
from typing import Any, NamedTuple

import keras
import numpy as np

from spfde_keras import checks
from spfde_keras.export import acceptance, exportable
from spfde_keras.export.conversion import (
    DEFAULT_SIGNATURE,
    convert_models,
    in_float32,
)
from spfde_keras.export.conversion import tolerance as default_tolerance
from spfde_keras.export.converter import PRECISIONS
from spfde_keras.export.inspection import InspectReport, inspect_tflite
from spfde_keras.export.naming import renamed
from spfde_keras.export.report import ExportReport
from spfde_keras.export.rewriting import rewrite_for_phones
from spfde_keras.export.samples import VERIFICATION_SAMPLES, collect, random_samples
from spfde_keras.export.verification import compare, reference
from spfde_keras.files import replacing
from spfde_keras.sparsify import densify
from spfde_keras.sparsity_summary import subnet_sparsities, target_sparsities, zero_share
from spfde_keras.training import SparseModel


def export_tflite(
    model: keras.Model,
    path: str | os.PathLike[str],
    precision: str = "float32",
    sparse: bool | None = None,
    representative_data: Any = None,
    tolerance: float | None = None,
    mobile: bool = False,
) -> ExportReport:
    """Writes a model as a TFLite file, after comparing what the file computes with the model.

    Masks are folded into the kernels. The file takes one sample at a time, in float32 for any
    `precision`. It is first loaded in LiteRT and compared with the Keras model; if anything
    fails, an older file at `path` stays as it was.

    A file with sparse weights is inspected as well, and refused if phones could not load it or
    would run it wrong. If a sparse-mode runtime is installed (`available_runtimes`), the file is
    also run there.

    A model of several sub-nets gives one file with a signature for each, named as in
    `model.subnets`. What they have in common is stored once: layers that are neither masked nor
    followed by a batch normalization, which is folded into the kernel before it. For a file
    of one of them, pass `densify(model, subnet=k)`.

    Inputs keep their names, and outputs their keys, where a file can have them; the report names
    those that changed (`ExportReport.renamed`).

    Args:
        model: a functional or Sequential model, with masks or without, of known input shapes.
        path: where to write, ending in .tflite.
        precision: "float32", "float16" (weights), "int8_dynamic" (weights; activations on the
            fly) or "int8_full" (weights and activations).
        sparse: bool, whether to store weights sparse where that is smaller. None: if the
            precision allows it, as float32 and float16 do, and the converter writes them
            correctly, which it does not for some dense layers.
        representative_data: array (samples, *input shape), a list or dictionary of them for
            several inputs, or an iterable or dataset of such batches, x or (x, y). "int8_full"
            takes the ranges of activations from its first 256 samples; any precision is verified
            on its first 16 instead of random ones. An optional input that is None or missing
            here is left out of the file.
        tolerance: float, the largest error as a share of the output's scale, instead of the
            precision's own in `PRECISIONS`.
        mobile: bool, whether the file must run sparse on phones: the model is rewritten to an
            equal one that does (`make_mobile_ready`), or refused if there is none.

    Returns:
        An `ExportReport`; print it.

    Raises:
        ValueError: if an argument is wrong; nothing has been converted then.
        ModuleNotFoundError: if the extra "export" is not installed.
        RuntimeError: if the file cannot be made or loaded, a signature does not agree with its
            model, phones would run it wrong or, with `mobile`, would not run it sparse.

    Example:

    >>> report = export_tflite(model, "model.tflite", precision="float16")
    >>> report.max_error <= report.tolerance
    True
    """
    from spfde_keras.export import litert  # noqa: F401  where it is missing, nothing begins

    options = _Options(precision, sparse, mobile, tolerance)
    if precision == "int8_full" and representative_data is None:
        raise ValueError(
            "`representative_data` must be given with precision='int8_full': about 100 samples "
            "of training data to take the ranges of activations from."
        )
    path = checked_path(path)
    prepared = _prepare(model, representative_data)
    with replacing(path) as beside:
        try:
            converted = _convert(prepared, options, beside)
            checked = _check(prepared, converted, options, beside)
        except acceptance.NotAccepted:  # says itself what can be done
            raise
        except Exception as failure:
            raise RuntimeError(_explain(failure, prepared, options, path)) from failure
        content = beside.read_bytes()
    report = ExportReport(
        path=str(path),
        precision=precision,
        sparse=converted.is_sparse,
        bytes=len(content),
        gzip_bytes=len(gzip.compress(content)),
        signatures=tuple(prepared.models),
        renamed=renamed(prepared.plain),
        max_error=checked.error,
        tolerance=_tolerance(prepared, options),
        checked_samples=len(next(iter(prepared.checked.values()))),
        runs_sparse=converted.runs_sparse,
        obstacle=converted.obstacle,
        sparse_mode=checked.runtime,
        sparse_mode_error=checked.runtime_error,
        sparsity=tuple(subnet_sparsities(model)),
        model_sparsity=tuple(map(zero_share, prepared.models.values())),
        target_sparsity=tuple(target_sparsities(model)),
        dense_bytes=converted.dense_bytes,
        flops_share=converted.flops_share,
    )
    if not report.at_target:
        warnings.warn(
            f"The model exported to {path} keeps more weights than its target of "
            f"{', '.join(f'{share:.1%}' for share in report.target_sparsity)} zeros: training has "
            "not ended, or ended early (spfde_keras.settle drops the rest).",
            stacklevel=2,
        )
    return report


@dataclasses.dataclass(frozen=True)
class _Options:
    """How the file is to be written, as asked of `export_tflite`."""

    precision: str
    sparse: bool | None
    mobile: bool
    tolerance: float | None

    def __post_init__(self) -> None:
        checks.optional(checks.number, "tolerance", self.tolerance, above=0)
        checks.optional(checks.switch, "sparse", self.sparse)
        checks.switch("mobile", self.mobile)
        precision, sparse = checks.one_of("precision", self.precision, PRECISIONS), self.sparse
        if self.mobile and not PRECISIONS[precision].sparse:
            raise ValueError(
                "`precision` must be 'float32' or 'float16' with mobile=True: phones skip zeros in "
                f"floating point only. Received: {precision!r}"
            )
        if self.mobile and sparse is False:
            raise ValueError(
                "`sparse` must not be False with mobile=True: phones skip zeros only in a file "
                "with sparse weights."
            )
        if sparse and not PRECISIONS[precision].sparse:
            # The converter writes such files without complaint.
            raise ValueError(
                f"`sparse` must be False with precision={precision!r}: LiteRT cannot load most "
                "files with sparse int8 weights, and those it loads are neither faster nor "
                "smaller once compressed. Use precision='float16' with sparse=True, or int8 with "
                "sparse=False."
            )

    @property
    def encode(self) -> bool:
        """Whether to ask the converter for sparse weights."""
        return PRECISIONS[self.precision].sparse if self.sparse is None else self.sparse

    def others(self) -> list[tuple["_Options", str]]:
        """What else could be asked for, with the arguments to change, the nearest first."""
        found = [
            (dataclasses.replace(self, precision=other), f"precision={other!r}")
            for other in PRECISIONS[self.precision].instead
        ]
        if self.encode:
            words = "sparse=False and mobile=False" if self.mobile else "sparse=False"
            found.append((dataclasses.replace(self, sparse=False, mobile=False), words))
        return found

    @property
    def may_be_dense(self) -> bool:
        """Whether dense weights do where sparse ones are written wrong."""
        return self.sparse is None and not self.mobile


@dataclasses.dataclass(frozen=True)
class _Prepared:
    """What is converted, and what the file must agree with.

    Args:
        models: plain Keras models by signature.
        samples: arrays to calibrate with, by the names of the inputs in the file.
        checked: the first of them, on which the file is run.
        expected: for each signature the outputs of the Keras model on them.
    """

    models: dict[str, keras.Model]
    samples: dict[str, np.ndarray]
    checked: dict[str, np.ndarray]
    expected: dict[str, dict[str, np.ndarray]]

    @property
    def plain(self) -> keras.Model:
        """The first of the models; the others have the same layers."""
        return next(iter(self.models.values()))


@dataclasses.dataclass(frozen=True)
class _Converted:
    """How the weights of a file were written.

    Args:
        inspected: the inspector's report, if weights were to be sparse and could be.
        dense_because: str, why they are stored dense although sparse ones were asked for.
    """

    inspected: InspectReport | None = None
    dense_because: str = ""

    @property
    def is_sparse(self) -> bool:
        """Whether any weights are stored sparse."""
        return self.inspected is not None and acceptance.is_stored_sparse(self.inspected)

    @property
    def dense_bytes(self) -> int | None:
        """As in `ExportReport`: what sparse weights take, exchanged for all their entries."""
        if self.inspected is None or not self.is_sparse:
            return None
        sparse = {
            weights.buffer: weights.dense_bytes - weights.bytes  # which signatures may share
            for graph in self.inspected.graphs
            for weights in graph.weights
            if weights.stored != "dense"
        }
        return self.inspected.bytes + sum(sparse.values())

    @property
    def flops_share(self) -> float | None:
        """As in `ExportReport`."""
        if self.inspected is None or not self.is_sparse:
            return None
        graphs = self.inspected.graphs
        return sum(g.flops_sparse for g in graphs) / sum(g.flops_dense for g in graphs)

    @property
    def runs_sparse(self) -> bool:
        """As in `ExportReport`."""
        return self.is_sparse and self.inspected is not None and self.inspected.sparse_on_arm64

    @property
    def obstacle(self) -> str:
        """As in `ExportReport`."""
        if self.inspected is None or not self.is_sparse:
            return self.dense_because
        return acceptance.obstacle(self.inspected)


class _Checked(NamedTuple):
    """The largest error of a file, the sparse-mode runtime used and the error there."""

    error: float
    runtime: str | None
    runtime_error: float | None


def checked_path(path: str | os.PathLike[str]) -> pathlib.Path:
    """Returns the path if it can be written, so that nothing is converted in vain."""
    path = pathlib.Path(checks.path("path", path, "the path of a .tflite file"))
    if path.suffix != ".tflite":
        raise ValueError(f"`path` must end in .tflite. Received: {path}")
    if path.is_dir():
        raise ValueError(f"`path` must not be a folder. Received: {path}")
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise ValueError(
            f"`path` must be in an existing, writable folder. Received: {path} ({error.strerror})"
        ) from error
    return path


def _prepare(model: keras.Model, representative_data: Any) -> _Prepared:
    names = _signature_names(model)
    models = {name: densify(model, subnet=index) for index, name in enumerate(names)}
    plain = models[names[0]]
    exportable.check_inputs(plain)
    exportable.check_stateless(plain)
    if representative_data is None:
        samples = random_samples(plain)
    else:
        samples = collect(plain, representative_data)
    checked = {name: array[:VERIFICATION_SAMPLES] for name, array in samples.items()}
    exportable.check_takes_one(plain, checked)
    return _Prepared(
        models=models,
        samples=samples,
        checked=checked,
        expected={name: reference(model, checked, name) for name in names},
    )


def _convert(prepared: _Prepared, options: _Options, beside: pathlib.Path) -> _Converted:
    models = {name: in_float32(plain) for name, plain in prepared.models.items()}
    if options.mobile:
        models = {name: rewrite_for_phones(one, one.name) for name, one in models.items()}

    def write(sparse: bool) -> None:
        content = convert_models(models, options.precision, sparse, prepared.samples)
        beside.write_bytes(content)

    write(options.encode)
    if not options.encode:
        return _Converted()
    inspected = inspect_tflite(beside)
    miswritten = acceptance.miswritten(inspected)
    if miswritten and options.may_be_dense:
        write(sparse=False)
        return _Converted(dense_because=miswritten)
    return _Converted(inspected)


def _check(
    prepared: _Prepared, converted: _Converted, options: _Options, beside: pathlib.Path
) -> _Checked:
    if converted.inspected:
        acceptance.accept(converted.inspected, options.mobile)
    checked, expected = prepared.checked, prepared.expected
    tolerance = _tolerance(prepared, options)
    errors = [compare(beside, checked, expected[name], tolerance, name) for name in expected]
    runtime, runtime_error = None, None
    if converted.is_sparse:
        runtime, runtime_error = acceptance.run_in_sparse_mode(beside, checked, expected, tolerance)
    return _Checked(max(errors), runtime, runtime_error)


def _tolerance(prepared: _Prepared, options: _Options) -> float:
    if options.tolerance is not None:
        return options.tolerance
    return default_tolerance(prepared.plain, options.precision)


def _signature_names(model: keras.Model) -> list[str]:
    subnets = model.subnets if isinstance(model, SparseModel) else []
    if not subnets and len(held := target_sparsities(model)) > 1:
        raise ValueError(
            "`model` must not hold a model of several sub-nets inside of another. Received: one of "
            f"{len(held)}; put densify(inner, subnet=k) in its place, for one of them"
        )
    if len(set(subnets)) < len(subnets):
        raise ValueError(
            f"`model` must have sub-nets of different sparsity. Received: {subnets}; export them "
            "one by one, as densify(model, subnet=k)."
        )
    return subnets if len(subnets) > 1 else [DEFAULT_SIGNATURE]


def _explain(failure: Exception, prepared: _Prepared, options: _Options, path: pathlib.Path) -> str:
    text = str(failure) or type(failure).__name__
    missing = sorted(set(re.findall(r"Flex\w+|'tfl?\.\w+' op", text)))
    reason = f"LiteRT does not have {', '.join(missing)}" if missing else text.splitlines()[0]
    encoding = "sparse" if options.encode else "dense"
    return (
        f"The {options.precision} ({encoding}) export of {path} failed: {reason[:300]}. "
        f"{_remedy(prepared, options)}. No file was written."
    )


def _remedy(prepared: _Prepared, options: _Options) -> str:
    """Returns the first other way to write the file that works, found by trying."""
    failed = []
    for other, words in options.others():
        with tempfile.TemporaryDirectory() as folder:
            beside = pathlib.Path(folder, "model.tflite")
            try:
                _check(prepared, _convert(prepared, other, beside), other, beside)
            except Exception:
                failed.append(words)
            else:
                return f"Use {words} instead"
    verb = "fails" if len(failed) == 1 else "fail"
    return "Use layers that LiteRT has" + (
        f"; {', '.join(failed)} {verb}, too" if failed else " instead"
    )
