"""Convolutions in built-in operators are TensorFlow's, gradients included."""

import numpy as np
import pytest
import tensorflow as tf

from spfde_keras.device import convolutions


def numbers(*shape):
    return tf.constant(np.random.default_rng(len(shape)).normal(size=shape), tf.float32)


def check(ours, theirs, *arguments):
    """Values and gradients agree, and no gradient operator of TensorFlow's is left."""

    @tf.function(autograph=False)
    def with_gradients(function, *arguments):
        y = function(*arguments)
        weights = tf.reshape(tf.sin(tf.range(tf.size(y), dtype=tf.float32)), tf.shape(y))
        return [y, *tf.gradients(y * weights, arguments)]

    got = with_gradients.get_concrete_function(ours, *arguments)
    for found, expected in zip(got(*arguments), with_gradients(theirs, *arguments), strict=True):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found / scale, expected / scale, atol=2e-6)
    kinds = {operation.type for operation in got.graph.get_operations()}
    assert not {kind for kind in kinds if "Backprop" in kind or kind in ("Conv2D", "MatMul")}


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(
    ("window", "strides", "dilations"),
    [
        ((1, 1), 1, 1),
        ((1, 1), 2, 1),
        ((3, 3), 1, 1),
        ((3, 3), 2, 1),
        ((3, 2), (2, 3), 1),
        ((2, 3), 1, (2, 1)),
        ((5, 1), 4, 1),
    ],
)
def test_a_convolution_of_images(padding, window, strides, dilations):
    check(
        lambda x, k: convolutions.convolution(x, k, strides, padding, "NHWC", dilations),
        lambda x, k: tf.nn.convolution(x, k, strides, padding, "NHWC", dilations),
        numbers(2, 7, 8, 3),
        numbers(*window, 3, 4),
    )


@pytest.mark.parametrize(("strides", "dilation"), [(1, 1), (2, 1), (1, 3)])
def test_a_convolution_of_sequences(strides, dilation):
    check(
        lambda x, k: convolutions.convolution(x, k, strides, "SAME", "NWC", dilation),
        lambda x, k: tf.nn.convolution(x, k, strides, "SAME", "NWC", dilation),
        numbers(2, 9, 3),
        numbers(3, 3, 4),
    )


def test_a_convolution_in_groups():
    x, kernel = numbers(2, 6, 6, 4), numbers(3, 3, 2, 6)

    def by_hand(x, kernel):
        halves = zip(tf.split(x, 2, 3), tf.split(kernel, 2, 3), strict=True)
        return tf.concat([tf.nn.convolution(*half, 1, "SAME") for half in halves], 3)

    check(lambda x, k: convolutions.convolution(x, k, 1, "SAME"), by_hand, x, kernel)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(
    ("window", "stride", "dilations", "multiplier"),
    [((3, 3), 1, None, 1), ((3, 3), 2, None, 2), ((5, 1), 1, None, 1), ((3, 3), 1, (2, 2), 2)],
)
def test_a_depthwise_convolution(padding, window, stride, dilations, multiplier):
    strides = (1, stride, stride, 1)
    check(
        lambda x, k: convolutions.depthwise_convolution(x, k, strides, padding, None, dilations),
        lambda x, k: tf.nn.depthwise_conv2d(x, k, strides, padding, None, dilations),
        numbers(2, 7, 8, 3),
        numbers(*window, 3, multiplier),
    )


def test_a_separable_convolution():
    strides = (1, 2, 2, 1)
    check(
        lambda x, d, p: convolutions.separable_convolution(x, d, p, strides, "SAME"),
        lambda x, d, p: tf.nn.separable_conv2d(x, d, p, strides, "SAME"),
        numbers(2, 7, 8, 3),
        numbers(3, 3, 3, 2),
        numbers(1, 1, 6, 5),
    )


@pytest.mark.parametrize("axes", [1, 2])
def test_channels_in_front(axes):
    x, kernel = numbers(2, 3, *(7, 8)[-axes:]), numbers(*(3, 2)[-axes:], 3, 4)
    data_format = ("NCW", "NCHW")[axes - 1]
    last = [0, *range(2, 2 + axes), 1]

    def around(x, kernel):
        y = tf.nn.convolution(tf.transpose(x, last), kernel, 2, "SAME")
        return tf.transpose(y, [0, axes + 1, *range(1, axes + 1)])

    check(lambda x, k: convolutions.convolution(x, k, 2, "SAME", data_format), around, x, kernel)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("strides", [1, 2, 3])
def test_a_transposed_convolution(padding, strides):
    rows, columns = (
        size * strides if padding == "SAME" else (size - 1) * strides + 3 for size in (4, 5)
    )
    shape = [2, rows, columns, 4]
    check(
        lambda x, k: convolutions.transposed_convolution(x, k, shape, strides, padding),
        lambda x, k: tf.nn.conv_transpose(x, k, shape, strides, padding),
        numbers(2, 4, 5, 3),
        numbers(3, 3, 4, 3),
    )
