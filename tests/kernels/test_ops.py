"""Sparse convolutions and products against NumPy in double precision, and TensorFlow's own."""

import concurrent.futures
import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from spfde_keras.kernels import sparse_conv1d, sparse_conv2d, sparse_matmul
from spfde_keras.kernels.library import operators
from tests.kernels import reference

pytestmark = pytest.mark.usefixtures("sparse_kernels")

InvalidArgumentError = tf.errors.InvalidArgumentError
TOLERANCE = 1e-5  # of the largest value
CASES = 100


@dataclasses.dataclass
class Case:
    images: np.ndarray
    kernel: np.ndarray  # garbage where it is not kept
    mask: np.ndarray
    stride: int
    padding: str

    @property
    def masked(self):
        return np.where(self.mask, self.kernel, 0)

    def expected(self, random):
        gradient = []

        def draw(shape):
            gradient.append(random.normal(size=shape).astype("float32"))
            return gradient[0]

        outputs, of_images, of_kernel = reference.convolve(
            self.images, self.masked, draw, self.stride, self.pads
        )
        return outputs, of_images, np.where(self.mask, of_kernel, 0), gradient[0]

    @property
    def pads(self):
        sizes = zip(self.images.shape[1:3], self.kernel.shape[:2], strict=True)
        return [reference.padding(*size, self.stride, self.padding) for size in sizes]


def case(random, batch=3, size=(7, 6), kernel=(3, 3), channels=(5, 6), density=0.3, **options):
    shape = (*kernel, *channels)
    mask = random.random(shape) < density
    values = random.normal(size=shape)
    values[~mask] = np.nan
    images = random.normal(size=(batch, *size, channels[0]))
    options = {"stride": 1, "padding": "valid"} | options
    return Case(images.astype("float32"), values.astype("float32"), mask, **options)


def random_case(random):
    rows, columns = random.integers(1, 6, 2)
    wide = random.random() < 0.3  # many pixels that see their column only
    columns = 1 if wide else columns
    padding = random.choice(["same", "valid"])
    least = (rows, columns) if padding == "valid" else (1, 1)
    return case(
        random,
        batch=random.integers(1, 5 if wide else 41),
        size=(int(random.integers(least[0], 20)), int(random.integers(least[1], 20)) + 60 * wide),
        kernel=(rows, columns if wide or random.random() < 0.5 else min(rows, least[1])),
        channels=tuple(random.integers(1, 41, 2)),
        density=random.choice([0, 0.02, 0.1, 0.5, 1]),
        stride=int(random.integers(1, 3)),
        padding=str(padding),
    )


@pytest.fixture
def random():
    return np.random.default_rng(0)


def test_by_hand():
    # Two of 2x2 weights: each output is 2 * the pixel + 3 * the one right below it.
    images = np.arange(16, dtype="float32").reshape(1, 4, 4, 1)
    kernel = tf.constant([[2.0, 7.0], [7.0, 3.0]])[..., None, None]
    mask = np.array([[True, False], [False, True]])[..., None, None]
    with tf.GradientTape() as tape:
        tape.watch([kernel, images := tf.constant(images)])
        outputs = sparse_conv2d(images, kernel, mask)
    expected = [[15, 20, 25], [35, 40, 45], [55, 60, 65]]
    np.testing.assert_array_equal(outputs[0, ..., 0], expected)
    first = tf.one_hot([0], 9) * 10.0
    of_images, of_kernel = tape.gradient(
        outputs, [images, kernel], output_gradients=tf.reshape(first, outputs.shape)
    )
    expected = np.zeros((4, 4))
    expected[0, 0], expected[1, 1] = 20, 30
    np.testing.assert_array_equal(of_images[0, ..., 0], expected)
    np.testing.assert_array_equal(of_kernel[..., 0, 0], [[0, 0], [0, 50]])

    outputs = sparse_conv2d(images, kernel, mask, stride=2, padding="same")
    np.testing.assert_array_equal(outputs[0, ..., 0], [[15, 25], [55, 65]])
    outputs = sparse_conv2d(images, kernel, mask, padding="same")
    np.testing.assert_array_equal(outputs[0, :, 3, 0], [6, 14, 22, 30])


