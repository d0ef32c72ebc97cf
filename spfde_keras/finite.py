"""Training that stops at the first loss that is not finite, and says where it comes from."""

import contextlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from spfde_keras import compat, kernels
from spfde_keras.sieve.identified import Identified, strip_ids

_NAMED = 5  # samples


class NotFinite(RuntimeError):
    """Training has come to a loss, or to weights, that are NaN or infinite."""


class Guard:
    """Ends a step whose loss is not finite before it changes a weight.

    It is part of the compiled step, so that nothing waits for results but what depends on them.
    """

    def __init__(self) -> None:
        self.batch: Any = None
        """The batch whose loss was not finite, None as long as there was none."""
        self._step = 0

    def __call__(self, loss: tf.Tensor, batch: Any, steps: keras.Variable) -> tf.Tensor:
        """Returns the loss; gradients of it exist only if it is finite.

        Args:
            loss: scalar.
            batch: what it is the loss of.
            steps: the optimizer's count of those before this one.
        """
        leaves = [leaf for leaf in tf.nest.flatten(batch, True) if leaf is not None]
        # What TensorFlow keeps of a step, functions in Python and gradients of one's own, must not
        # refer to its tensors: each step that was traced would stay in memory.
        structure = tf.nest.map_structure(_spec, batch)

        def fail(before: tf.Tensor, *values: tf.Tensor) -> None:
            self._step, given = int(before) + 1, iter(values)
            flat = [
                None if spec is None else next(given) for spec in tf.nest.flatten(structure, True)
            ]
            self.batch = tf.nest.pack_sequence_as(structure, flat, expand_composites=True)
            raise NotFinite("The loss is not finite")

        def passed() -> tf.Tensor:
            return tf.ones_like(loss)

        def failed() -> tf.Tensor:
            # Since they are read here, the optimizer waits before it counts on.
            with tf.control_dependencies([tf.py_function(fail, [steps.value, *leaves], [])]):
                return passed()

        # A factor of each gradient, so that none exists before it does.
        gate = tf.cond(tf.reduce_all(tf.math.is_finite(loss)), passed, failed)
        return loss * tf.stop_gradient(gate)

    def explain(self, model: keras.Model) -> NotFinite:
        """Returns the error that names the step, and what in it is not finite."""
        batch, self.batch = self.batch, None
        found = layer_of_weights(model) or _where(model, batch)
        return NotFinite(
            f"Training stops at step {self._step}, whose loss is NaN or infinite: {found}. What "
            "is trained is as the step before left it"
        )


def check_epoch(model: keras.Model, epoch: int, logs: Mapping[str, Any]) -> None:
    """Raises `NotFinite` for an epoch that has left a loss or weights that are not finite.

    Args:
        model: the model.
        epoch: int, counted from 0.
        logs: of the epoch.
    """
    found = layer_of_weights(model)
    if found is None and np.all(np.isfinite(np.asarray(logs.get("loss", 0.0), "float64"))):
        return
    raise NotFinite(
        f"Training stops after epoch {epoch + 1}, which has come to values that are NaN or "
        f"infinite: {found or 'its loss'}"
    )


def layer_of_weights(model: keras.Model) -> str | None:
    """Names the first layer whose trained weights are not finite; None if there is none."""
    for layer in compat.all_layers(model):
        for variable in compat.own_trainable(layer):
            if not _is_finite(variable.value):
                return f"weights of layer {layer.name!r}, {variable.path!r}"
    return None


def _where(model: keras.Model, batch: Any) -> str:
    """Says what is the first in a batch, or made of it, that is not finite."""
    x, y, weights = keras.utils.unpack_x_y_sample_weight(batch)
    ids = x.sample_id if isinstance(x, Identified) else None
    x = strip_ids(x)
    for name, values in (("inputs", x), ("labels", y), ("sample weights", weights)):
        for value in tf.nest.flatten(values, expand_composites=True):
            if value is not None and not _is_finite(value):
                return f"the {name} of {_samples(value, ids)}"
    with contextlib.suppress(Exception):  # of what cannot be run layer by layer
        if found := _first_output(model, x):
            return f"outputs of layer {found!r}, the first of such"
    return "the loss itself, since inputs, labels and weights are finite"


def _first_output(model: keras.Model, x: Any) -> str | None:
    found: list[str] = []

    def watched(operation: keras.Operation) -> Callable:
        options = {}
        if "training" in inspect.signature(operation.call).parameters:
            options["training"] = True

        def call(*args: Any, **kwargs: Any) -> Any:
            outputs = operation(*args, **kwargs, **options)
            if not found and not all(map(_is_finite, tf.nest.flatten(outputs))):
                found.append(operation.name)
            return outputs

        return call

    # Moving statistics stay as they are, and only TensorFlow's operators compute NaN everywhere.
    with keras.StatelessScope(), kernels.disabled():
        compat.run_graph(model, compat.standardized_inputs(model, x), watched)
    return found[0] if found else None


def _samples(value: tf.Tensor, ids: tf.Tensor | None) -> str:
    flat = np.asarray(keras.ops.convert_to_numpy(value), "float64").reshape(len(value), -1)
    bad = np.flatnonzero(~np.isfinite(flat).all(axis=1))
    kind = "sample" if ids is None else "sample id"
    where = "" if ids is not None else " of the batch"
    named = bad if ids is None else np.asarray(ids)[bad]
    text = ", ".join(map(str, named[:_NAMED].tolist())) + (", ..." if len(named) > _NAMED else "")
    return f"{kind} {text}{where}"


def _spec(leaf: Any) -> tf.TypeSpec | None:
    return None if leaf is None else tf.type_spec_from_value(leaf)


def _is_finite(value: Any) -> bool:
    value = tf.convert_to_tensor(value)
    return not value.dtype.is_floating or bool(tf.reduce_all(tf.math.is_finite(value)))
