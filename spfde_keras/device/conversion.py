"""A program to the content of a TFLite file of LiteRT's built-in operators alone."""

import tempfile
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from spfde_keras import compat
from spfde_keras.device.program import Program
from spfde_keras.export.verification import quiet

Specs = dict[str, tf.TensorSpec]


def signatures(program: Program, y: tf.TensorSpec) -> dict[str, tuple[Any, Specs]]:
    """Returns the functions of a file, and what they take, by the names of signatures.

    Args:
        program: what the file computes.
        y: the labels of a batch.
    """
    prefix, tail = program.contents.parts
    batch, features = y.shape[0], tail.inputs[0]
    x = features if prefix is None else prefix.inputs[0]
    others = {"y": y, "rate": tf.TensorSpec((1,))}  # without axes, inputs crash ARM64's runtime
    found: dict[str, tuple[Any, Specs]] = {
        "infer": (program.infer, {"x": _batch(1, x)}),
        "train": (program.train, {"x": _batch(batch, x), **others}),
        "save": (program.state.save, {}),
        "restore": (program.state.restore, {"state": tf.TensorSpec((program.state.size,))}),
    }
    if prefix is not None:
        found["features"] = program.features, {"x": _batch(1, x)}
        stored = {"features": _batch(batch, features), **others}
        found["train_on_features"] = program.train_on_features, stored
    return found


def _batch(samples: int, tensor: Any) -> tf.TensorSpec:
    return tf.TensorSpec((samples, *tensor.shape[1:]), tensor.dtype)


def trace(program: Program, y: tf.TensorSpec) -> dict[str, Any]:
    """Returns the concrete functions of a program by the names of signatures."""
    with compat.scopes_of_layers():
        return {
            name: tf.function(function, autograph=False).get_concrete_function(
                **{k: tf.TensorSpec(s.shape, s.dtype, name=k) for k, s in specs.items()}
            )
            for name, (function, specs) in signatures(program, y).items()
        }


def convert(program: Program, traced: Mapping[str, Any], sparse: bool) -> bytes:
    """Returns the content of a file, not run yet.

    Args:
        program: what the file computes.
        traced: its functions, as `trace` returns them.
        sparse: bool, whether frozen weights are stored sparse where that is smaller.

    Raises:
        ConverterError: if LiteRT lacks an operator.
    """
    with quiet(), tempfile.TemporaryDirectory() as folder:
        # SavedModel would trace the gradients of gradients, which need operators LiteRT lacks.
        options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        tf.saved_model.save(program.state, folder, signatures=dict(traced), options=options)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(traced))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        converter.experimental_enable_resource_variables = True
        converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY] if sparse else []
        return converter.convert()
