"""Keras models to the content of a TFLite file, one signature for each."""

import dataclasses
import functools
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from spfde_keras.export.verification import quiet


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
    optimizations: tuple[Any, ...] = (tf.lite.Optimize.DEFAULT,)
    target: dict[str, Any] = dataclasses.field(default_factory=dict)


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

# A Keras model that computes in half precision itself is that much further from its file.
_HALF_TOLERANCE = {"float16": 1e-2, "bfloat16": 1e-1}

# The signature of a file with only one.
DEFAULT_SIGNATURE = "serving_default"


def tolerance(model: keras.Model, precision: str) -> float:
    """Returns the largest error a file may have, as a share of the output's scale.

    Args:
        model: the Keras model it is made from.
        precision: one of `PRECISIONS`.
    """
    halves = [_HALF_TOLERANCE[dtype] for dtype in _half_dtypes(model)]
    return max([PRECISIONS[precision].tolerance, *halves])


def _half_dtypes(model: keras.Model) -> set[str]:
    return {layer.compute_dtype for layer in model._flatten_layers()} & _HALF_TOLERANCE.keys()


def in_float32(model: keras.Model) -> keras.Model:
    """Returns the model computing in float32, since LiteRT has no kernels for half precision."""
    if not _half_dtypes(model):
        return model

    def replaced(config: Any) -> Any:
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


def convert_models(
    models: Mapping[str, keras.Model],
    precision: str,
    sparse: bool,
    samples: Mapping[str, np.ndarray],
) -> bytes:
    """Returns the content of a file, not run yet.

    Args:
        models: functional models of the same inputs, in float32, by signature.
        precision: one of `PRECISIONS`.
        sparse: bool, whether to store weights sparse where that is smaller.
        samples: arrays (samples, *input shape) by the names of the inputs in the file; they
            give the ranges of activations in "int8_full".
    """
    # Without a signature Keras leaves the batch open, and delegates refuse dynamic shapes.
    specs = [
        keras.InputSpec(shape=(1, *array.shape[1:]), dtype=array.dtype.name, name=name)
        for name, array in samples.items()
    ]
    archive = keras.export.ExportArchive()
    for name, model in models.items():
        archive.track(model)
        archive.add_endpoint(
            # Keras also saves its first endpoint as serving_default.
            "serve" if name == DEFAULT_SIGNATURE else name,
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


def _configure(converter: Any, precision: str, sparse: bool) -> None:
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


def _calibration(
    models: Iterable[str], samples: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Each sample by itself, for each of the signatures, whose activations differ."""
    for name in models:
        for i in range(len(next(iter(samples.values())))):
            yield name, {key: array[i : i + 1] for key, array in samples.items()}
