"""Normalization with what follows and what reads it, against TensorFlow in double precision."""

import numpy as np
import pytest
import tensorflow as tf

from spfde_keras import kernels
from spfde_keras.kernels.library import operators
from tests import graphs
from tests.kernels import reference

pytestmark = pytest.mark.usefixtures("sparse_kernels")

EPSILON = 1e-3
TOLERANCE = 1e-5  # of the largest value


@pytest.fixture
def random():
    return np.random.default_rng(0)


def normal(random, *shape, mean=0.0):
    return (mean + random.normal(size=shape)).astype("float32")


def exactly(x, gamma, beta, mean=None, variance=None):
    """Batch normalization of TensorFlow's operators, with the batch's own statistics or others."""
    if mean is None:
        # tf.nn.moments takes the mean for a constant in the variance: wrong when derived twice.
        axes = list(range(len(x.shape) - 1))
        mean = tf.reduce_mean(x, axes)
        variance = tf.reduce_mean((x - mean) ** 2, axes)
    return (x - mean) / tf.sqrt(variance + EPSILON) * gamma + beta


def ours(x, gamma, beta, mean=None, variance=None):
    of_batch = mean is None
    if of_batch:
        mean, variance = kernels.moments(x)
    return kernels.normalize(x, mean, variance, gamma, beta, EPSILON, of_batch)


def derivatives(function, arguments, dtype):
    """The outputs of a function and the gradients of its arguments, for an uneven loss."""

    @tf.function
    def compute(*arguments):
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            outputs = function(*arguments)
            weights = tf.reshape(tf.range(tf.size(outputs)) % 7, tf.shape(outputs))
            loss = tf.reduce_sum(outputs**2 * tf.cast(weights, outputs.dtype))
        return [outputs, *tape.gradient(loss, arguments)]

    return compute(*[tf.constant(a, dtype) for a in arguments])


def assert_equal(function, exact, *arguments, tolerance=TOLERANCE):
    found = derivatives(function, arguments, "float32")
    expected = derivatives(exact, arguments, "float64")
    for one, other in zip(found, expected, strict=True):
        assert reference.error(one, other) < tolerance


def by_channel(random, channels):
    return normal(random, channels, mean=1), normal(random, channels)


def types_needed(function, *arguments):
    """The types of our operators that the graph of a function needs for what it returns."""
    graph = tf.function(function).get_concrete_function(*map(tf.constant, arguments)).graph
    types = graphs.types_needed(graph)
    return sorted(name.removeprefix("Spfde") for name in types if "Spfde" in name)


def test_by_hand():
    x = tf.constant([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0], [6.0, 5.0]])
    mean, variance = kernels.moments(x)
    np.testing.assert_array_equal(mean, [3, 5])
    np.testing.assert_array_equal(variance, [3.5, 0])
    y = kernels.normalize(x, mean, [0.25, 1.0], [1.0, 2.0], [0.5, 7.0], 0.0, of_batch=True)
    np.testing.assert_array_equal(y, [[-3.5, 7], [-1.5, 7], [0.5, 7], [6.5, 7]])
    np.testing.assert_array_equal(kernels.relu(y)[:, 0], [0, 0, 0.5, 6.5])


