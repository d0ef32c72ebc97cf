"""Keras models to TFLite files, one signature for each sub-net."""

import dataclasses
import functools
import gzip
import os
import pathlib
import re
import tempfile
import uuid
from collections.abc import Iterable, Iterator

import keras
import numpy as np
import tensorflow as tf

from spfde_keras.export.verify import compare, input_names, named_inputs, quiet, reference
from spfde_keras.sparsify import densify
from spfde_keras.training import SparseModel

CALIBRATION_SAMPLES = 256  # TensorFlow's guide asks for 100 to 500
VERIFICATION_SAMPLES = 16


@dataclasses.dataclass(frozen=True)
class Precision:
    """How a file stores and computes, and how far it may be from the Keras model.

    Args:
        tolerance: float, the largest accepted error as a share of the output's scale.
        sparse: bool, whether weights can be stored sparse.
        remedy: str, what to use when this one fails.
        optimizations: of the TFLite converter.
        target: dict, attributes of the converter's `target_spec`.
    """

    tolerance: float
    sparse: bool
    remedy: str
    optimizations: tuple = (tf.lite.Optimize.DEFAULT,)
    target: dict = dataclasses.field(default_factory=dict)


# The tolerances tell a broken file, which is off by its whole scale, from rounding:
# - float32: sums taken in another order and folded batch normalisation, ~1e-6 a layer;
# - float16: weights rounded to 11 bits, 5e-4 each, growing with the root of the depth;
# - int8_dynamic: weights, and the inputs of each layer, rounded to 8 bits, up to 4e-3 each;
# - int8_full: every activation as well, in ranges seen in calibration, which clip.
# For int8, one sample near a decision boundary moves a softmax by several per cent.
PRECISIONS = {
    "float32": Precision(1e-4, True, "sparse=False", optimizations=()),
    "float16": Precision(
        1e-2, True, "precision='float32'", target={"supported_types": [tf.float16]}
    ),
    "int8_dynamic": Precision(0.2, False, "precision='float16'"),
    "int8_full": Precision(
        0.3,
        False,
        "precision='int8_dynamic' or 'float16'",
        target={"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]},
    ),
}

# A Keras model that itself computes in half precision is that much further from its file.
_HALF_TOLERANCE = {"float16": 1e-2, "bfloat16": 1e-1}

# The signature of a file of one.
_DEFAULT_SIGNATURE = "serving_default"


@dataclasses.dataclass(frozen=True)
class ExportReport:
    """What `export_tflite` wrote.

    Args:
        path: the file.
        precision: one of `PRECISIONS`.
        sparse: bool, whether weights are stored sparse where that is smaller.
        bytes: int, size of the file.
        gzip_bytes: int, its size after gzip, as app stores ship it.
        signatures: the names by which the file is run: of the sub-nets, where there are several.
        max_error: float, largest error of any signature against the Keras model, a share of the
            output's scale.
        tolerance: float, the error it was allowed.
        checked_samples: int, samples that both were run on.
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

    def __str__(self):
        encoding = "sparse" if self.sparse else "dense"
        return (
            f"{self.path}: {self.precision}, {encoding}, {self.bytes:,} bytes "
            f"({self.gzip_bytes:,} after gzip), {', '.join(self.signatures)}: largest error "
            f"{self.max_error:.1e} of the output's scale on {self.checked_samples} samples"
        )


def export_tflite(
    model: keras.Model,
    path,
    precision: str = "float32",
    sparse: bool | None = None,
    representative_data=None,
    tolerance: float | None = None,
) -> ExportReport:
    """Writes a model's TFLite file; no file gets its name unless it agrees with the model.

    Masks are folded into the kernels. The file takes one sample at a time, in float32 whatever
    `precision` is. It is loaded in LiteRT and compared with the Keras model first; when
    anything fails, an older file at `path` stays as it was.

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
            the precision can, which is float32 and float16.
        representative_data: array (samples, *input shape), or an iterable or dataset of such
            batches, x or (x, y). "int8_full" takes the ranges of activations from its first
            256 samples; any precision is verified on its first 16 instead of random ones.
        tolerance: float, the largest error as a share of the output's scale, instead of the
            precision's own in `PRECISIONS`.

    Returns:
        An `ExportReport`; print it.

    Raises:
        ValueError: if an argument is wrong; nothing has been converted then.
        RuntimeError: if the file cannot be made, or loaded, or a signature is not its model.

    Example:

    >>> report = export_tflite(model, "model.tflite", precision="float16")
    >>> report.max_error <= report.tolerance
    True
    """
    sparse = _resolve_sparse(precision, sparse)
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
        allowed = _tolerance(plain, precision) if tolerance is None else tolerance
        try:
            models = {name: _in_float32(plain) for name, plain in models.items()}
            temporary.write_bytes(_convert(models, precision, sparse, samples))
            errors = [compare(temporary, checked, expected[name], allowed, name) for name in names]
        except Exception as failure:
            raise RuntimeError(_explain(failure, precision, sparse, path)) from failure
        content = temporary.read_bytes()
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return ExportReport(
        path=str(path),
        precision=precision,
        sparse=sparse,
        bytes=len(content),
        gzip_bytes=len(gzip.compress(content)),
        signatures=tuple(names),
        max_error=max(errors),
        tolerance=allowed,
        checked_samples=len(next(iter(checked.values()))),
    )


def _resolve_sparse(precision: str, sparse: bool | None) -> bool:
    if precision not in PRECISIONS:
        raise ValueError(f"`precision` must be one of {list(PRECISIONS)}. Received: {precision!r}")
    if sparse and not PRECISIONS[precision].sparse:
        # It converts without a word, and LiteRT then cannot load the file.
        raise ValueError(
            f"`sparse` must be False with precision={precision!r}: LiteRT has no sparse int8. "
            "Use precision='float16' with sparse=True, or int8 with sparse=False."
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
    return subnets if len(subnets) > 1 else [_DEFAULT_SIGNATURE]


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


def _tolerance(model: keras.Model, precision: str) -> float:
    halves = [_HALF_TOLERANCE[dtype] for dtype in _half_dtypes(model)]
    return max([PRECISIONS[precision].tolerance, *halves])


def _half_dtypes(model: keras.Model) -> set[str]:
    return {layer.compute_dtype for layer in model._flatten_layers()} & _HALF_TOLERANCE.keys()


def _in_float32(model: keras.Model) -> keras.Model:
    """Returns the model computing in float32, since LiteRT has no kernels for half precision."""
    if not _half_dtypes(model):
        return model

    def replaced(config):
        if isinstance(config, dict):
            if config.get("class_name") == "DTypePolicy":
                return "float32" if config["config"]["name"].endswith("float16") else config
            return {key: replaced(value) for key, value in config.items()}
        if isinstance(config, list | tuple):
            return type(config)(replaced(value) for value in config)
        return config

    config = replaced(keras.saving.serialize_keras_object(model))
    twin = keras.saving.deserialize_keras_object(config, safe_mode=False)
    twin.set_weights(model.get_weights())
    return twin


def _convert(models: dict, precision: str, sparse: bool, samples: dict) -> bytes:
    # Without a signature Keras leaves the batch open, and delegates refuse dynamic shapes.
    specs = [
        keras.InputSpec(shape=(1, *array.shape[1:]), dtype=array.dtype.name, name=name)
        for name, array in samples.items()
    ]
    archive = keras.export.ExportArchive()
    for name, model in models.items():
        archive.track(model)
        archive.add_endpoint(
            # Keras saves its first endpoint as serving_default, too.
            "serve" if name == _DEFAULT_SIGNATURE else name,
            functools.partial(model.__call__, training=False),
            input_signature=[keras.tree.pack_sequence_as(model.input, specs)],
        )
    with quiet(), tempfile.TemporaryDirectory() as folder:
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(models))
        _configure(converter, precision, sparse)
        if precision == "int8_full":
            converter.representative_dataset = lambda: _calibration(models, samples)
        return converter.convert()


def _configure(converter, precision: str, sparse: bool) -> None:
    # As Keras' own LiteRT export does.
    converter.experimental_enable_resource_variables = True
    converter.target_spec.supported_ops = [
        tf.lite.OpsSet.TFLITE_BUILTINS,
        tf.lite.OpsSet.SELECT_TF_OPS,
    ]
    for attribute, value in PRECISIONS[precision].target.items():
        setattr(converter.target_spec, attribute, value)
    sparsity = (tf.lite.Optimize.EXPERIMENTAL_SPARSITY,) if sparse else ()
    converter.optimizations = [*PRECISIONS[precision].optimizations, *sparsity]


def _calibration(models: dict, samples: dict) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Every sample, alone, for each of the signatures, whose activations differ."""
    for name in models:
        for i in range(len(next(iter(samples.values())))):
            yield name, {key: array[i : i + 1] for key, array in samples.items()}


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
