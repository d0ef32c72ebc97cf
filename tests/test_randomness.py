import numpy as np
import pytest

from spfde_keras.randomness import generator


def test_it_depends_on_its_arguments_only():
    first = generator(0, 1, "a").random(8)
    np.random.seed(1)
    generator(0, 2, "b").random(100)
    np.testing.assert_array_equal(generator(0, 1, "a").random(8), first)


@pytest.mark.parametrize("other", [(1, 1, "a"), (0, 2, "a"), (0, 1, "b"), (1, 0, "a")])
def test_any_other_seed_event_or_path_draws_differently(other):
    assert (generator(0, 1, "a").random(8) != generator(*other).random(8)).all()


def test_streams_of_many_events_are_unrelated():
    draws = np.array([generator(0, event, "conv/kernel").random(64) for event in range(64)])
    correlations = np.corrcoef(draws)[np.triu_indices(64, 1)]
    assert abs(correlations).max() < 0.7
    assert abs(draws.mean() - 0.5) < 0.02


def test_a_path_counts_by_its_checksum():
    """Python's own hash of a string differs from process to process; this is the CRC-32."""
    expected = np.random.default_rng([3, 4, 0xE8B7BE43]).random()
    assert generator(3, 4, "a").random() == expected


def test_negative_seeds_are_refused():
    with pytest.raises(ValueError):
        generator(-1, 0, "a")
