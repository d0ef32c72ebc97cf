"""Functions and gradients in built-in operators are TensorFlow's."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from spfde_keras.device.operators import in_builtins
from tests.device.test_convolutions import numbers

A = keras.activations


def both(function, *arguments):
    """Values and gradients: ours and TensorFlow's; the kinds of operators of ours."""

    def with_gradients(*arguments):
        y = function(*arguments)
        weights = tf.reshape(tf.sin(tf.range(tf.size(y), dtype=tf.float32)), tf.shape(y))
        return [y, *tf.gradients(y * weights, arguments)]

    def ours(*arguments):
        with in_builtins():
            return with_gradients(*arguments)

    traced = tf.function(ours, autograph=False).get_concrete_function(*arguments)
    kinds = {operation.type for operation in traced.graph.get_operations()}
    return traced(*arguments), tf.function(with_gradients)(*arguments), kinds


def check(function, *arguments):
    got, expected, kinds = both(function, *arguments)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-6, atol=2e-6)
    assert not {kind for kind in kinds if kind.endswith("Grad")} - {"BroadcastGradientArgs"}


@pytest.mark.parametrize(
    "function",
    [
        A.relu,
        A.relu6,
        A.leaky_relu,
        A.elu,
        A.tanh,
        A.sigmoid,
        A.softplus,
        A.softsign,
        A.gelu,
        lambda x: A.gelu(x, approximate=True),
        tf.math.erf,
        lambda x: tf.math.rsqrt(x * x + 0.5),
        lambda x: tf.sqrt(x * x + 0.5),
        lambda x: tf.tile(x, [2, 1, 3]),
        lambda x: x[:, 1:-1, ::2],
        lambda x: x[1, ..., 2:],
        lambda x: x[-1],
        lambda x: x[..., None, 0],
    ],
)
def test_a_function(function):
    check(function, 3 * numbers(3, 5, 8))


ACTIVATIONS = """
celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_tanh leaky_relu log_sigmoid
log_softmax mish relu relu6 selu sigmoid silu soft_shrink softmax softplus softsign sparse_plus
sparse_sigmoid squareplus tanh tanh_shrink
""".split()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_at_its_kinks(name):
    check(getattr(A, name), tf.constant([[0.0, 1.0, -1.0, 3.0, -3.0, 6.0, 0.5, -0.5]]))


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("pool", [tf.nn.max_pool2d, tf.nn.avg_pool2d])
@pytest.mark.parametrize(("window", "strides"), [(2, 2), (3, 2), ((2, 3), 1), (2, 3)])
def test_pooling(pool, padding, window, strides):
    check(lambda x: pool(x, window, strides, padding), numbers(2, 7, 8, 3))


def test_the_first_of_equals_takes_the_gradient_of_a_maximum():
    check(lambda x: tf.nn.max_pool2d(x, 2, 2, "VALID"), tf.ones((1, 4, 4, 2)))


def test_crossentropies():
    logits, hot = numbers(4, 3), tf.one_hot([0, 2, 1, 1], 3)
    labels = tf.constant([0, 2, 1, 1], tf.int64)
    nn = tf.nn
    check(lambda x: nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=x), logits)
    check(lambda x: nn.softmax_cross_entropy_with_logits(labels=hot, logits=x), logits)
    check(lambda x: nn.softmax_cross_entropy_with_logits(labels=2 * hot, logits=x), logits)
    check(lambda x: nn.sigmoid_cross_entropy_with_logits(labels=hot, logits=x), 9 * logits)


def test_labels_of_no_class_give_nan():
    with tf.Graph().as_default(), in_builtins():
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=tf.constant([0, 3, -1]), logits=np.zeros((3, 3), "float32")
        )
        with tf.compat.v1.Session() as session:
            assert np.isnan(session.run(loss)).tolist() == [False, True, True]


def test_tensorflow_has_its_own_functions_again():
    before = tf.nn.convolution, tf.math.erf
    with pytest.raises(ZeroDivisionError), tf.Graph().as_default(), in_builtins():
        assert tf.nn.convolution is not before[0]
        _ = 1 / 0
    assert (tf.nn.convolution, tf.math.erf) == before
