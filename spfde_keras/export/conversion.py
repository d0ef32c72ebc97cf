"""Keras models to the content of a TFLite file, one signature for each."""

import functools
import tempfile
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from spfde_keras import compat
from spfde_keras.export.converter import PRECISIONS, Died, convert, convert_apart
from spfde_keras.export.inputs import as_structured
from spfde_keras.export.naming import TRACED, input_names, named_outputs
from spfde_keras.export.verification import quiet

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
    halves = [_HALF_TOLERANCE[dtype] for dtype in _other_floats(model) & _HALF_TOLERANCE.keys()]
    return max([PRECISIONS[precision].tolerance, *halves])


def _other_floats(model: keras.Model) -> set[str]:
    dtypes = {layer.compute_dtype for layer in compat.all_layers(model)}
    return dtypes & {"float64", *_HALF_TOLERANCE}


def in_float32(model: keras.Model) -> keras.Model:
    """Returns the model computing in float32, since LiteRT has few kernels for other floats."""
    if not _other_floats(model):
        return model

    def replaced(config: Any) -> Any:
        if isinstance(config, dict):
            if config.get("class_name") == "DTypePolicy":
                other = config["config"]["name"].endswith(("float16", "float64"))
                return "float32" if other else config
            if config.get("dtype") == "float64":  # of an input, or in the arguments of a cast
                config = {**config, "dtype": "float32"}
            return {key: replaced(value) for key, value in config.items()}
        if isinstance(config, list | tuple):
            return type(config)(replaced(value) for value in config)
        return config

    config = replaced(keras.saving.serialize_keras_object(model))
    twin = keras.saving.deserialize_keras_object(config, safe_mode=False)
    twin.set_weights(model.get_weights())
    for layer in compat.all_layers(twin):
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # it normalizes by what is made of its weights here
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

    Raises:
        RuntimeError: if the conversion ends the process that it runs in, which is not this one.
    """
    first = next(iter(models.values()))
    dtypes = {n: t.dtype for n, t in zip(input_names(first), first.inputs, strict=True)}
    samples = {name: array.astype(dtypes[name]) for name, array in samples.items()}
    # Without a signature Keras leaves the batch open, and delegates refuse dynamic shapes.
    specs = {
        name: keras.InputSpec(shape=(1, *array.shape[1:]), dtype=dtypes[name], name=name)
        for name, array in samples.items()
    }
    with quiet(), tempfile.TemporaryDirectory() as folder:
        with compat.channels_last_bias(), compat.scopes_of_layers():
            archive = keras.export.ExportArchive()
            for name, model in models.items():
                archive.track(model)
                archive.add_endpoint(
                    # Keras also saves its first endpoint as serving_default.
                    "serve" if name == DEFAULT_SIGNATURE else name,
                    functools.partial(_call, model),
                    input_signature=[specs],
                )
            archive.write_out(folder, verbose=False)
        write = convert_apart if precision == "int8_full" else convert
        try:
            return write(folder, models, precision, sparse, samples)
        except Died as failure:
            raise RuntimeError(f"{failure}{_suspects(models.values())}") from failure


@tf.autograph.experimental.do_not_convert  # which would leave its code in the temporary folder
def _call(model: keras.Model, inputs: Mapping[str, Any]) -> dict[str, Any]:
    with tf.name_scope(TRACED):
        return named_outputs(model(as_structured(model, inputs), training=False))


def _suspects(models: Iterable[keras.Model]) -> str:
    """Names the layers whose loops calibration does not survive."""
    found = {
        layer.name: type(layer).__name__
        for model in models
        for layer in compat.all_layers(model)
        if isinstance(layer, keras.layers.RNN)
    }
    listed = ", ".join(f"{name!r} ({kind})" for name, kind in found.items())
    return f", as loops without unroll=True make it do: {listed}" if found else ""