def test_random_shapes_on_each_instruction_set(isa):
    module, random = operators(), np.random.default_rng(sum(map(ord, isa)))
    for _ in range(CASES):
        c = random_case(random)
        options = {"mask": c.mask, "stride": c.stride, "pad": [*c.pads[0], *c.pads[1]], "isa": isa}
        images = {"images": c.images, "normalization": []}
        outputs, of_images, of_kernel, gradient = c.expected(random)
        asked = options | {"gradient": gradient, "derivation": []}
        both = module.spfde_sparse_conv2d_gradients(kernel=c.kernel, **images, **asked)
        found = {
            "outputs": module.spfde_sparse_conv2d(kernel=c.kernel, **images, **options),
            "input gradient": module.spfde_sparse_conv2d_input_gradient(
                sizes=c.images.shape, kernel=c.kernel, **asked
            ),
            "kernel gradient": module.spfde_sparse_conv2d_kernel_gradient(**images, **asked),
            "input gradient of both": both.of_images,
            "kernel gradient of both": both.of_kernel,
        }
        expected = [outputs, of_images, of_kernel, of_images, of_kernel]
        for (name, values), exact in zip(found.items(), expected, strict=True):
            off = reference.error(values, exact)
            assert off < TOLERANCE, f"{name} off by {off} with {c.images.shape}, {options}"
        for name in ("kernel gradient", "kernel gradient of both"):
            assert not found[name].numpy()[~c.mask].any()


def test_random_shapes_against_tensorflow(random):
    for _ in range(40):
        c = random_case(random)
        found, expected = [], []
        for results, function, kernel in [
            (found, lambda x, k, c=c: sparse_conv2d(x, k, c.mask, c.stride, c.padding), c.kernel),
            (expected, lambda x, k, c=c: tf.nn.conv2d(x, k, c.stride, c.padding.upper()), c.masked),
        ]:
            images, kernel = tf.constant(c.images), tf.constant(kernel)
            with tf.GradientTape() as tape:
                tape.watch([images, kernel])
                outputs = function(images, kernel)
                loss = tf.reduce_sum(outputs**2)
            results += [outputs, *tape.gradient(loss, [images, kernel])]
        expected[2] = np.where(c.mask, expected[2], 0)
        for values, exact in zip(found, expected, strict=True):
            assert reference.error(values, exact) < TOLERANCE


def test_two_runs_are_equal_to_the_bit(random):
    c = case(random, batch=33, size=(16, 16), channels=(32, 32), padding="same")
    images, kernel = tf.constant(c.images), tf.constant(c.kernel)

    def run():
        with tf.GradientTape() as tape:
            tape.watch([images, kernel])
            outputs = sparse_conv2d(images, kernel, c.mask, 1, "same")
        return outputs, *tape.gradient(outputs, [images, kernel], output_gradients=outputs)

    first = run()
    for _ in range(5):
        for one, other in zip(first, run(), strict=True):
            np.testing.assert_array_equal(one, other)


def check(c, function, random):
    """Whether a function of images and mask gives the outputs and both gradients."""
    outputs, of_images, of_kernel, gradient = c.expected(random)
    found = function(c.images, c.kernel, c.mask, gradient)
    for values, exact in zip(found, [outputs, of_images, of_kernel], strict=True):
        assert reference.error(values, exact) < TOLERANCE


def compiled(batch, traces, **options):
    """The function of `check`, with a batch that may be unknown; a trace is noted in `traces`."""
    sizes = [None, 7, 6, 5]
    sizes[0] = batch

    @tf.function(
        input_signature=[
            tf.TensorSpec(sizes),
            tf.TensorSpec([3, 3, 5, 6]),
            tf.TensorSpec([3, 3, 5, 6], tf.bool),
            tf.TensorSpec([batch, None, None, 6]),
        ]
    )
    def function(images, kernel, mask, gradient):
        traces.append(images.shape)
        with tf.GradientTape() as tape:
            tape.watch([images, kernel])
            outputs = sparse_conv2d(images, kernel, mask, **options)
        return outputs, *tape.gradient(outputs, [images, kernel], output_gradients=gradient)

    return function


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_masks_and_batches_change_without_a_new_trace(random, stride, padding):
    traces = []
    function = compiled(None, traces, stride=stride, padding=padding)
    for batch in [1, 7, 33, 7, 1]:
        c = case(random, batch=batch, stride=stride, padding=padding)
        check(c, function, random)
        c.mask[:] = random.random(c.mask.shape) < 0.1
        c.kernel[:] = np.where(c.mask, random.normal(size=c.mask.shape), np.nan)
        check(c, function, random)
    assert len(traces) == 1


