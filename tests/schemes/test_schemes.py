"""What holds for every scheme: names, configurations and the laws of units."""

import keras
import numpy as np
import pytest

from spfde_keras import schemes
from spfde_keras.layout import KernelLayout

NAMES = ["unstructured", "block", "block:8", "pattern", "channel", "filter", "2:4", "1:8"]
CONV = KernelLayout((3, 3, 16, 8), spatial=(0, 1), inputs=(2,), outputs=(3,))
POINTWISE = KernelLayout((1, 1, 24, 16), spatial=(0, 1), inputs=(2,), outputs=(3,))
DENSE = KernelLayout((16, 32), spatial=(), inputs=(0,), outputs=(1,))
LAYOUTS = [CONV, POINTWISE, DENSE]


@pytest.mark.parametrize(
    ("identifier", "kind", "config"),
    [
        (None, schemes.Unstructured, {}),
        ("unstructured", schemes.Unstructured, {}),
        ("block", schemes.Block, {"outputs": 4, "inputs": 1}),
        ("block:8", schemes.Block, {"outputs": 8, "inputs": 1}),
        ("pattern", schemes.Pattern, {}),
        ("channel", schemes.Channel, {}),
        ("filter", schemes.Filter, {}),
        ("2:4", schemes.NM, {"n": 2, "m": 4}),
    ],
)
def test_get_by_name(identifier, kind, config):
    scheme = schemes.get(identifier)
    assert type(scheme) is kind
    assert scheme.get_config() == config


def test_get_returns_a_scheme_as_it_is():
    scheme = schemes.Block(outputs=2, inputs=2)
    assert schemes.get(scheme) is scheme


@pytest.mark.parametrize(
    "identifier", ["", "blocks", "block:", "block:x", "block:-4", "2:", ":4", "2:4:8", 4, ["2:4"]]
)
def test_get_refuses_unknown_identifiers(identifier):
    with pytest.raises(ValueError, match="`scheme` must be .*'unstructured'.*Received: "):
        schemes.get(identifier)


def test_get_refuses_numbers_out_of_range():
    with pytest.raises(ValueError, match="Received: 4:2"):
        schemes.get("4:2")
    with pytest.raises(ValueError, match="Received: 0"):
        schemes.get("block:0")


@pytest.mark.parametrize("scheme", [*map(schemes.get, NAMES), schemes.Block(2, 3)], ids=repr)
def test_serialization_round_trip(scheme):
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(scheme))
    assert type(restored) is type(scheme)
    assert restored.get_config() == scheme.get_config()


def random_mask(scheme, layout, density, rng):
    shape = layout.canonical_shape
    units = scheme.select(
        scheme.scores(rng.random(shape)), scheme.count(layout, density), shape, rng
    )
    return units, scheme.expand(units, shape)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: str(layout.shape))
@pytest.mark.parametrize("name", NAMES)
def test_expand_and_reduce_are_inverse_and_counts_exact(name, layout, seed):
    scheme = schemes.get(name)
    rng = np.random.default_rng(seed)
    density = scheme.density or rng.uniform(0.05, 0.4)
    scheme.validate(layout, "kernel", density)
    units, mask = random_mask(scheme, layout, density, rng)
    assert mask.dtype == bool and mask.shape == layout.canonical_shape
    assert units.sum() == scheme.count(layout, density)
    np.testing.assert_array_equal(scheme.reduce(mask), units)
    np.testing.assert_array_equal(scheme.expand(scheme.reduce(mask), mask.shape), mask)
    # A unit more or less is all that rounding may cost; patterns round once per output.
    unit_share = mask.mean() / units.sum() * (layout.canonical_shape[2] if name == "pattern" else 1)
    assert abs(mask.mean() - density) <= unit_share / 2 + 1e-9


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: str(layout.shape))
@pytest.mark.parametrize("name", NAMES)
def test_an_update_drops_only_active_and_keeps_all_kept_units(name, layout, seed):
    scheme, shape = schemes.get(name), layout.canonical_shape
    rng = np.random.default_rng(seed)
    density = scheme.density or 0.4
    active, _ = random_mask(scheme, layout, density, rng)
    drop, grow = (scheme.count(layout, share * density) for share in (0.6, 1.1))

    scores = scheme.scores(rng.random(shape))
    keep = scheme.select(np.where(active, scores, -np.inf), drop, shape, rng)
    assert keep.sum() == drop
    assert active[keep].all()

    claims = np.where(keep, np.inf, scheme.scores(rng.random(shape)))
    grown = scheme.select(claims, grow, shape, rng)
    assert grown.sum() == grow
    assert grown[keep].all()
    mask = scheme.expand(grown, shape)
    np.testing.assert_array_equal(scheme.reduce(mask), grown)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: str(layout.shape))
def test_units_of_equal_score_are_chosen_exactly_and_repeatably(name, layout):
    """At random, each about as often: in 400 draws of a share p within 5 deviations of it."""
    scheme, shape = schemes.get(name), layout.canonical_shape
    scores = scheme.scores(np.zeros(shape, np.float32))
    count = scheme.count(layout, scheme.density or 0.25)

    def drawn(seed):
        return scheme.select(scores, count, shape, np.random.default_rng(seed))

    often = sum(drawn(seed).astype(int) for seed in range(400))
    share = count / scores.size
    assert often.sum() == 400 * count
    assert np.abs(often - 400 * share).max() < 5 * np.sqrt(400 * share * (1 - share)) + 1
    np.testing.assert_array_equal(drawn(1), drawn(1))


@pytest.mark.parametrize("name", NAMES)
def test_unit_scores_have_signs_and_grow_with_their_elements(name):
    scheme = schemes.get(name)
    elements = np.random.default_rng(0).standard_normal(CONV.canonical_shape).astype(np.float32)
    scores = scheme.scores(elements)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scheme.scores(-2 * elements), -2 * scores, rtol=1e-4)


@pytest.mark.parametrize("name", ["unstructured", "block", "pattern", "channel", "filter", "2:4"])
def test_importances_below_zero_rank_lowest(name):
    """As of GraSP, where it is better that some weights go."""
    scheme = schemes.get(name)
    elements = np.random.default_rng(0).random((9, 8, 8), np.float32) + 1
    scores = scheme.scores(elements)
    np.testing.assert_allclose(scheme.scores(-elements), -scores, rtol=1e-6)
    worst = np.zeros(scores.shape, bool)
    worst.flat[5] = True
    signed = np.where(scheme.expand(worst, elements.shape), -10 * elements, elements)
    found = scheme.scores(signed)
    assert found.argmin() == 5 and found.flat[5] < 0 < found.max()
