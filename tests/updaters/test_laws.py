"""What holds for every updater with every scheme."""

import numpy as np
import pytest

from spfde_keras import updaters
from spfde_keras.layers import MaskedConv2D, MaskedDense
from spfde_keras.masking import Mask
from spfde_keras.randomness import generator

UPDATERS = ["static", "set", "rigl", "mest_em", "mest_ems", "magnitude"]
# A sparsity each scheme can have exactly, one it must round, and the one that N:M fixes.
SCHEMES = {
    "unstructured": 0.75,
    "block": 0.8,
    "pattern": 0.75,
    "channel": 0.5,
    "filter": 0.6,
    "2:4": 0.5,
}
LAYERS = {
    "dense": lambda **kwargs: (MaskedDense(16, **kwargs), (None, 8)),
    "conv": lambda **kwargs: (MaskedConv2D(8, 3, **kwargs), (None, 6, 6, 8)),
}


def make_mask(layer: str, scheme: str, initial: str = "random") -> Mask:
    layer, input_shape = LAYERS[layer](scheme=scheme, sparsity=SCHEMES[scheme], name=layer)
    layer.build(input_shape)
    mask = layer.masks[0]
    rng = np.random.default_rng(1)
    mask.kernel.assign(rng.standard_normal(mask.layout.shape))
    if initial == "random":
        mask.initialize(rng.random(mask.layout.shape), 1 - mask.sparsity)
    return mask


def units_of(mask: Mask) -> np.ndarray:
    return mask.scheme.reduce(mask.layout.to_canonical(mask.read()[1][0]))


def train(mask: Mask, rng: np.random.Generator) -> None:
    """Moves the kept weights, as an optimizer would."""
    kernel, masks = mask.read()
    mask.write(kernel + rng.standard_normal(kernel.shape).astype(np.float32), masks)


def gradient_for(updater, mask: Mask, rng: np.random.Generator) -> np.ndarray | None:
    gradient = rng.standard_normal(mask.layout.shape).astype(np.float32)
    kinds = {None: None, "masked": gradient * mask.read()[1][0], "dense": gradient}
    return kinds[updater.gradient]


def check_change(mask: Mask, before, change) -> None:
    """Masks hold whole units, kernels are zero where masked, kept weights bit-equal."""
    (old, old_masks), (new, new_masks) = before, mask.read()
    assert new_masks.shape == old_masks.shape and new_masks.dtype == bool
    canonical = mask.layout.to_canonical(new_masks[0])
    whole = mask.scheme.expand(mask.scheme.reduce(canonical), mask.layout.canonical_shape)
    np.testing.assert_array_equal(whole, canonical)
    assert not new[~new_masks[0]].any()
    kept, grown = old_masks[0] & new_masks[0], new_masks[0] & ~old_masks[0]
    np.testing.assert_array_equal(new[kept], old[kept])
    assert not new[grown].any()
    np.testing.assert_array_equal(change.fresh, old_masks[0] ^ new_masks[0])
    assert change.overlap == pytest.approx(kept.sum() / old_masks.sum())


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", UPDATERS)
def test_a_run_keeps_exact_counts_of_whole_units(name, scheme, layer):
    updater = updaters.get(name)
    mask = make_mask(layer, scheme, updater.initial)
    rng = np.random.default_rng(2)
    density = 1 - mask.sparsity

    before = mask.read()
    change = updater.start(mask, 0.0, generator(0, 0, mask.kernel_path))
    check_change(mask, before, change)
    assert not (before[1] & ~mask.read()[1]).any()  # A start drops nothing.
    if updater.initial == "dense":
        assert mask.density == 1.0
    else:
        assert units_of(mask).sum() == mask.count(updater.density(0.0, density))

    for event in range(1, 10):
        train(mask, rng)
        t = event / 10
        before, active = mask.read(), units_of(mask)
        gradient = gradient_for(updater, mask, rng)
        change = updater.update(mask, t, generator(0, event, mask.kernel_path), gradient)
        check_change(mask, before, change)
        drop_to, grow_to = map(mask.count, updater.densities(t, density))
        units = units_of(mask)
        assert units.sum() == max(grow_to, min(drop_to, active.sum()))
        # What an update drops first is bounded by what it must keep.
        if name != "magnitude":
            assert (units & active).sum() >= min(drop_to, active.sum())
        if name == "static":
            assert not change.fresh.any()

    train(mask, rng)
    before, active = mask.read(), units_of(mask)
    change = updater.settle(mask, 1.0, generator(0, 10, mask.kernel_path), before[0])
    check_change(mask, before, change)
    assert units_of(mask).sum() == mask.count(density)
    assert not (mask.read()[1] & ~before[1]).any()  # Settling grows nothing.


@pytest.mark.parametrize("name", UPDATERS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_update_depends_on_seed_event_and_path_only(name, scheme):
    def updated(seed, event, path):
        updater = updaters.get(name)
        mask = make_mask("conv", scheme, updater.initial)
        gradient = gradient_for(updater, mask, np.random.default_rng(3))
        updater.start(mask, 0.0, generator(seed, 0, path))
        updater.update(mask, 0.1, generator(seed, event, path), gradient)
        return mask.read()

    reference = updated(0, 1, "a")
    for one, other in zip(reference, updated(0, 1, "a"), strict=True):
        np.testing.assert_array_equal(one, other)
    if name in ("set", "mest_em") and scheme == "unstructured":
        for other in (updated(1, 1, "a"), updated(0, 2, "a"), updated(0, 1, "b")):
            assert (reference[1] != other[1]).any()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_rigl_grows_the_units_of_largest_gradient_norm(scheme):
    mask = make_mask("dense", scheme)
    gradient = np.random.default_rng(3).standard_normal(mask.layout.shape).astype(np.float32)
    updater, shape = updaters.RigL(fraction=0.5), mask.layout.canonical_shape
    active = units_of(mask)
    scores = mask.scheme.scores(mask.layout.to_canonical(mask.read()[0]))
    drop_to = mask.count(updater.densities(0.0, 1 - mask.sparsity)[0])
    keep = mask.scheme.select(np.where(active, scores, -np.inf), drop_to, shape)
    updater.update(mask, 0.0, None, gradient)
    claims = mask.scheme.scores(mask.layout.to_canonical(gradient))
    grown, units = units_of(mask) & ~keep, units_of(mask)
    assert units[keep].all()
    if scheme in ("unstructured", "block", "channel", "filter"):
        # No rule ties units to one another: the largest claims win.
        assert claims[grown].min() > claims[~units].max()