def test_many_masks_in_turn(random):
    # More than are remembered.
    cases = [case(random) for _ in range(20)]
    function = compiled(3, [])
    for _ in range(2):
        for c in cases:
            check(c, function, random)


def test_many_threads_share_an_operator(random):
    cases = [case(random, density=0.2 + 0.03 * i) for i in range(20)]
    function = compiled(3, [])
    function.get_concrete_function()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(check, c, function, np.random.default_rng(1)) for c in cases * 5]
        for job in jobs:
            job.result()


def test_one_gradient_alone_computes_no_other(random):
    c = case(random, padding="same")
    _, of_images, of_kernel, gradient = c.expected(random)

    @tf.function
    def derive(images, kernel, *, of):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            source = {"images": images, "kernel": kernel}[of]
            tape.watch(source)
            outputs = sparse_conv2d(images, kernel, c.mask, padding="same")
        return tape.gradient(outputs, source, output_gradients=gradient)

    for of, expected, operator in [
        ("images", of_images, "SpfdeSparseConv2DInputGradient"),
        ("kernel", of_kernel, "SpfdeSparseConv2DKernelGradient"),
    ]:
        images, kernel = tf.constant(c.images), tf.constant(c.kernel)
        assert reference.error(derive(images, kernel, of=of), expected) < TOLERANCE
        graph = derive.get_concrete_function(images, kernel, of=of).graph
        types = [op.type for op in graph.get_operations() if "Spfde" in op.type]
        assert types == ["SpfdeSparseConv2D", operator]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("first", [("images",), ("kernel",), ("images", "kernel")])
def test_gradients_of_gradients_are_tensorflows(random, first, stride):
    # As a penalty on gradients asks for.
    c = case(random, stride=stride, padding="same")

    def derive(function, kernel):
        tensors = {"images": tf.constant(c.images), "kernel": tf.constant(kernel)}
        with tf.GradientTape() as outer:
            outer.watch(tensors)
            with tf.GradientTape(watch_accessed_variables=False) as inner:
                asked = [tensors[name] for name in first]
                inner.watch(asked)
                loss = tf.reduce_sum(function(**tensors) ** 3)
            penalty = tf.add_n([tf.reduce_sum(g**2) for g in inner.gradient(loss, asked)])
        return outer.gradient(penalty, [tensors["images"], tensors["kernel"]])

    found = derive(
        lambda images, kernel: sparse_conv2d(images, kernel, c.mask, stride, "same"), c.masked
    )
    expected = derive(
        lambda images, kernel: tf.nn.conv2d(images, tf.where(c.mask, kernel, 0.0), stride, "SAME"),
        c.masked,
    )
    assert not found[1].numpy()[~c.mask].any()
    for one, other in zip(found, expected, strict=True):
        assert reference.error(one, other) < TOLERANCE


@pytest.mark.parametrize("shape", [(5, 6), (1, 1)])
def test_an_empty_batch(random, shape):
    # As the last replica gets, where there are fewer samples than replicas.
    c = case(random, batch=0, kernel=(1, 1), channels=shape)
    images, kernel = tf.constant(c.images), tf.constant(c.kernel)
    with tf.GradientTape() as tape:
        tape.watch([images, kernel])
        outputs = sparse_conv2d(images, kernel, c.mask)
        loss = tf.reduce_sum(outputs)
    of_images, of_kernel = tape.gradient(loss, [images, kernel])
    assert outputs.shape == (0, 7, 6, shape[1]) and of_images.shape == images.shape
    np.testing.assert_array_equal(of_kernel, np.zeros(kernel.shape))


