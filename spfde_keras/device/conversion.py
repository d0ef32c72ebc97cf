"""A program to the content of a TFLite file of LiteRT's built-in operators alone."""

import functools
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from spfde_keras import compat
from spfde_keras.device import shares
from spfde_keras.device.app import staged
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
    features = tail.inputs[0]
    x = features if prefix is None else prefix.inputs[0]
    one, batch = {"x": _batch(1, x)}, {"x": _batch(y.shape[0], x)}
    known = {"features": _batch(y.shape[0], features)}
    state = {"state": tf.TensorSpec((program.state.size,))}
    found: dict[str, tuple[Any, Specs]] = {
        "infer": (program.infer, one),
        "save": (program.state.save, {}),
        "restore": (program.state.restore, state),
    }
    if prefix is not None:
        found["features"] = program.features, one
    # Inputs without axes crash ARM64's runtime.
    blocks = tf.TensorSpec((len(program.stages.blocks),))
    others = {"y": y, "rate": blocks}
    if program.sieving is not None:
        others["sample"] = tf.TensorSpec((y.shape[0],), tf.int32)
    for stage in program.stages.numbers:
        train = functools.partial(program.train, stage)
        found[staged("train", stage)] = (
            functools.partial(_of_inputs, program, train),
            batch | others,
        )
        if prefix is not None:
            found[staged("train_on_features", stage)] = train, known | others
        if program.mutations is not None:
            found[staged("mutate", stage)] = _mutate(program, stage, y, blocks, known)
    if program.sieving is not None and program.sieving.removed:
        numbers = program.sieving.samples, program.sieving.removed
        specs = {
            k: tf.TensorSpec((n,)) for k, n in zip(("random", "shuffle"), numbers, strict=True)
        }
        found["sieve"] = program.sieve, specs
        found["member"] = program.member, {}
    return found


def _of_inputs(program: Program, train: Callable, x: tf.Tensor, **others: tf.Tensor) -> Any:
    return train(program.of_prefix(x), **others)


def _mutate(
    program: Program, stage: int, y: tf.TensorSpec, blocks: tf.TensorSpec, known: Specs
) -> tuple[Any, Specs]:
    mutations = program.mutations
    assert mutations is not None
    specs = {"share": blocks, "random": tf.TensorSpec((mutations.numbers,))}
    mutate = functools.partial(program.mutate, stage)
    if not shares.gradient_weight(mutations.updater):
        return mutate, specs
    if program.contents.parts.prefix is not None:
        return mutate, {**known, "y": y, **specs}

    def of_inputs(x: tf.Tensor, **others: tf.Tensor) -> Any:
        return mutate(features=x, **others)

    return of_inputs, {"x": known["features"], "y": y, **specs}


def _batch(samples: int, tensor: Any) -> tf.TensorSpec:
    return tf.TensorSpec((samples, *tensor.shape[1:]), tensor.dtype)


def trace(program: Program, y: tf.TensorSpec) -> dict[str, Any]:
    """Returns the concrete functions of a program by the names of signatures."""
    with compat.scopes_of_layers():
        return {
            name: tf.function(_sized(function), autograph=False).get_concrete_function(
                **{k: tf.TensorSpec(s.shape, s.dtype, name=k) for k, s in specs.items()}
            )
            for name, (function, specs) in signatures(program, y).items()
        }


def _sized(function: Callable) -> Callable:
    """Returns a function whose inputs of another size are an error of the runtime.

    Interpreters take them without a word, and spread or cut what does not fit.
    """

    def compute(**inputs: tf.Tensor) -> Any:
        return function(**{name: _of_its_size(tensor) for name, tensor in inputs.items()})

    return compute


def _of_its_size(tensor: tf.Tensor) -> tf.Tensor:
    """The same tensor, through an operator that has its size among its constants."""
    count, *rest = tensor.shape
    if count > 1 and not rest:
        return tf.concat(tf.split(tensor, [count - 1, 1]), 0)
    # Moved by one, and back: the converter drops what moves nothing. It stores `count` numbers.
    moved = tf.scatter_nd(tf.range(1, count + 1)[:, None], tensor, [count + 1, *rest])
    return tf.slice(moved, [1] + [0] * len(rest), tensor.shape)


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
