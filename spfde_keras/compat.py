"""Everything the package uses of Keras that is not public, each behind a function.

As seen in Keras 3.15.1. tests/test_compat.py names what each function relies on.
"""

import collections
import contextlib
import functools
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, TypeVar

import keras
import tensorflow as tf

_EPOCH_DONE = "epoch done"


def sublayers(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Returns the layers directly inside a layer; only models have a public list of them."""
    return list(layer._layers)


def all_layers(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Returns a layer and all layers inside it; `Model.layers` stops at the first level."""
    return layer._flatten_layers()


def own_variables(layer: keras.layers.Layer) -> list[keras.Variable]:
    """Returns a layer's variables; `Layer.variables` has those of the layers inside it, too."""
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def maker(tensor: keras.KerasTensor) -> keras.Operation:
    """Returns the layer or operation that made a tensor of a model."""
    return tensor._keras_history.operation


def nodes_in_order(function: keras.Function) -> list[Any]:
    """Returns the calls in a graph, those first that others need; publicly, only layers are."""
    by_depth = function._nodes_by_depth
    ordered = [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]
    return [node for node in ordered if not node.is_input]


def own_trainable(layer: keras.layers.Layer) -> list[keras.Variable]:
    """Returns the weights of a layer itself that can be trained, frozen or not."""
    return list(layer._trainable_variables)


def stored_kernel(layer: keras.layers.Layer) -> keras.Variable:
    """Returns the variable behind `layer.kernel`, which LoRA and quantization compute anew."""
    return getattr(layer, "_kernel", layer.kernel)


def run_graph(
    function: keras.Function,
    inputs: list[keras.KerasTensor],
    operation: Callable[[keras.Operation], keras.Operation],
) -> Any:
    """Calls on `inputs` what `operation` gives for each layer of a graph; returns the outputs."""
    return function._run_through_graph(inputs, operation_fn=operation)


def standardized_inputs(model: keras.Model, x: Any) -> list[Any]:
    """Returns what a functional model makes of its inputs: one for each of `model.inputs`."""
    return model._standardize_inputs(x)


def sequential_graph(model: keras.Sequential) -> keras.Function | None:
    """Returns the graph of a Sequential model, which has no public one; None until it is built."""
    return model._functional


def is_graph(layer: object) -> bool:
    """Returns whether a layer is a model that does nothing but call the layers of its graph.

    A subclass of a functional model may have a `call` of its own.
    """
    if isinstance(layer, keras.Sequential):
        known = sequential_graph(layer) is not None
    else:
        known = isinstance(layer, keras.Function) and isinstance(layer, keras.layers.Layer)
    own = (cls for cls in type(layer).__mro__ if not cls.__module__.startswith("keras."))
    return known and not any("call" in vars(cls) for cls in own)


def rename_variable(variable: keras.Variable, path: str) -> None:
    """Gives a variable another path; Keras takes it from where a layer was built."""
    variable._path = path


def times_used(layer: keras.layers.Layer) -> int:
    """Returns how often a layer's output is used in a model; there is no public list of uses."""
    return len(layer._outbound_nodes)


def set_untracked(layer: keras.layers.Layer, **attributes: object) -> None:
    """Sets attributes of a layer that Keras must not count as parts of it.

    Setting them in the usual way adds their variables to the layer's, for good.
    """
    layer.__dict__.update(attributes)


def attention_projection(layer: keras.layers.Layer, name: str) -> keras.layers.Layer:
    """Returns a projection of an attention layer: "query", "key", "value", "output" or "gate"."""
    return getattr(layer, f"_{name}_dense")


def projection_of_attribute(attribute: str) -> str:
    """Returns the name of the projection that attention keeps in an attribute.

    Attention makes its projections in `build`; the only chance to replace one is when it is set.
    """
    return attribute.removeprefix("_").removesuffix("_dense")


def has_gate(layer: keras.layers.Layer) -> bool:
    """Returns whether attention was made with `use_gate=True`, which only `_use_gate` tells."""
    grouped = isinstance(layer, keras.layers.GroupQueryAttention)
    return layer.use_gate if grouped else layer._use_gate


def replace_methods(instance: object, **methods: Callable) -> None:
    """Gives one object other methods; its class, which is what gets saved, stays unchanged."""
    instance.__dict__.update(methods)


def restore_methods(instance: object, *names: str) -> None:
    """Gives an object its class's methods back, if they were replaced."""
    for name in names:
        instance.__dict__.pop(name, None)


def steps_taken(optimizer: keras.optimizers.Optimizer) -> keras.Variable:
    """Returns how many batches an optimizer was given gradients of.

    `iterations` counts those with which it has changed weights, where it accumulates gradients.
    """
    return optimizer._iterations


def variable_index(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> int:
    """Returns the place of a variable in a built optimizer, by which its slots are found."""
    return optimizer._get_variable_index(variable)


def slots(
    optimizer: keras.optimizers.Optimizer, variable: keras.Variable
) -> Iterator[tuple[keras.Variable, float]]:
    """Yields what a built optimizer keeps for a variable, each with the value it starts from.

    Optimizers keep lists parallel to their variables; there is no public way to them.
    """
    index, count = variable_index(optimizer, variable), len(optimizer._trainable_variables)
    for name, values in vars(optimizer).items():
        parallel = isinstance(values, list) and len(values) == count
        if not parallel or name == "_trainable_variables":
            continue
        if isinstance(values[index], keras.Variable):
            # From 0, Adagrad's first step would be too large, and Ftrl's NaN.
            start = optimizer.initial_accumulator_value if name == "_accumulators" else 0.0
            yield values[index], start


Block = TypeVar("Block", bound=Hashable)


def scale_updates(
    optimizer: keras.optimizers.Optimizer,
    block_of: Callable[[keras.Variable], Block],
    factor: Callable[[Block], tf.Tensor],
) -> None:
    """Multiplies the rate of each variable by the factor of its block, also where it decays.

    Optimizers have one rate for all variables. It is passed to `update_step`, and read again when
    weights decay.

    Steps are traced anew where blocks freeze, and `tf.custom_gradient`, which is in the sum of
    gradients over replicas, keeps each. One replica needs no sum.
    """
    restore_updates(optimizer)
    update_step, apply_decay = optimizer.update_step, optimizer._apply_weight_decay
    current_rate = optimizer._get_current_learning_rate

    def scaled_update_step(
        gradient: tf.Tensor, variable: keras.Variable, learning_rate: tf.Tensor
    ) -> Any:
        scale = tf.cast(factor(block_of(variable)), learning_rate.dtype)
        return update_step(gradient, variable, learning_rate * scale)

    def scaled_rate(block: Block) -> tf.Tensor:
        return current_rate() * factor(block)

    def scaled_decay(variables: Iterable[keras.Variable]) -> None:
        blocks = collections.defaultdict(list)
        for variable in variables:
            blocks[block_of(variable)].append(variable)
        for block, members in blocks.items():
            rate = functools.partial(scaled_rate, block)
            replace_methods(optimizer, _get_current_learning_rate=rate)
            apply_decay(members)
        restore_methods(optimizer, "_get_current_learning_rate")

    replace_methods(optimizer, update_step=scaled_update_step, _apply_weight_decay=scaled_decay)
    if optimizer._distribution_strategy.num_replicas_in_sync == 1:
        replace_methods(optimizer, _all_reduce_sum_gradients=list)


def restore_updates(optimizer: keras.optimizers.Optimizer) -> None:
    """Undoes `scale_updates`."""
    restore_methods(optimizer, "update_step", "_apply_weight_decay", "_all_reduce_sum_gradients")


def rate_at(optimizer: keras.optimizers.Optimizer, step: int) -> float:
    """Returns the learning rate of a step, as a schedule or a function has it if there is one.

    The optimizer itself only says what it is at the step it has come to.
    """
    rate = optimizer._learning_rate
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        rate = rate(step)
    elif callable(rate) and not isinstance(rate, keras.Variable):
        rate = rate()
    return float(keras.ops.convert_to_numpy(rate))


def forget_train_function(model: keras.Model) -> None:
    """Makes the next `fit` compile its step again; the public way, `compile`, forgets much more."""
    model.train_function = None


def end_epoch(model: keras.Model) -> None:
    """Ends the epoch of `fit` before its next step.

    `fit` leaves an epoch as soon as `stop_training` is true in any form, and ends training only if
    it is still true after the epoch. A True set by another callback is left alone.
    """
    if not model.stop_training:
        model.stop_training = _EPOCH_DONE


def go_on_after_epoch(model: keras.Model) -> None:
    """Keeps `fit` from ending training after an epoch that `end_epoch` ended."""
    if model.stop_training is _EPOCH_DONE:
        model.stop_training = False


def draw_booleans(callback: keras.callbacks.TensorBoard) -> None:
    """Lets TensorBoard draw boolean weights, such as masks, which its writer does not take."""
    if not isinstance(callback.summary, _NumbersOfBooleans):
        callback._summary_module = _NumbersOfBooleans(callback.summary)


class _NumbersOfBooleans:
    def __init__(self, summary: Any):
        self._summary = summary

    def __getattr__(self, name: str) -> Any:
        return getattr(self._summary, name)

    def histogram(self, name: str, data: Any, *args: Any, **kwargs: Any) -> Any:
        return self._summary.histogram(name, _number(data), *args, **kwargs)

    def image(self, name: str, data: Any, *args: Any, **kwargs: Any) -> Any:
        return self._summary.image(name, _number(data), *args, **kwargs)


def _number(data: Any) -> Any:
    data = tf.convert_to_tensor(data)
    return tf.cast(data, tf.float32) if data.dtype == tf.bool else data


def wrapped_loss(loss: object) -> tuple[Any, dict] | None:
    """Returns what a loss object of Keras wraps, and with which arguments; None if nothing."""
    if isinstance(loss, keras.losses.Loss) and hasattr(loss, "_user_loss"):
        return loss._user_loss, {}
    if isinstance(loss, keras.losses.Loss) and hasattr(loss, "_fn_kwargs"):
        return loss.fn, loss._fn_kwargs
    return None


def is_activated(y_pred: tf.Tensor) -> bool:
    """Returns whether Keras' losses take predictions for those of a sigmoid or softmax."""
    return hasattr(y_pred, "_keras_logits")


def first_rows(y_pred: Any, count: tf.Tensor) -> Any:
    """Returns the first predictions of a batch, as exact to Keras' losses as all of them.

    Losses take the logits that a sigmoid or softmax was made of, by an attribute of its outputs;
    or, in a graph, by the operator that made them.
    """
    if is_activated(y_pred):
        rows = y_pred[:count]
        rows._keras_logits = y_pred._keras_logits[:count]
        return rows
    graph = isinstance(y_pred, tf.Tensor) and tf.is_symbolic_tensor(y_pred)
    activation = {"Sigmoid": tf.nn.sigmoid, "Softmax": tf.nn.softmax}.get(
        y_pred.op.type if graph else ""
    )
    return activation(y_pred.op.inputs[0][:count]) if activation else y_pred[:count]


def dataset_sources(dataset: tf.data.Dataset) -> list[tf.data.Dataset]:
    """Returns the datasets that a dataset was made from, which TensorFlow does not publish."""
    return list(dataset._inputs())


def batching(dataset: tf.data.Dataset) -> tuple[int, set[int]]:
    """Returns the size of a dataset's batches, and that of an incomplete last one, if known.

    TensorFlow does not publish what a dataset of batches was made of.
    """
    batches = dataset.cardinality()
    while dataset.cardinality() == batches >= 0:
        sources = dataset_sources(dataset)
        if len(sources) != 1:
            break
        if hasattr(dataset, "_batch_size"):
            size, samples = int(dataset._batch_size), int(sources[0].cardinality())
            dropped = bool(tf.get_static_value(dataset._drop_remainder))
            return size, set() if dropped or samples < 0 else {samples % size} - {0}
        (dataset,) = sources
    return 0, set()


@contextlib.contextmanager
def channels_last_bias() -> Iterator[None]:
    """Keeps Keras from adding what only looks like a bias of channels-first data as such.

    Of two tensors (1, steps, 1), as in a residual connection at a batch of 1, Keras takes the
    second for a bias of the first axis. TFLite's converter can transpose that only in rank 4.
    """
    bias_add = tf.nn.bias_add

    def add(value: Any, bias: Any, data_format: str | None = None, name: str | None = None) -> Any:
        rank = value.shape.rank
        if data_format != "NCHW" or rank == 4:
            return bias_add(value, bias, data_format=data_format, name=name)
        return tf.add(value, tf.reshape(bias, [-1] + [1] * (rank - 2)), name=name)

    tf.nn.bias_add = add
    try:
        yield
    finally:
        tf.nn.bias_add = bias_add


@contextlib.contextmanager
def scopes_of_layers() -> Iterator[None]:
    """Has the operations of a graph named after the layers that make them, as these are called.

    Keras enters a layer's scope once to build it and once to call it, and TensorFlow numbers a
    scope that is there already: conv2d is traced as conv2d_1, and conv2d_1 as conv2d_1_2.
    """
    name_scope = tf.name_scope

    def scope(name: str) -> Any:
        if tf.executing_eagerly() or name.endswith("/"):
            return name_scope(name)
        outer = tf.compat.v1.get_default_graph().get_name_scope()
        return name_scope(f"{outer}/{name}/" if outer else f"{name}/")

    tf.name_scope = scope
    try:
        yield
    finally:
        tf.name_scope = name_scope


def start_at(model: keras.Model, epoch: int) -> None:
    """Has `fit` start at an epoch, when called as training begins; 0 leaves it to `fit`."""
    model._initial_epoch = epoch or None
