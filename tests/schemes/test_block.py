import numpy as np
import pytest

from spfde_keras.layout import KernelLayout
from spfde_keras.schemes import Block

RNG = np.random.default_rng(0)

# Rows are inputs, columns outputs.
ELEMENTS = np.array(
    [
        [3, 4, 0, 0],
        [0, 0, 1, 0],
        [6, 8, 2, 0],
        [0, 0, 0, 3],
    ],
    np.float32,
)[None]


def dense_layout(inputs, outputs):
    return KernelLayout((inputs, outputs), spatial=(), inputs=(0,), outputs=(1,))


def test_blocks_are_scored_by_their_norm():
    assert Block(outputs=2).scores(ELEMENTS).tolist() == [[[5, 0], [0, 1], [10, 2], [0, 3]]]
    np.testing.assert_allclose(
        Block(outputs=2, inputs=2).scores(ELEMENTS), [[[5, 1], [10, 13**0.5]]], rtol=1e-6
    )


def test_the_best_blocks_are_kept_whole():
    scheme = Block(outputs=2)
    units = scheme.select(scheme.scores(ELEMENTS), count=3, shape=ELEMENTS.shape, rng=RNG)
    assert scheme.expand(units, ELEMENTS.shape)[0].astype(int).tolist() == [
        [1, 1, 0, 0],
        [0, 0, 0, 0],
        [1, 1, 0, 0],
        [0, 0, 1, 1],
    ]


def test_blocks_of_several_inputs():
    scheme = Block(outputs=1, inputs=2)
    units = scheme.select(scheme.scores(ELEMENTS), count=2, shape=ELEMENTS.shape, rng=RNG)
    assert scheme.expand(units, ELEMENTS.shape)[0].astype(int).tolist() == [
        [0, 0, 0, 0],
        [0, 0, 0, 0],
        [1, 1, 0, 0],
        [1, 1, 0, 0],
    ]


def test_blocks_do_not_reach_across_kernel_positions():
    elements = np.zeros((2, 1, 4), np.float32)
    elements[1, 0, 3] = 1
    scheme = Block()
    mask = scheme.expand(
        scheme.select(scheme.scores(elements), 1, elements.shape, rng=RNG),
        elements.shape,
    )
    assert mask[:, 0].tolist() == [[False] * 4, [True] * 4]


def test_count_is_of_blocks():
    scheme = Block(outputs=4, inputs=2)
    assert scheme.count(dense_layout(16, 8), density=0.25) == 4
    assert scheme.count(dense_layout(16, 8), density=0.001) == 1
    assert scheme.count(dense_layout(16, 8), density=1.5) == 16


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        (dense_layout(4, 10), ["a multiple of 4 outputs", "10 outputs"]),
        (dense_layout(3, 8), ["a multiple of 2 inputs", "3 inputs"]),
    ],
)
def test_refuses_shapes_that_do_not_divide(layout, words):
    with pytest.raises(ValueError, match="'net/dense/kernel'") as error:
        Block(outputs=4, inputs=2).validate(layout, "net/dense/kernel", 0.1)
    for word in [*words, "another scheme", "`dense=`"]:
        assert word in str(error.value)


@pytest.mark.parametrize("size", [0, -4, 2.0, "4", True])
def test_refuses_sizes_that_are_not_positive_integers(size):
    with pytest.raises(ValueError, match="`outputs` must be an integer of at least 1. Received: "):
        Block(outputs=size)
    with pytest.raises(ValueError, match="`inputs` must be an integer of at least 1. Received: "):
        Block(inputs=size)
