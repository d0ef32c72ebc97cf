import math

import numpy as np
import pytest

from spfde_keras import updaters
from spfde_keras.layers import MaskedDense
from spfde_keras.updaters import Moment, Mutation
from spfde_keras.updaters.prune_and_regrow import PruneAndRegrow
from tests.updaters.mutations import mutate

# The time at which a cubic curve over all of training has come half of its way.
HALF = 1 - 0.5 ** (1 / 3)


@pytest.fixture
def gradient():
    """Largest where the kernel is largest, too; -9 and 8 are the largest of the others."""
    return np.array([[0, 0, 8, 1], [9, 2, 9, 3], [4, 9, -9, 9], [5, 6, 9, 9]], np.float32)


def test_an_update_drops_by_size_and_grows_by_gradient(kernel, gradient, make_mask, rng):
    """From 8 weights of 16 to 6: the smallest 4 go, 2 come."""
    gradient[1, [0, 2]] = 10
    subnet = make_mask(kernel, sparsity=0.75).subnets[0]
    change = mutate(
        PruneAndRegrow(0.5, fraction=1 / 3, end=1.0), Moment.UPDATE, subnet, HALF, rng, gradient
    )
    after, mask = subnet.read()
    # 1, 2, 3 and 4 go; those at gradients of 10 come, which have been dropped just now.
    assert mask.astype(int).tolist() == [[0, 0, 0, 0], [1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 1, 1]]
    assert after.tolist() == [[0, 0, 0, 0], [3, 0, -4, 0], [0, 5, 0, -6], [0, 0, 7, 8]]
    assert np.argwhere(change.fresh).tolist() == [[0, 0], [0, 1]]
    assert change.overlap == 6 / 8


def test_weights_that_were_free_grow_at_zero(kernel, gradient, make_mask, rng):
    gradient[1] = 0
    subnet = make_mask(kernel, sparsity=0.75).subnets[0]
    mutate(PruneAndRegrow(0.5, fraction=1 / 3, end=1.0), Moment.UPDATE, subnet, HALF, rng, gradient)
    after, mask = subnet.read()
    assert mask.astype(int).tolist() == [[0, 0, 1, 0], [0, 0, 0, 0], [0, 1, 1, 1], [0, 0, 1, 1]]
    assert after.tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 5, 0, -6], [0, 0, 7, 8]]


def test_the_start_grows_at_random_to_the_initial_density(kernel, make_mask, rng):
    subnet = make_mask(kernel, sparsity=0.75).subnets[0]
    mutate(PruneAndRegrow(0.75), Moment.START, subnet, 0.0, rng)
    after, mask = subnet.read()
    assert mask.sum() == 12
    np.testing.assert_array_equal(after, kernel)


def test_settling_leaves_the_largest_weights(kernel, make_mask, rng):
    subnet = make_mask(kernel, sparsity=0.75).subnets[0]
    mutate(PruneAndRegrow(), Moment.SETTLE, subnet, 1.0, rng, np.ones((4, 4), np.float32))
    after, mask = subnet.read()
    assert sorted(np.abs(after[mask])) == [5, 6, 7, 8]


def test_the_density_falls_on_a_cubic_curve_until_its_end():
    updater = PruneAndRegrow(initial_density=0.5, end=0.8)
    for t in (0.0, 0.1, 0.2, 0.4, 0.6, 0.7999, 0.8, 0.9, 1.0):
        expected = 0.1 + 0.4 * max(0.0, 1 - t / 0.8) ** 3
        assert updater.densities(t, 0.1)[1] == pytest.approx(expected, abs=1e-12)
    assert updater.plan(Moment.UPDATE, 0.4, 0.1).density == pytest.approx(0.15)


def test_by_default_it_follows_the_papers_schedule():
    """From 0.5 until epoch 110 of 160; half of the weights exchanged at first, few at last."""
    updater = PruneAndRegrow()
    assert updater.densities(0.0, 0.1) == (0.25, 0.5)
    assert updater.densities(55 / 160, 0.1)[1] == pytest.approx(0.1 + 0.4 / 8)
    assert updater.densities(109 / 160, 0.1)[1] > 0.1
    assert updater.densities(110 / 160, 0.1)[1] == pytest.approx(0.1)
    for t in (0.1, 0.5, 0.9):
        drop_to, grow_to = updater.densities(t, 0.1)
        exchanged = 0.005 + 0.495 * (1 + math.cos(math.pi * t)) / 2
        assert drop_to == pytest.approx(grow_to * (1 - exchanged))


