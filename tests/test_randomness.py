import keras
import numpy as np
import pytest

import spfde_keras
from spfde_keras.masking import find_masks
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


def numbered_net():
    """As Keras names layers: by how many the process has made."""
    return keras.Sequential([keras.Input((8,)), *(keras.layers.Dense(8) for _ in range(3))])


def test_masks_do_not_depend_on_what_else_a_process_has_made():
    masks = []
    for _ in range(2):
        keras.utils.set_random_seed(0)
        model = spfde_keras.sparsify(numbered_net(), 0.5, seed=3)
        before = [mask.read()[1] for mask in find_masks(model)]
        model.compile("sgd", "mse")
        x = np.ones((8, 8))
        model.fit(x, x, epochs=3, verbose=0, callbacks=[spfde_keras.SpFDE(updater="set")])
        masks.append((before, [mask.read()[1] for mask in find_masks(model)]))
        names = [mask.kernel_path for mask in find_masks(model)]
    assert names != ["dense_1/kernel", "dense_2/kernel"]
    assert [mask.stream for mask in find_masks(model)] == ["dense/kernel", "dense_1/kernel"]
    for one, other in zip(*masks, strict=True):
        np.testing.assert_array_equal(one, other)
    assert (np.array(masks[0][0]) != np.array(masks[0][1])).any()
