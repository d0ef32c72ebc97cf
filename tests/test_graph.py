"""The calls of a model as `trace` finds them, whatever models are nested in it."""

import keras
import numpy as np
import pytest
from keras import layers

from spfde_keras import compat
from spfde_keras.graph import trace


def nested():
    """A model that calls another one twice, which ends in an operation."""
    image, bias = keras.Input((4,)), keras.Input((4,))
    summed = layers.Add(name="sum")([image, bias])
    inner = keras.Model([image, bias], keras.ops.add(summed, 3.0), name="inner")
    x = keras.Input((4,), name="x")
    y = inner([x, layers.Dense(4, name="fc")(x)])
    return keras.Model(x, inner([y, x]))


def test_nested_models_are_expanded_in_an_order_in_which_they_can_run():
    graph = trace(nested())
    paths = [call.path for call in graph.calls]
    assert [path for path in paths if "/add" not in path] == ["fc", "inner/sum", "inner/sum"]
    known = set(map(id, graph.inputs))
    for call in graph.calls:
        assert known.issuperset(map(id, call.inputs))
        known.update(map(id, call.outputs))
    assert known.issuperset(map(id, graph.outputs))


def test_calls_repeated_one_after_the_other_are_the_model():
    model, x = nested(), np.arange(8.0, dtype="float32").reshape(2, 4)
    graph = trace(model)
    tensors = {id(graph.inputs[0]): x}
    for call in graph.calls:
        tensors[id(call.outputs[0])] = call.repeat(tensors)
    np.testing.assert_allclose(tensors[id(graph.outputs[0])], model(x), rtol=1e-6)


def test_arguments_are_kept_as_they_were_given():
    x, y = keras.Input((3, 4)), keras.Input((5, 4))
    attention = layers.MultiHeadAttention(1, 2)
    (call,) = trace(keras.Model([x, y], attention(x, value=y, use_causal_mask=True))).calls
    assert call.args == (x,) and call.inputs == (x, y)
    assert call.kwargs["value"] is y and call.kwargs["use_causal_mask"] is True
    images = np.random.default_rng(0).normal(size=(2, 2, 4))
    found = call.repeat({id(x): images, id(y): 2 * images})
    expected = attention(images, value=2 * images, use_causal_mask=True)
    np.testing.assert_array_equal(found, expected)


def test_models_without_a_graph_are_refused():
    class Subclassed(keras.Model):
        pass

    with pytest.raises(ValueError, match="`model` must be functional.*Received: Subclassed"):
        trace(Subclassed())


def test_a_layer_that_is_called_again_is_still_that_layer():
    model = nested()
    ones, graph = keras.Input((4,)), trace(model)
    made = graph.calls[0].repeat({id(graph.inputs[0]): ones})
    assert compat.maker(made) is model.get_layer("fc")
