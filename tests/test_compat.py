"""Each hook into what Keras does not publish works, as seen in Keras 3.15.1."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from spfde_keras import compat

L = keras.layers
SEEN = f"seen in Keras 3.15.1, this is {keras.__version__}"


def nested():
    inner = keras.Sequential([keras.Input((4,)), L.Dense(4, name="a"), L.Dense(4, name="b")])
    return keras.Sequential([keras.Input((4,)), inner, L.Dense(2, name="c")])


def test_sublayers_are_those_directly_inside():
    """Keras: `Layer._layers`."""
    attention = L.MultiHeadAttention(2, 4)
    attention.build((None, 3, 8), (None, 3, 8))
    names = [layer.name for layer in compat.sublayers(attention)]
    assert {"query", "key", "value", "attention_output"} <= set(names), SEEN
    assert [layer.name for layer in compat.sublayers(nested())][-1] == "c", SEEN


def test_all_layers_are_those_at_any_depth():
    """Keras: `Layer._flatten_layers`."""
    model = nested()
    found = compat.all_layers(model)
    assert found[0] is model, SEEN
    assert {layer.name for layer in found if isinstance(layer, L.Dense)} == {"a", "b", "c"}, SEEN
    assert len(found) == len(set(map(id, found))), SEEN


def test_own_variables_are_not_those_of_layers_inside():
    """Keras: `Layer._trainable_variables` and `Layer._non_trainable_variables`."""

    class Outer(L.Layer):
        def build(self, input_shape):
            self.inner = L.Dense(2)
            self.inner.build(input_shape)
            self.scale = self.add_weight(name="scale")
            self.count = self.add_weight(name="count", trainable=False)

    layer = Outer()
    layer.build((None, 3))
    assert [v.name for v in compat.own_variables(layer)] == ["scale", "count"], SEEN
    layer.trainable = False
    assert [v.name for v in compat.own_variables(layer)] == ["scale", "count"], SEEN


def test_a_sequential_model_has_a_graph_once_its_input_is_known():
    """Keras: `Sequential._functional`."""
    model = keras.Sequential([L.Dense(2)])
    assert compat.sequential_graph(model) is None, SEEN
    model.build((None, 3))
    assert isinstance(compat.sequential_graph(model), keras.Function), SEEN


@pytest.mark.parametrize("times", [1, 2])
def test_uses_of_an_output_are_counted(times):
    """Keras: `Operation._outbound_nodes`."""
    x = keras.Input((4,))
    relu = L.ReLU()
    y = relu(x)
    keras.Model(x, [L.Dense(2)(y) for _ in range(times)])
    assert compat.times_used(relu) == times, SEEN


def test_untracked_attributes_are_no_part_of_a_layer():
    """Keras: `Layer.__setattr__` tracks, `Layer.__dict__` does not."""
    x = keras.Input((4,))
    inside, model = L.Dense(2), keras.Model(x, L.Dense(2)(x))
    inside.build((None, 3))
    count = len(model.variables)
    compat.set_untracked(model, extra=inside)
    assert model.extra is inside and len(model.variables) == count, SEEN
    model.tracked = inside
    assert len(model.variables) == count + 2, SEEN


@pytest.mark.parametrize("gate", [False, True])
def test_projections_of_attention_have_names(gate):
    """Keras: `MultiHeadAttention._query_dense` and so on, and `_use_gate`."""
    layer = L.MultiHeadAttention(2, 4, use_gate=gate)
    layer.build((None, 3, 8), (None, 3, 8))
    assert compat.has_gate(layer) is gate, SEEN
    for name in ("query", "key", "value", "output") + (("gate",) if gate else ()):
        projection = compat.attention_projection(layer, name)
        assert isinstance(projection, L.EinsumDense), SEEN
        (attribute,) = [key for key, value in vars(layer).items() if value is projection]
        assert compat.projection_of_attribute(attribute) == name, SEEN


def test_attention_is_computed_by_a_method_that_may_be_overridden():
    """Keras: `MultiHeadAttention._compute_attention`, and how it is called."""
    called = []

    class Mine(L.MultiHeadAttention):
        def _compute_attention(self, query, key, value, mask, training, with_scores):
            called.append((query.shape, mask, with_scores))
            return super()._compute_attention(query, key, value, mask, training, with_scores)

    x = tf.zeros((2, 3, 8))
    Mine(2, 4)(x, x)
    assert called == [((2, 3, 2, 4), None, False)], SEEN


def test_methods_are_replaced_on_one_object_alone():
    """Keras: optimizers look their methods up on the instance."""
    one, other = keras.optimizers.SGD(), keras.optimizers.SGD()
    compat.replace_methods(one, apply_gradients=lambda pairs: "mine")
    assert one.apply_gradients([]) == "mine" and type(one) is keras.optimizers.SGD
    assert "apply_gradients" not in vars(other)
    compat.restore_methods(one, "apply_gradients", "update_step")
    assert one.apply_gradients.__func__ is keras.optimizers.SGD.apply_gradients


def test_steps_are_counted_also_where_they_change_nothing():
    """Keras: `Optimizer._iterations`."""
    optimizer = keras.optimizers.SGD(gradient_accumulation_steps=2)
    for step in (1, 2, 3):
        optimizer.apply([tf.constant([0.5])], [keras.Variable([1.0])] if step == 1 else None)
        assert int(compat.steps_taken(optimizer).numpy()) == step, SEEN


def test_variables_have_a_place_in_an_optimizer():
    """Keras: `Optimizer._get_variable_index`."""
    variables = [keras.Variable([1.0]), keras.Variable([1.0])]
    optimizer = keras.optimizers.SGD()
    optimizer.build(variables)
    assert [compat.variable_index(optimizer, v) for v in variables] == [0, 1], SEEN


@pytest.mark.parametrize(
    ("optimizer", "starts"),
    [
        (keras.optimizers.SGD(momentum=0.9), [0.0]),
        (keras.optimizers.Adam(amsgrad=True), [0.0, 0.0, 0.0]),
        (keras.optimizers.Adagrad(initial_accumulator_value=0.25), [0.25]),
        (keras.optimizers.Ftrl(initial_accumulator_value=0.5), [0.5, 0.0]),
        (keras.optimizers.SGD(gradient_accumulation_steps=2), [0.0]),
    ],
)
def test_slots_are_found_with_the_values_they_start_from(optimizer, starts):
    """Keras: lists of an optimizer as long as `Optimizer._trainable_variables`."""
    variables = [keras.Variable(np.ones((2, 3))), keras.Variable([1.0])]
    optimizer.build(variables)
    found = list(compat.slots(optimizer, variables[0]))
    assert [start for _, start in found] == starts, SEEN
    for slot, start in found:
        assert tuple(slot.shape) == (2, 3), SEEN
        np.testing.assert_array_equal(slot, np.full((2, 3), start), SEEN)


def test_rates_are_scaled_by_block_and_where_weights_decay():
    """Keras: `Optimizer.update_step`, `_apply_weight_decay`, `_get_current_learning_rate`.

    And `_all_reduce_sum_gradients`; tests/integration/test_memory.py needs it.
    """
    one, other = keras.Variable([1.0]), keras.Variable([1.0])
    optimizer = keras.optimizers.SGD(0.5, weight_decay=0.5)
    optimizer.build([one, other])

    def step():
        one.assign([1.0])
        other.assign([1.0])
        optimizer.apply([tf.constant([0.0]), tf.constant([1.0])], [one, other])
        return one.numpy().tolist() + other.numpy().tolist()

    # Decayed by rate * 0.5, then updated by the rate.
    assert step() == [0.75, 0.25]
    compat.scale_updates(optimizer, lambda v: v is one, lambda block: [1.0, 0.5][block])
    assert step() == [0.875, 0.25], SEEN
    compat.restore_updates(optimizer)
    assert step() == [0.75, 0.25], SEEN


def model_of_one_weight():
    model = keras.Sequential([keras.Input((1,)), L.Dense(1, use_bias=False)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return model


def fit(model, epochs=1, **options):
    return model.fit(np.ones((4, 1)), np.ones((4, 1)), 1, epochs, verbose=0, **options)


def test_a_forgotten_train_function_is_made_anew():
    """Keras: `Trainer.train_function`, which `fit` keeps."""
    model = model_of_one_weight()
    fit(model)
    made = model.train_function
    fit(model)
    assert model.train_function is made, SEEN
    compat.forget_train_function(model)
    fit(model)
    assert model.train_function is not made, SEEN


class EndsEpochs(keras.callbacks.Callback):
    def __init__(self, stop):
        super().__init__()
        self.stop, self.steps = stop, 0

    def on_train_batch_begin(self, batch, logs=None):
        self.steps += 1
        if batch == 1:
            self.model.stop_training |= self.stop
            compat.end_epoch(self.model)

    def on_epoch_end(self, epoch, logs=None):
        compat.go_on_after_epoch(self.model)


@pytest.mark.parametrize(("stop", "steps"), [(False, 3 * 2), (True, 2)])
def test_an_epoch_ends_early_and_training_only_if_asked_for(stop, steps):
    """Keras: `Trainer.stop_training`, which `fit` looks at behind each step and each epoch."""
    model, callback = model_of_one_weight(), EndsEpochs(stop)
    fit(model, epochs=3, callbacks=[callback])
    assert callback.steps == steps, SEEN
    assert model.stop_training is stop, SEEN


def test_a_dataset_tells_what_it_was_made_of():
    """TensorFlow: `Dataset._inputs`."""
    numbers = tf.data.Dataset.range(4)
    batches = numbers.batch(2)
    assert compat.dataset_sources(batches) == [numbers]
    assert compat.dataset_sources(numbers) == []


def test_wrapped_loss_is_the_function_with_its_arguments():
    """Keras: `LossFunctionWrapper.fn` and `_fn_kwargs`, `CompileLoss._user_loss`."""
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    function, arguments = compat.wrapped_loss(loss)
    assert function is keras.losses.binary_crossentropy and arguments["from_logits"] is True
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(loss=loss)
    assert compat.wrapped_loss(model._compile_loss) == (loss, {})
    assert compat.wrapped_loss(keras.losses.Loss()) is None
    assert compat.wrapped_loss(function) is None


@pytest.mark.parametrize("activation", ["sigmoid", "softmax", "linear"])
def test_predictions_of_a_sigmoid_are_marked(activation):
    """Keras: `_keras_logits`, which its losses use in place of what a sigmoid gave."""
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(2, activation=activation)(inputs))
    activated = tf.function(lambda x: tf.constant(compat.is_activated(model(x))))
    assert bool(activated(tf.zeros((1, 2)))) == (activation != "linear")


def test_batches_of_datasets_are_known_where_their_number_is():
    """TensorFlow: `Dataset._inputs`, `_batch_size` and `_drop_remainder` of those of batches."""
    samples = tf.data.Dataset.range(80)
    batches = samples.shuffle(3).batch(7)
    assert compat.batching(batches) == (7, {3}), SEEN
    assert compat.batching(batches.prefetch(1).map(lambda x: 2 * x)) == (7, {3}), SEEN
    assert compat.batching(samples.batch(7, num_parallel_calls=2)) == (7, {3}), SEEN
    for none in (samples.batch(8), samples.batch(7, drop_remainder=True)):
        assert compat.batching(none)[1] == set(), SEEN
    several = [batches.repeat(), batches.repeat(2), batches.concatenate(batches)]
    unknown = [batches.take(3), batches.unbatch(), samples]
    unknown.append(samples.filter(lambda x: x > 1).batch(7))
    for dataset in several + unknown:
        assert compat.batching(dataset) == (0, set()), SEEN


@pytest.mark.parametrize("activation", ["sigmoid", "softmax", "linear", tf.nn.softmax])
def test_losses_of_the_first_rows_know_their_logits(activation):
    """Keras: `_keras_logits`, and in graphs the operators "Sigmoid" and "Softmax"."""
    name = "binary" if activation == "sigmoid" else "categorical"
    loss = getattr(keras.losses, f"{name}_crossentropy")
    logits, y = tf.constant([[300.0, -300], [-500, 500], [1, 2]]), tf.constant([[0.0, 1]] * 3)
    activate = keras.activations.get(activation)
    of_rows = tf.function(lambda x: loss(y[:2], compat.first_rows(activate(x), 2)))
    of_all = tf.function(lambda x: loss(y, activate(x)))
    expected = of_all(logits).numpy()[:2]
    np.testing.assert_allclose(of_rows(logits).numpy(), expected)
    assert activation == "linear" or expected.max() > 200
    eager = loss(y[:2], compat.first_rows(activate(logits), 2)).numpy()
    np.testing.assert_allclose(eager, loss(y, activate(logits)).numpy()[:2])


def test_own_trainable_are_a_layers_own_weights_frozen_or_not():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    (dense,) = model.layers
    dense.kernel.trainable = False
    assert compat.own_trainable(dense) == [dense.kernel, dense.bias]
    assert compat.own_trainable(model) == []


def test_run_graph_calls_what_it_is_given_for_each_layer():
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Flatten()(keras.layers.ReLU(name="relu")(inputs)))
    called = []

    def operation(layer):
        called.append(layer.name)
        return keras.layers.Identity() if layer.name == "relu" else layer

    outputs = compat.run_graph(model, model.inputs, operation)
    made = keras.Model(inputs, outputs)
    assert called == [layer.name for layer in model.layers[1:]]
    assert made(np.array([[-1.0, 2.0]])).numpy().tolist() == [[-1.0, 2.0]]


def test_a_stored_kernel_is_the_variable_also_with_lora():
    dense, depthwise = L.Dense(4), L.DepthwiseConv2D(3)
    dense.build((None, 4))
    depthwise.build((None, 4, 4, 2))
    variable = dense.kernel
    dense.enable_lora(2)
    assert compat.stored_kernel(dense) is variable is not dense.kernel
    assert compat.stored_kernel(depthwise) is depthwise.kernel


def test_tensorboard_draws_booleans_as_numbers(tmp_path):
    """Keras: `TensorBoard._summary_module`."""
    board = keras.callbacks.TensorBoard(tmp_path)
    compat.draw_booleans(board)
    compat.draw_booleans(board)  # once is enough
    with board.summary.create_file_writer(str(tmp_path)).as_default():
        board.summary.histogram("mask", np.array([True, False]), step=0)
        board.summary.image("mask", np.ones((1, 2, 2, 1), bool), step=0)


def test_what_looks_like_a_bias_of_the_first_axis_is_added_plainly():
    """Keras: `backend.tensorflow.numpy.add` calls `tf.nn.bias_add`."""

    def kinds():
        @tf.function
        def add(a, b):
            return keras.ops.add(a, b)

        one = tf.TensorSpec((1, 5, 1))
        graph = add.get_concrete_function(one, one).graph
        found = add(tf.range(5.0)[None, :, None], tf.ones((1, 5, 1)))
        np.testing.assert_array_equal(found[0, :, 0], [1, 2, 3, 4, 5])
        return {operation.type for operation in graph.get_operations()}

    assert "BiasAdd" in kinds(), f"no longer needed; {SEEN}"
    with compat.channels_last_bias():
        assert "BiasAdd" not in kinds(), SEEN
    assert "BiasAdd" in kinds(), SEEN


def test_operations_are_named_after_their_layers():
    """Keras: `Layer.__call__` enters `tf.name_scope` twice."""
    inputs = keras.Input((4,))
    model = keras.Model(inputs, L.Dense(4, name="d_1")(L.Dense(4, name="d")(inputs)), name="net")

    def names():
        graph = tf.function(model).get_concrete_function(tf.TensorSpec((1, 4))).graph
        return [one.name for one in graph.get_operations() if one.type == "MatMul"]

    assert names() == ["net_1/d_1/MatMul", "net_1/d_1_2/MatMul"], f"no longer needed; {SEEN}"
    with compat.scopes_of_layers():
        assert names() == ["net/d/MatMul", "net/d_1/MatMul"], SEEN
    assert names() == ["net_1/d_1/MatMul", "net_1/d_1_2/MatMul"], SEEN


def test_the_maker_of_a_tensor_is_its_layer():
    """Keras: `KerasTensor._keras_history`."""
    layer = L.Dense(2)
    assert compat.maker(layer(keras.Input((4,)))) is layer


def test_nodes_come_before_those_that_need_them():
    """Keras: `Function._nodes_by_depth`."""
    inputs = keras.Input((4,))
    first, second = L.Dense(4, name="first"), L.Dense(4, name="second")
    model = keras.Model(inputs, L.Add(name="sum")([second(first(inputs)), inputs]))
    assert [node.operation.name for node in compat.nodes_in_order(model)] == [
        "first",
        "second",
        "sum",
    ]


def test_a_graph_is_called_as_it_is_unless_a_class_calls_otherwise():
    """Keras: `keras.Function`, `Sequential._functional`; both have a `call` of Keras' own."""

    class Own(keras.Model):
        def call(self, inputs, training=None, mask=None):
            return inputs

    class Named(keras.Model):
        pass

    x = keras.Input((4,))
    y = L.Dense(2)(x)
    assert compat.is_graph(nested()) and compat.is_graph(keras.Model(x, y)), SEEN
    assert compat.is_graph(Named(x, y)) and not compat.is_graph(Own(x, y)), SEEN
    assert not compat.is_graph(keras.Sequential([L.Dense(2)])) and not compat.is_graph(L.Dense(2))


def test_inputs_are_brought_into_the_order_of_the_model():
    """Keras: `Functional._standardize_inputs`."""
    b, a = keras.Input((2,), name="b"), keras.Input((3,), name="a", optional=True)
    model = keras.Model([b, a], [L.Dense(2)(b), L.Identity()(a)])
    given = {"a": None, "b": np.zeros((5, 2))}
    first, second = compat.standardized_inputs(model, given)
    assert tuple(first.shape) == (5, 2), SEEN
    assert second is None, SEEN


def test_fit_starts_where_it_is_told_to():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")

    class Start(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            compat.start_at(self.model, 2)

    data = np.ones((1, 1)), np.ones((1, 1))
    assert model.fit(*data, epochs=3, verbose=0, callbacks=[Start()]).epoch == [2]
    compat.start_at(model, 0)
    assert model.fit(*data, epochs=3, initial_epoch=1, verbose=0).epoch == [1, 2]
