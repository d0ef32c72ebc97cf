"""Whether a model, an optimizer and a loss can become a file that trains."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from spfde_keras import checks, compat, compat_updates, own_classes
from spfde_keras.device.sieving import Sieving
from spfde_keras.device.state import LARGEST
from spfde_keras.export import exportable
from spfde_keras.rebuilding import as_functional
from spfde_keras.sieve import correctness
from spfde_keras.training import SparseModel

_SPARSE = (keras.losses.sparse_categorical_crossentropy,)


def checked_graph(model: keras.Model) -> keras.Model:
    """Returns the graph of a model, not compiled, if it can become a file that trains.

    Args:
        model: of any class; its graph has its layers.

    Raises:
        ValueError: says what the model must be.
    """
    checks.instance("model", model, keras.Model, "a keras.Model")
    lost = [name for name in own_classes.overrides(type(model)) if name != "call"]
    if lost:
        raise ValueError(
            "`model` must be trained as Keras trains it. Received: "
            f"{type(model).__name__}, which overrides {', '.join(lost)}"
        )
    if isinstance(model, SparseModel) and len(model.subnets) > 1:
        raise ValueError(
            f"`model` must have one sub-net. Received: {', '.join(model.subnets)}; "
            "densify(model, subnet=k) is one of them, without its mask."
        )
    graph = as_functional(model)
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise ValueError(
            "`model` must have one input and one output. Received: "
            f"{len(graph.inputs)} inputs and {len(graph.outputs)} outputs"
        )
    exportable.check_inputs(graph)
    exportable.check_stateless(graph)
    halves = {x.name: x.compute_dtype for x in compat.all_layers(model)}
    halves = {name: dtype for name, dtype in halves.items() if dtype != "float32"}
    if halves:
        raise ValueError(f"`model` must compute in float32. Received: {halves}")
    if not model.trainable_variables:
        raise ValueError("`model` must have weights that are trained. Received: none")
    return graph


def optimizers_like(optimizer: Any) -> Callable[[], keras.optimizers.Optimizer]:
    """Returns what makes new optimizers of the settings of one.

    Args:
        optimizer: a Keras optimizer or its name.

    Raises:
        ValueError: if it is none, wraps others, or has a schedule of its own.
    """
    rule = "a Keras optimizer that wraps no other, or its name"
    try:
        known = keras.optimizers.get(optimizer)
    except (ValueError, TypeError, KeyError):
        checks.refuse("optimizer", rule, optimizer)
    wraps = keras.optimizers.LossScaleOptimizer, keras.optimizers.MultiOptimizer
    if not isinstance(known, keras.optimizers.Optimizer) or isinstance(known, wraps):
        checks.refuse("optimizer", rule, optimizer)
    config = known.get_config()
    rate = config["learning_rate"]
    if not isinstance(rate, (int, float)):
        raise ValueError(
            "`optimizer` must have a number as its learning rate, since the app gives `train` the "
            f"rate of each update. Received: {known.learning_rate!r}"
        )
    branches = [
        name
        for name in ("gradient_accumulation_steps", "use_ema")  # averages end up nowhere
        if config.get(name)
    ]
    if branches:
        raise ValueError(
            "`optimizer` must do the same in each update. Received: "
            f"{type(known).__name__} with {' and '.join(branches)}"
        )
    if compat_updates.leaves_out_of_decay(known):
        raise ValueError(
            "`optimizer` must let all weights decay, or none. Received: "
            f"{type(known).__name__} after exclude_from_weight_decay"
        )
    return lambda: type(known).from_config(config)


def labels_of(model: keras.Model, loss: Any, batch_size: int) -> tf.TensorSpec:
    """Returns what labels of a batch must be.

    Args:
        model: of one output.
        loss: as `Model.compile` takes it.
        batch_size: int.

    Raises:
        ValueError: if it is no loss.
    """
    try:
        known = keras.losses.get(loss)
    except (ValueError, TypeError):
        known = None
    if not callable(known):
        checks.refuse("loss", "a Keras loss, its name, or a function (y_true, y_pred)", loss)
    function, _ = compat.wrapped_loss(known) or (known, {})
    shape = model.outputs[0].shape[1:]
    if function in _SPARSE:
        return tf.TensorSpec((batch_size, *shape[:-1]), tf.int32)
    return tf.TensorSpec((batch_size, *shape), tf.float32)


def judge_of(model: keras.Model, loss: Any) -> correctness.Judge | None:
    """Returns the function (y, outputs) -> bool (batch,); None where that is not defined."""
    try:
        return correctness.judge(loss, model.outputs)
    except ValueError:
        return None


def sieving_of(
    judge: correctness.Judge | None, samples: int, sieve: float, exchange: float, seed: int
) -> Sieving | None:
    """Returns what is known of samples on a device; None if they are not counted.

    Args:
        judge: says which samples are right; None if nothing does.
        samples, sieve, exchange, seed: as `export_trainable_tflite` takes them.

    Raises:
        ValueError: if one of them is out of range, or samples cannot be judged.
    """
    checks.whole("samples", samples, least=0, below=LARGEST)
    fraction = checks.number("sieve", sieve, least=0, below=1)
    checks.number("exchange", exchange, above=0, most=1)
    checks.seed(seed)
    if not samples:
        if fraction:
            checks.refuse("sieve", "0 where no `samples` are counted", sieve)
        return None
    if judge is None:
        checks.refuse("samples", "0 where the loss does not tell which are right", samples)
    removed = round(fraction * samples)
    if removed == samples:
        checks.refuse("sieve", "a share that leaves samples to train on", sieve)
    return Sieving(samples, removed, exchange, seed)