IMAGES, KERNEL = np.ones((2, 6, 6, 4), "float32"), np.ones((3, 2, 4, 8), "float32")
MASK = KERNEL > 0


def test_shapes_are_known_while_tracing():
    for size, stride, padding, expected in [
        ([None, 9, 8], 1, "valid", [None, 7, 7]),
        ([None, 9, 8], 2, "same", [None, 5, 4]),
        ([2, None, 8], 2, "valid", [2, None, 4]),
    ]:
        function = tf.function(lambda x, s=stride, p=padding: sparse_conv2d(x, KERNEL, MASK, s, p))
        outputs = function.get_concrete_function(tf.TensorSpec([*size, 4])).outputs[0]
        assert outputs.shape.as_list() == [*expected, 8]


@pytest.mark.parametrize("shape", [(), (1,), (33,), (3, 7)])
def test_matmul(random, shape):
    inputs = random.normal(size=(*shape, 24)).astype("float32")
    kernel = random.normal(size=(24, 11)).astype("float32")
    mask = random.random(kernel.shape) < 0.2
    tensors = [tf.constant(inputs), tf.constant(np.where(mask, kernel, np.nan))]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        outputs = sparse_matmul(*tensors, mask)
        loss = tf.reduce_sum(outputs**2)
    of_inputs, of_kernel = tape.gradient(loss, tensors)
    exact = np.float64(inputs) @ (kernel * mask)
    rows = inputs.reshape(-1, 24)
    assert reference.error(outputs, exact) < TOLERANCE
    assert reference.error(of_inputs, 2 * exact @ (kernel * mask).T) < TOLERANCE
    assert reference.error(of_kernel, 2 * rows.T @ exact.reshape(-1, 11) * mask) < TOLERANCE


def test_matmul_of_an_unknown_batch(random):
    kernel, mask = np.ones((4, 3), "float32"), np.eye(4, 3) > 0
    function = tf.function(
        lambda x: sparse_matmul(x, kernel, mask), input_signature=[tf.TensorSpec([None, 5, 4])]
    )
    inputs = random.normal(size=(2, 5, 4)).astype("float32")
    np.testing.assert_allclose(function(inputs), inputs[..., :3], rtol=1e-6)
    assert function.get_concrete_function().outputs[0].shape.as_list() == [None, 5, 3]


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ((IMAGES, KERNEL, MASK, 3), ValueError, "`stride` must be 1 or 2. Received: 3"),
        ((IMAGES, KERNEL, MASK, 1, "full"), ValueError, "`padding` must be .* Received: 'full'"),
        ((tf.constant(1, shape=(2, 6, 6, 4)), KERNEL, MASK), ValueError, "dtype float32"),
        ((IMAGES[..., :3], KERNEL, MASK), InvalidArgumentError, "`images` must have the channels"),
        ((IMAGES[:, :2], KERNEL, MASK), InvalidArgumentError, "`kernel` must not be larger"),
        ((IMAGES[0], KERNEL, MASK), InvalidArgumentError, "`images` must have 4 dimensions"),
        ((IMAGES, KERNEL, MASK[:2]), InvalidArgumentError, "`kernel` must have shape .2,2,4,8."),
        ((IMAGES, KERNEL[0], MASK), InvalidArgumentError, "`kernel` must have shape .3,2,4,8."),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        sparse_conv2d(*arguments)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_images_of_unknown_sizes(random, stride, padding):
    kernel = tf.constant(random.normal(size=(3, 2, 5, 6)), tf.float32)
    mask = random.random(kernel.shape) < 0.3

    def derive(convolve, images):
        with tf.GradientTape() as tape:
            tape.watch([images, kernel])
            outputs = convolve(images)
            loss = tf.reduce_sum(outputs**2)
        return outputs, *tape.gradient(loss, [images, kernel])

    function = tf.function(
        lambda x: derive(lambda x: sparse_conv2d(x, kernel, mask, stride, padding), x)
    ).get_concrete_function(tf.TensorSpec([None, None, None, 5]))
    assert function.structured_outputs[0].shape.as_list() == [None, None, None, 6]
    for size in [(2, 9, 8), (3, 4, 5), (1, 3, 2), (2, 6, 9)]:
        images = tf.constant(random.normal(size=(*size, 5)), tf.float32)
        expected = derive(
            lambda x: tf.nn.conv2d(x, tf.where(mask, kernel, 0.0), stride, padding.upper()), images
        )
        for one, other in zip(function(images), expected, strict=True):
            assert reference.error(one, other) < TOLERANCE


