"""Whether models compute what they should, seen on a random batch."""

import math
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from spfde_keras import compat, kernels
from spfde_keras.masking import Mask, find_masks
from spfde_keras.rebuilding import as_functional

# Where an input has no fixed size, sizes are tried until the model takes one.
_SIZES = (8, 32, 64, 224)
_TOLERANCES = {"float16": 3e-2, "bfloat16": 1e-1}


def check_same_outputs(made: keras.Model, model: keras.Model) -> None:
    """Raises an error if a model made of another one does not compute the same.

    What cannot be called on a random batch, or is random itself, is not compared.

    Args:
        made: the new model.
        model: the model it was made of.

    Raises:
        RuntimeError: if the outputs on one random sample differ.
    """
    sample = _usable_sample(model)
    if sample is not None:
        _compare(made, model, sample)


def check_sparse(made: keras.Model, model: keras.Model) -> None:
    """As `check_same_outputs`, while all masks are open; also, that masks hold wherever they can.

    Args:
        made: the new model, with masks.
        model: the model it was made of.

    Raises:
        RuntimeError: if the outputs on one random sample differ.
        ValueError: if they change with weights that no mask keeps, as those of tied weights do.
    """
    sample = _usable_sample(model)
    if sample is not None:
        _compare(made, model, sample)
        _check_masks(made, sample.batch)


class _Sample(NamedTuple):
    """A batch of one random sample, and what a model makes of it."""

    batch: Any
    outputs: list[np.ndarray]


def _compare(made: keras.Model, model: keras.Model, sample: _Sample) -> None:
    error = _error(_own_outputs(made, model, sample.batch), sample.outputs)
    if not error <= _tolerance(model):
        raise RuntimeError(
            f"The model made of {model.name!r} does not compute the same: on a random sample its "
            f"outputs differ by {error:.1e} of their scale. A layer keeps state that is not in "
            "its weights, or changes when it is called; please report it with the model."
        )


def _own_outputs(made: keras.Model, model: keras.Model, batch: Any) -> list[np.ndarray]:
    """The outputs of a model; an error if it reads weights of another one that are not its own."""
    with tf.GradientTape() as tape:
        try:
            outputs = _outputs(made, batch)
        except Exception as error:
            reason = str(error).strip().splitlines()[0]
            raise RuntimeError(
                f"The model made of {model.name!r} cannot be called: {reason}. A layer in it needs "
                "what has been replaced; leave it dense, or report it with the model."
            ) from error
    own = {id(variable.value) for variable in made.variables}
    read = {id(variable) for variable in tape.watched_variables()}
    foreign = [v.path for v in model.variables if id(v.value) in read - own]
    if foreign:
        raise ValueError(
            "`model` must use weights in layers of its graph, or in attributes of layers, where a "
            "copy can follow; functions that hold them (Lambda, tf.function, weakref, ...) cannot "
            f"be copied. Received: a model that also uses {', '.join(foreign[:3])} elsewhere"
        )
    return outputs


def _check_masks(made: keras.Model, batch: Any) -> None:
    """Raises an error if a kernel with a mask is also used without it."""
    masks = find_masks(made)
    if not _leak(made, masks, batch):
        return
    leaking = [mask.kernel_path for mask in masks if _leak(made, [mask], batch)]
    raise ValueError(
        "`dense` must hold layers whose kernels are used elsewhere as well, since they are masked "
        f"in calls of their layer only. Received: a model that uses {', '.join(leaking)} "
        "elsewhere, too"
    )


def _leak(model: keras.Model, masks: list[Mask], batch: Any) -> bool:
    """Whether outputs depend on weights that no mask keeps, half of them chosen for the test."""
    variables = [variable for mask in masks for variable in (mask.kernel, mask.values)]
    before = [tf.convert_to_tensor(variable.value) for variable in variables]
    rng = np.random.default_rng(0)
    try:
        for mask in masks:
            half = np.broadcast_to(_half(rng, mask.layout.shape), mask.values.shape)
            mask.change(half, False)
        expected = _outputs(model, batch)
        for mask in masks:
            kept = ops.any(mask.values.value, axis=0)
            one = ops.ones((), mask.kernel.dtype)
            mask.kernel.assign(ops.where(kept, mask.kernel.value, one))
        return _error(_outputs(model, batch), expected) > _tolerance(model)
    finally:
        for variable, values in zip(variables, before, strict=True):
            variable.assign(values)


def _half(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Returns a random bool array; eight entries from a byte, as a kernel may be large."""
    count = math.prod(shape)
    drawn = np.frombuffer(rng.bytes(-(-count // 8)), np.uint8)
    return np.unpackbits(drawn, count=count).view(bool).reshape(shape)


def _usable_sample(model: keras.Model) -> _Sample | None:
    """A random sample that a model takes, None if there is none, or the model is random."""
    inputs = as_functional(model).input
    for size in _SIZES:
        batch = _random_batch(inputs, size)
        try:
            once, again = (_outputs(model, batch) for _ in range(2))
        except Exception:
            continue  # a size, or a kind of input, that the model itself does not take
        return None if _error(again, once) else _Sample(batch, once)
    return None


def _random_batch(inputs: Any, size: int) -> Any:
    rng = np.random.default_rng(0)

    def values(tensor: keras.KerasTensor) -> np.ndarray:
        shape = [1 if tensor.shape[0] is None else tensor.shape[0]]
        shape += [size if extent is None else extent for extent in tensor.shape[1:]]
        if tensor.dtype == "string":
            return np.full(shape, "a")
        high = 1.0 if "float" in tensor.dtype else 2.0
        return rng.uniform(high=high, size=shape).astype(tensor.dtype)

    return keras.tree.map_structure(values, inputs)


def _outputs(model: keras.Model, batch: Any) -> list[np.ndarray]:
    batch = keras.tree.map_structure(keras.ops.convert_to_tensor, batch)
    # Nothing is measured for a single sample, and no state of the model changes.
    with kernels.disabled(), keras.StatelessScope():
        outputs = keras.tree.flatten(model(batch, training=False))
    return [np.asarray(keras.ops.convert_to_numpy(x), "float64") for x in outputs]


def _error(got: list[np.ndarray], expected: list[np.ndarray]) -> float:
    errors = [0.0]
    for one, other in zip(got, expected, strict=True):
        if one.shape != other.shape or (np.isnan(one) != np.isnan(other)).any():
            return float("inf")
        known = ~np.isnan(other)
        scale = np.abs(other[known]).max(initial=1e-12)
        with np.errstate(invalid="ignore"):
            differences = np.where(one[known] == other[known], 0, one[known] - other[known])
        errors.append(float(np.abs(differences).max(initial=0.0) / scale))
    return max(errors)


def _tolerance(model: keras.Model) -> float:
    dtypes = {layer.compute_dtype for layer in compat.all_layers(model)}
    return max((_TOLERANCES.get(dtype, 1e-3) for dtype in dtypes), default=1e-3)