def test_a_kernel_denser_than_the_initial_density_stays_as_it_is():
    updater = PruneAndRegrow(initial_density=0.25)
    for t in (0.0, 0.3, 1.0):
        assert updater.plan(Moment.UPDATE, t, 0.6).density == pytest.approx(0.6)


def test_masks_rest_from_stop_on():
    updater = PruneAndRegrow(fraction=0.5, end=0.5, stop=0.75)
    assert updater.plan(Moment.UPDATE, 0.6, 0.1) == Mutation(0.05, 0.1, "dense")
    assert updater.plan(Moment.UPDATE, 0.75, 0.1) == Mutation(0.1, 0.1, "dense")


def test_it_asks_for_the_dense_gradient_and_starts_best_from_a_dense_model():
    assert PruneAndRegrow().gradient == "dense"
    assert PruneAndRegrow().initial == "dense"


@pytest.mark.parametrize(("first", "kept"), [(0.5, 8), (1.0, 16)])
def test_the_start_of_a_dense_kernel_keeps_weights_as_they_are(first, kept, make_mask, rng):
    kernel = np.arange(1, 17, dtype=np.float32).reshape(4, 4)
    subnet = make_mask(kernel, sparsity=0.9).subnets[0]
    mutate(PruneAndRegrow(first), Moment.START, subnet, 0.0, rng)
    after, mask = subnet.read()
    assert mask.sum() == kept
    np.testing.assert_array_equal(after, np.where(mask, kernel, 0))


@pytest.mark.parametrize(
    ("scheme", "first", "per_group"),
    [
        ("1:4", 0.5, [2, 1.22, 1.03, 1, 1]),
        ("1:8", 0.5, [4, 1.65, 1.09, 1, 1]),
        ("2:4", 1.0, [4, 2.44, 2.06, 2, 2]),
        # Its density is what training starts with.
        ("2:4", 0.5, [2, 2, 2, 2, 2]),
    ],
)
def test_n_m_kernels_fall_to_their_n_evenly(scheme, first, per_group, rng):
    n, m = map(int, scheme.split(":"))
    layer = MaskedDense(64, use_bias=False, scheme=scheme, sparsity=1 - n / m)
    layer.build((None, 64))
    subnet = layer.masks[0].subnets[0]
    updater = PruneAndRegrow(first, end=1.0)
    gradient = rng.standard_normal((64, 64)).astype(np.float32)
    for moment, t, mean in zip(
        [Moment.START, *[Moment.UPDATE] * 3, Moment.SETTLE],
        [0.0, 0.4, 0.7, 0.9, 1.0],
        per_group,
        strict=True,
    ):
        mutate(updater, moment, subnet, t, rng, gradient)
        groups = subnet.read()[1].reshape(64 // m, m, 64).sum(axis=1)
        assert groups.mean() == pytest.approx(mean, abs=0.01)
        assert groups.max() - groups.min() <= 1 and groups.min() >= n


def test_it_is_known_by_its_name_and_made_again_from_its_configuration():
    assert isinstance(updaters.get("prune_and_regrow"), PruneAndRegrow)
    updater = PruneAndRegrow(0.4, fraction=0.3, end=0.5, stop=0.9)
    again = PruneAndRegrow.from_config(updater.get_config())
    for t in (0.0, 0.2, 0.6, 0.9, 1.0):
        assert again.densities(t, 0.1) == updater.densities(t, 0.1)
    assert again.stop == 0.9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"initial_density": 0.0},
            r"`initial_density` must be .* in \(0, 1\]. Received: 0.0",
        ),
        (
            {"initial_density": 1.5},
            r"`initial_density` must be .* in \(0, 1\]. Received: 1.5",
        ),
        ({"end": 0.0}, r"`end` must be a number in \(0, 1\]. Received: 0.0"),
        ({"end": 1.1}, r"`end` must be a number in \(0, 1\]. Received: 1.1"),
        ({"stop": 0.0}, r"`stop` must be a number in \(0, 1\]. Received: 0.0"),
        ({"fraction": 1.2}, r"must be in \[0, 1\].*Received: "),
        # Masks would come to rest above their final density.
        ({"end": 0.8, "stop": 0.5}, "`stop` must be at least .*Received: 0.5"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        PruneAndRegrow(**arguments)