@pytest.mark.parametrize("padding", ["valid", "same", "causal"])
@pytest.mark.parametrize("stride, dilation", [(1, 1), (2, 1), (1, 2), (1, 3), (1, 4)])
@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_sequences(random, padding, stride, dilation, steps):
    kernel = random.normal(size=(steps, 5, 6)).astype("float32")
    mask = random.random(kernel.shape) < 0.3

    def convolve(sequences):
        return sparse_conv1d(sequences, kernel, mask, stride, padding, dilation)

    unknown = tf.function(convolve).get_concrete_function(tf.TensorSpec([None, None, 5]))
    assert unknown.outputs[0].shape.as_list() == [None, None, 6]
    for length in (13, 15, 16):
        sequences = random.normal(size=(3, length, 5)).astype("float32")
        before = (steps - 1) * dilation if padding == "causal" else 0
        exact = keras.ops.conv(
            np.pad(sequences, [(0, 0), (before, 0), (0, 0)]),
            np.where(mask, kernel, 0),
            strides=stride,
            padding="same" if padding == "same" else "valid",
            dilation_rate=dilation,
        )
        for found in (convolve(sequences), unknown(tf.constant(sequences))):
            assert reference.error(found, exact) < TOLERANCE


def test_sequences_have_their_shape_while_tracing():
    kernel, mask = KERNEL[:, 0], MASK[:, 0]
    for sizes, options, expected in [
        ([None, 12, 4], {"padding": "causal", "dilation": 5}, [None, 12, 8]),
        ([2, 12, 4], {"dilation": 4}, [2, 4, 8]),
        ([2, 13, 4], {"padding": "same", "stride": 2}, [2, 7, 8]),
        ([2, None, 4], {"padding": "same"}, [2, None, 8]),
    ]:
        function = tf.function(lambda x, o=options: sparse_conv1d(x, kernel, mask, **o))
        outputs = function.get_concrete_function(tf.TensorSpec(sizes)).outputs[0]
        assert outputs.shape.as_list() == expected


def test_whole_rows_of_sequences_are_not_copied():
    kernel, mask = tf.constant(KERNEL[:, 0]), MASK[:, 0]

    def derive(x):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            loss = tf.reduce_sum(sparse_conv1d(x, kernel, mask, padding="causal", dilation=4))
        return tape.gradient(loss, [x, kernel])

    graph = tf.function(derive).get_concrete_function(tf.TensorSpec([2, 12, 4])).graph
    types = {op.type for op in graph.get_operations()}
    assert not types & {"Pad", "PadV2", "Slice", "StridedSliceGrad", "Transpose"}


def test_products_over_several_axes(random):
    inputs = random.normal(size=(2, 3, 4, 5)).astype("float32")
    kernel = random.normal(size=(4, 5, 2, 6)).astype("float32")
    mask = random.random(kernel.shape) < 0.3
    found = sparse_matmul(inputs, kernel, mask, axes=2)
    exact = np.einsum("abcd,cdef->abef", np.float64(inputs), np.where(mask, kernel, 0))
    assert reference.error(found, exact) < TOLERANCE


@pytest.mark.parametrize(
    "options, message",
    [
        ({"stride": 3}, "`stride` must be 1 or 2. Received: 3"),
        ({"padding": "full"}, "`padding` must be one of .*'causal'. Received: .full."),
        ({"dilation": 0}, "`dilation` must be an integer of at least 1. Received: 0"),
        ({"dilation": 2, "stride": 2}, "1 with a stride of 2. Received: dilation=2, stride=2"),
    ],
)
def test_wrong_arguments_of_sequences_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        sparse_conv1d(IMAGES[:, 0], KERNEL[:, 0], MASK[:, 0], **options)
