import numpy as np
import pytest

from spfde_keras.layout import KernelLayout
from spfde_keras.schemes import Pattern
from spfde_keras.schemes.pattern import PATTERNS

RNG = np.random.default_rng(0)


def conv_layout(*shape):
    return KernelLayout(shape, spatial=(0, 1), inputs=(2,), outputs=(3,))


def mask_of(elements, count):
    scheme = Pattern()
    return scheme.expand(
        scheme.select(scheme.scores(elements), count, elements.shape, rng=RNG),
        elements.shape,
    )


def test_dictionary_has_distinct_patterns_of_the_centre_and_three_neighbours():
    assert PATTERNS.shape == (8, 9)
    assert (PATTERNS.sum(axis=1) == 4).all()
    assert (PATTERNS[:, 4] == 1).all()
    assert len(np.unique(PATTERNS, axis=0)) == 8
    # Turning a kernel turns its pattern into another of the dictionary.
    turned = np.rot90(PATTERNS.reshape(8, 3, 3), axes=(1, 2)).reshape(8, 9)
    np.testing.assert_array_equal(np.unique(turned, axis=0), np.unique(PATTERNS, axis=0))


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        # The T without the upper position has 1 + 4 + 9 + 4; the best square 4 + 9 + 4.
        (
            [[0, 1, 0], [2, 3, 2], [0, 1.5, 0]],
            [[0, 0, 0], [1, 1, 1], [0, 1, 0]],
        ),
        # The large corner is only in a square.
        (
            [[0, 1, 5], [2, 1, 1], [0, 2, 0]],
            [[0, 1, 1], [0, 1, 1], [0, 0, 0]],
        ),
        # The centre comes along.
        (
            [[0, 4, 0], [4, 0, 0], [0, 4, 0]],
            [[0, 1, 0], [1, 1, 0], [0, 1, 0]],
        ),
    ],
)
def test_a_kernel_keeps_the_pattern_with_the_largest_norm(kernel, expected):
    elements = np.array(kernel, np.float32).reshape(9, 1, 1)
    assert mask_of(elements, 1).reshape(3, 3).astype(int).tolist() == expected


def test_each_output_keeps_as_many_kernels():
    # Norms of 1x1 kernels: rows are inputs, columns outputs. Output 0 has the three largest.
    elements = np.array(
        [
            [9, 1, 3, 0],
            [8, 2, 1, 2],
            [7, 4, 2, 1],
            [1, 3, 5, 4],
        ],
        np.float32,
    )[None]
    assert mask_of(elements, 8)[0].astype(int).tolist() == [
        [1, 0, 1, 0],
        [1, 0, 0, 1],
        [0, 1, 0, 0],
        [0, 1, 1, 1],
    ]


def test_kernels_are_compared_by_what_their_pattern_keeps():
    # The first kernel is larger, but a pattern keeps only one of its corners.
    corners = np.array([[3, 0, 3], [0, 0, 0], [3, 0, 3]])
    centre = np.array([[0, 0, 0], [0, 4, 0], [0, 0, 0]])
    elements = np.stack([corners, centre], axis=-1).reshape(9, 2, 1).astype(np.float32)
    assert mask_of(elements, 1).any(axis=(0, 2)).tolist() == [False, True]


def test_active_kernels_keep_their_pattern_while_others_grow():
    scheme, shape = Pattern(), (9, 4, 2)
    rng = np.random.default_rng(0)
    keep = scheme.select(scheme.scores(rng.random(shape)), 4, shape, rng=RNG)
    scores = scheme.scores(rng.random(shape))
    grown = scheme.select(np.where(keep, np.inf, scores), 6, shape, rng=RNG)
    np.testing.assert_array_equal(grown & keep, keep)
    assert grown.sum() == 6
    assert (grown.sum(axis=0) <= 1).all()
    assert grown.sum(axis=(0, 1)).tolist() == [3, 3]


def test_a_dense_mask_is_reduced_to_all_patterns_and_selects_the_best():
    elements = np.random.default_rng(0).random((9, 4, 4))
    scheme = Pattern()
    active = scheme.reduce(np.ones(elements.shape, bool))
    assert active.all()
    scores = np.where(active, scheme.scores(elements), -np.inf)
    units = scheme.select(scores, 16, elements.shape, rng=RNG)
    np.testing.assert_array_equal(units.argmax(axis=0), scheme.scores(elements).argmax(axis=0))


@pytest.mark.parametrize(
    ("density", "per_output"),
    [(0.1, 4), (0.25, 9), (4 / 9, 16), (0.6, 16), (1.0, 16), (0.001, 1)],
)
def test_count_for_3x3_kernels(density, per_output):
    assert Pattern().count(conv_layout(3, 3, 16, 8), density) == 8 * per_output


def test_count_for_1x1_kernels_and_dense_layers():
    assert Pattern().count(conv_layout(1, 1, 16, 8), 0.75) == 8 * 12
    dense = KernelLayout((16, 8), spatial=(), inputs=(0,), outputs=(1,))
    assert Pattern().count(dense, 1.0) == 8 * 16


def test_accepts_the_largest_density_of_each_shape():
    Pattern().validate(conv_layout(3, 3, 4, 4), "k", 1 - 5 / 9)
    Pattern().validate(conv_layout(3, 3, 1, 4), "k", 0.1)
    Pattern().validate(conv_layout(1, 1, 4, 4), "k", 0.9)


@pytest.mark.parametrize(
    ("shape", "density", "words"),
    [
        ((5, 5, 4, 4), 0.1, ["3x3 or 1x1", "5x5 positions"]),
        ((1, 9, 4, 4), 0.1, ["3x3 or 1x1", "1x9 positions"]),
        ((3, 3, 4, 4), 0.5, ["at least 5/9", "sparsity 0.5", "Raise `sparsity`"]),
        ((1, 1, 1, 4), 0.5, ["at least 2 inputs", "1 input"]),
    ],
)
def test_refuses(shape, density, words):
    with pytest.raises(ValueError, match="'net/conv/kernel'") as error:
        Pattern().validate(conv_layout(*shape), "net/conv/kernel", density)
    for word in [*words, "another scheme", "`dense=`"]:
        assert word in str(error.value)