def test_moments(isa, random):
    for rows in (1, 2, 63, 5000):
        for channels in (1, 3, 4, 16, 24, 37, 128, 200):
            # Means far from 0 are where sums of squares would lose all digits.
            x = normal(random, rows, channels) + 1000 * normal(random, channels)
            mean, variance = operators().spfde_moments(x=x, isa=isa)
            np.testing.assert_allclose(mean, np.float64(x).mean(axis=0), rtol=1e-6)
            exact = np.float64(x).var(axis=0)
            np.testing.assert_allclose(variance, exact, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", [(9, 5), (3, 4, 5, 16), (2, 3, 3, 37), (5, 30, 30, 24)])
@pytest.mark.parametrize("after", ["nothing", "relu", "addition"])
@pytest.mark.parametrize("of_batch", [True, False])
def test_equals_tensorflow(random, shape, after, of_batch):
    statistics = [] if of_batch else [normal(random, shape[-1]), np.full(shape[-1], 1.5)]

    def function(normalize, relu):
        def compute(x, added, gamma, beta):
            y = normalize(x, gamma, beta, *[tf.cast(s, x.dtype) for s in statistics])
            if after == "nothing":
                return y + 0 * added
            return relu(y if after == "relu" else added + y) + 0 * added

        return compute

    assert_equal(
        function(ours, kernels.relu),
        function(exactly, tf.nn.relu),
        normal(random, *shape, mean=3),
        normal(random, *shape),
        *by_channel(random, shape[-1]),
    )


def test_relu_becomes_one_operator_with_what_it_follows(random):
    x, (gamma, beta) = normal(random, 4, 3, 3, 8), by_channel(random, 8)

    def types(function):
        return types_needed(function, x, gamma, beta)

    assert types(lambda *a: kernels.relu(ours(*a))) == ["Moments", "Normalize"]
    added = types(lambda *a: kernels.relu(tf.add(ours(*a), a[0])))
    assert added == ["Moments", "Normalize"]
    # What something else needs, too, stays.
    both = types(lambda *a: (y := ours(*a), kernels.relu(y)))
    assert both == ["Moments", "Normalize", "Normalize"]


def test_relu_of_anything_else_is_tensorflows(random):
    for x in (np.float32([-1, 2]), np.int32([-1, 2]), np.float64([-1, np.inf])):
        np.testing.assert_array_equal(kernels.relu(x), np.maximum(x, 0))
        np.testing.assert_array_equal(tf.function(kernels.relu)(x), np.maximum(x, 0))
    # A sum that repeats one of its summands is no residual.
    x, (gamma, beta) = normal(random, 4, 3, 3, 8), by_channel(random, 8)
    function = tf.function(lambda x: kernels.relu(ours(x, gamma, beta) + x[:1, :1, :1]))
    expected = tf.nn.relu(exactly(tf.constant(x), gamma, beta) + x[:1, :1, :1])
    np.testing.assert_allclose(function(x), expected, atol=1e-5)


def test_not_a_number_is_not_hidden():
    x = np.float32([[1.0], [np.nan]])
    compute = tf.function(lambda x: kernels.relu(ours(x, [1.0], [0.0], [0.0], [1.0])))
    assert np.isnan(compute(x).numpy()[1, 0])


CONVOLUTIONS = [
    # batch, height and width, channels, kernel, stride, padding
    (3, (7, 6), (5, 6), (3, 3), 1, "same"),
    (16, (5, 5), (16, 16), (3, 3), 1, "same"),
    (33, (6, 5), (32, 24), (3, 3), 2, "same"),
    (17, (8, 8), (20, 33), (1, 1), 1, "valid"),
    (5, (9, 7), (16, 8), (1, 1), 2, "valid"),
    (20, (9, 8), (7, 17), (5, 3), 1, "valid"),
]


def network(c, random):
    """Convolution, normalization, ReLU, convolution, normalization: ours, exact, its arguments."""
    batch, size, (inputs, outputs), kernel, stride, padding = c
    masks = [
        random.random(shape) < 0.3 for shape in ((3, 3, 2, inputs), (*kernel, inputs, outputs))
    ]

    def compute(convolve, normalize, relu):
        def function(images, first, gamma1, beta1, second, gamma2, beta2):
            x = convolve(images, first, masks[0], 1, "same")
            x = relu(normalize(x, gamma1, beta1))
            return normalize(convolve(x, second, masks[1], stride, padding), gamma2, beta2)

        return function

    def exact_convolve(x, kernel, mask, stride, padding):
        kernel = tf.where(mask, kernel, tf.zeros_like(kernel))
        return tf.nn.conv2d(x, kernel, stride, padding.upper())

    arguments = [normal(random, batch, *size, 2)]
    for mask in masks:
        arguments += [normal(random, *mask.shape), *by_channel(random, mask.shape[-1])]
    mine = compute(kernels.sparse_conv2d, ours, lambda x: kernels.relu(x, used_once=True))
    return mine, compute(exact_convolve, exactly, tf.nn.relu), arguments


@pytest.mark.parametrize("c", CONVOLUTIONS, ids=str)
def test_convolutions_normalize_what_they_read(random, c):
    mine, exact, arguments = network(c, random)
    assert types_needed(mine, *arguments) == [
        *["Moments"] * 2,
        "Normalize",  # the last one
        *["SparseConv2D"] * 2,
    ]
    assert_equal(mine, exact, *arguments)


def test_gradients_are_derived_while_they_are_read(random):
    mine, _, arguments = network(CONVOLUTIONS[0], random)

    def derive(*arguments):
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            y = mine(*arguments)
        return tape.gradient(y, arguments)

    types = types_needed(derive, *arguments)
    assert "Derive" not in types and types.count("SparseConv2DGradients") == 2


@pytest.mark.parametrize("wanted", ["images", "kernel", "scale", "all"])
def test_only_what_is_asked_for_is_derived(random, wanted):
    c = CONVOLUTIONS[1]
    x, (gamma, beta) = normal(random, c[0], *c[1], c[2][0]), by_channel(random, c[2][0])
    kernel = normal(random, 3, 3, *c[2])
    mask = random.random(kernel.shape) < 0.3

    def derive(convolve, normalize, relu, dtype):
        tensors = {"images": x, "scale": gamma, "kernel": kernel, "shift": beta}
        tensors = {name: tf.constant(value, dtype) for name, value in tensors.items()}
        asked = list(tensors.values()) if wanted == "all" else [tensors[wanted]]

        @tf.function
        def compute():
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(asked)
                y = relu(normalize(tensors["images"], tensors["scale"], tensors["shift"]))
                y = convolve(y, tensors["kernel"])
            return tape.gradient(y, asked)

        return compute()

    found = derive(
        lambda x, k: kernels.sparse_conv2d(x, k, mask, 1, "same"),
        ours,
        lambda x: kernels.relu(x, used_once=True),
        "float32",
    )
    expected = derive(
        lambda x, k: tf.nn.conv2d(x, tf.where(mask, k, tf.zeros_like(k)), 1, "SAME"),
        exactly,
        tf.nn.relu,
        "float64",
    )
    for one, other in zip(found, expected, strict=True):
        assert reference.error(one, other) < TOLERANCE


def residual_network(convolve, normalize, relu):
    """Two blocks, so that gradients of two branches meet."""

    def function(x, first, second, gamma, beta):
        for kernel in (first, second):
            x = relu(normalize(convolve(x, kernel), gamma, beta) + x)
        return x

    return function


def test_gradients_of_branches_are_added_on_the_way(random):
    mask = random.random((3, 3, 8, 8)) < 0.3
    arguments = [normal(random, 5, 6, 6, 8), normal(random, *mask.shape)]
    arguments += [normal(random, *mask.shape), *by_channel(random, 8)]
    mine = residual_network(
        lambda x, k: kernels.sparse_conv2d(x, k, mask, 1, "same"), ours, kernels.relu
    )
    assert_equal(
        mine,
        residual_network(
            lambda x, k: tf.nn.conv2d(x, tf.where(mask, k, tf.zeros_like(k)), 1, "SAME"),
            exactly,
            tf.nn.relu,
        ),
        *arguments,
    )

    def derive(*arguments):
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            y = mine(*arguments)
        return tape.gradient(y, arguments[1:2])

    graph = tf.function(derive).get_concrete_function(*map(tf.constant, arguments)).graph
    sums = [op for op in graph.get_operations() if op.type == "SpfdeNormalizeSums"]
    assert sorted(op.get_attr("added") for op in sums) == [0, 1]


def test_gradients_of_gradients_are_tensorflows(random):
    # As a penalty on gradients asks for, through all that is fused.
    def penalty(function):
        def compute(x, *arguments):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = function(x, *arguments)
                # Uneven, since normalization takes away what is common to all.
                weights = tf.reshape(tf.range(tf.size(y)) % 5, tf.shape(y))
                loss = tf.reduce_sum(y**3 * tf.cast(weights, y.dtype))
            return tape.gradient(loss, x)

        return compute

    for c in CONVOLUTIONS[:3]:
        mine, exact, arguments = network(c, random)
        assert_equal(penalty(mine), penalty(exact), *arguments, tolerance=1e-4)
    mask = random.random((3, 3, 8, 8)) < 0.3
    arguments = [normal(random, 5, 6, 6, 8), normal(random, *mask.shape)]
    arguments += [normal(random, *mask.shape), *by_channel(random, 8)]
    mine = residual_network(
        lambda x, k: kernels.sparse_conv2d(x, k, mask, 1, "same"), ours, kernels.relu
    )
    exact = residual_network(
        lambda x, k: tf.nn.conv2d(x, tf.where(mask, k, tf.zeros_like(k)), 1, "SAME"),
        exactly,
        tf.nn.relu,
    )
    assert_equal(penalty(mine), penalty(exact), *arguments, tolerance=1e-4)


def test_two_runs_are_equal_to_the_bit(random):
    mine, _, arguments = network((33, (16, 16), (32, 32), (3, 3), 1, "same"), random)
    first = derivatives(mine, arguments, "float32")
    for _ in range(3):
        for one, other in zip(first, derivatives(mine, arguments, "float32"), strict=True):
            np.testing.assert_array_equal(one, other)


def test_instruction_sets_agree(isa, random):
    module = operators()
    for rows, channels in [(1, 1), (7, 5), (300, 16), (129, 37), (64, 200)]:
        x, gradient, y = (normal(random, rows, channels) for _ in range(3))
        mean, variance = x.mean(axis=0), x.var(axis=0)
        gamma, beta = by_channel(random, channels)
        statistics = {"mean": mean, "variance": variance, "gamma": gamma, "beta": beta}
        line = (np.float64(x) - mean) / np.sqrt(np.float64(variance) + EPSILON) * gamma + beta
        options = {"epsilon": EPSILON, "of_batch": True, "isa": isa}
        for residual in ([], [y]):
            found = module.spfde_normalize(
                x=x, **statistics, residual=residual, relu=True, **options
            )
            expected = np.maximum(line + sum(residual), 0)
            assert reference.error(found, expected) < TOLERANCE
            sums = module.spfde_normalize_sums(
                gradient=gradient, x=x, **statistics, y=residual, more=[], relu=True, **options
            )
            passing = np.where((y if residual else line) > 0, np.float64(gradient), 0)
            assert reference.error(sums.of_beta, passing.sum(axis=0)) < TOLERANCE
            for one in sums.of_residual:
                np.testing.assert_array_equal(one, passing)


def test_shapes_that_do_not_fit():
    x, ones = np.ones((2, 3), "float32"), np.ones(3, "float32")
    module = operators()
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"`mean` must have shape \[3\]. R"):
        kernels.normalize(x, ones[:2], ones, ones, ones, EPSILON, True)
    with pytest.raises(tf.errors.InvalidArgumentError, match="must be 1 to 2.24 channels"):
        kernels.moments(np.ones((2, 0), "float32"))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"`residual` must have shape \[2,3\]"):
        module.spfde_normalize(
            x=x,
            mean=ones,
            variance=ones,
            gamma=ones,
            beta=ones,
            residual=[x[:1]],
            epsilon=EPSILON,
            relu=True,
            of_batch=True,
        )
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"`x` must have shape \[2,3\]"):
        module.spfde_derive(x, x[:1], ones, ones, ones, ones, ones, ones, passing=True)


def test_an_empty_batch():
    x = np.zeros((0, 4, 4, 3), "float32")
    y = ours(x, *np.ones((2, 3), "float32"))
    assert y.shape == x.shape
