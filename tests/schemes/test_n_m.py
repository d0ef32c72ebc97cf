import numpy as np
import pytest
import tensorflow as tf
from tensorflow_model_optimization.python.core.sparsity.keras.pruning_utils import is_pruned_m_by_n

from spfde_keras.layout import KernelLayout
from spfde_keras.schemes import NM

RNG = np.random.default_rng(0)

# Rows are inputs, columns outputs: groups run down the columns.
ELEMENTS = np.array(
    [
        [1, 9, 4, 1],
        [2, 8, 3, 2],
        [4, 7, 2, 3],
        [3, 1, 1, 0],
    ],
    np.float32,
)[None]


def test_each_group_keeps_its_n_largest():
    scheme = NM(2, 4)
    mask = scheme.select(scheme.scores(ELEMENTS), count=8, shape=ELEMENTS.shape, rng=RNG)
    assert mask[0].astype(int).tolist() == [
        [0, 1, 1, 0],
        [0, 1, 1, 1],
        [1, 0, 0, 1],
        [1, 0, 0, 0],
    ]


def test_fewer_than_n_where_the_count_is_smaller():
    scheme = NM(2, 4)
    # 7 is third largest, but its group is full.
    mask = scheme.select(scheme.scores(ELEMENTS), count=4, shape=ELEMENTS.shape, rng=RNG)
    assert mask[0].astype(int).tolist() == [
        [0, 1, 1, 0],
        [0, 1, 0, 0],
        [1, 0, 0, 0],
        [0, 0, 0, 0],
    ]


def test_a_surplus_is_spread_evenly():
    scheme = NM(1, 4)
    mask = scheme.select(scheme.scores(ELEMENTS), count=6, shape=ELEMENTS.shape, rng=RNG)
    assert mask.sum() == 6
    assert mask.sum(axis=1).max() == 2


@pytest.mark.parametrize(("n", "m"), [(1, 2), (2, 4), (1, 4), (1, 8), (3, 8), (2, 16)])
@pytest.mark.parametrize("shape", [(3, 3, 16, 5), (1, 1, 32, 3), (48, 7)])
def test_masks_pass_the_checker_of_tfmot(n, m, shape):
    positions = tuple(range(len(shape) - 2))
    layout = KernelLayout(shape, positions, inputs=(len(shape) - 2,), outputs=(len(shape) - 1,))
    scheme = NM(n, m)
    scheme.validate(layout, "kernel", scheme.density)
    rng = np.random.default_rng(n + m)
    count = scheme.count(layout, scheme.density)
    canonical = layout.canonical_shape

    mask = scheme.select(rng.random(canonical), count, canonical, rng)
    assert mask.sum() == count == layout.size * n // m
    # An update keeps the rule: drop a third, grow back at random.
    keep = scheme.select(
        np.where(mask, rng.random(canonical), -np.inf),
        count * 2 // 3,
        canonical,
        rng,
    )
    grown = scheme.select(
        np.where(keep, np.inf, rng.random(canonical)),
        count,
        canonical,
        rng,
    )
    assert (grown & keep).sum() == keep.sum() == count * 2 // 3

    for valid in (mask, keep, grown):
        weights = tf.constant(layout.from_canonical(valid).astype(np.float32))
        assert is_pruned_m_by_n(weights, m_by_n=(m - n, m))
    # One weight more breaks it.
    broken = grown.copy()
    broken.flat[np.flatnonzero(~grown.ravel())[0]] = True
    weights = tf.constant(layout.from_canonical(broken).astype(np.float32))
    assert not is_pruned_m_by_n(weights, m_by_n=(m - n, m))


def test_a_mask_grown_beyond_n_returns_to_n():
    scheme, shape = NM(2, 4), (9, 8, 6)
    rng = np.random.default_rng(0)
    exact = scheme.select(rng.random(shape), 216, shape, rng)
    grown = scheme.select(np.where(exact, np.inf, rng.random(shape)), 250, shape, rng)
    assert grown.sum() == 250 and grown[exact].all()
    dropped = scheme.select(np.where(grown, rng.random(shape), -np.inf), 216, shape, rng)
    assert (dropped.reshape(9, 2, 4, 6).sum(axis=2) == 2).all()


def test_density_is_fixed():
    assert NM(2, 4).density == 0.5
    assert NM(1, 8).density == 0.125


def test_refuses_inputs_that_do_not_divide():
    layout = KernelLayout((3, 3, 3, 8), spatial=(0, 1), inputs=(2,), outputs=(3,))
    with pytest.raises(ValueError, match="'net/conv/kernel'") as error:
        NM(2, 4).validate(layout, "net/conv/kernel", 0.5)
    for word in ["a multiple of 4 inputs", "3 inputs", "another scheme", "`dense=`"]:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("n", "m", "message"),
    [
        (4, 4, "`n` must be smaller than `m`. Received: 4:4"),
        (5, 4, "`n` must be smaller than `m`. Received: 5:4"),
        (0, 4, "`n` must be an integer of at least 1. Received: 0"),
        (2, 4.0, "`m` must be an integer of at least 1. Received: 4.0"),
        (True, 4, "`n` must be an integer of at least 1. Received: True"),
    ],
)
def test_refuses_numbers_out_of_range(n, m, message):
    with pytest.raises(ValueError, match=message):
        NM(n, m)
