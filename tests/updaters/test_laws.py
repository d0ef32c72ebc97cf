"""What holds for every updater with every scheme."""

import numpy as np
import pytest

from spfde_keras import updaters
from spfde_keras.layers import MaskedConv2D, MaskedDense
from spfde_keras.masking import Subnet
from spfde_keras.randomness import generator
from spfde_keras.updaters import Moment
from tests.updaters.mutations import mutate

UPDATERS = updaters.names()
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


def make_subnet(layer: str, scheme: str, initial: str = "random") -> Subnet:
    layer, input_shape = LAYERS[layer](scheme=scheme, sparsity=SCHEMES[scheme], name=layer)
    layer.build(input_shape)
    mask = layer.masks[0]
    rng = np.random.default_rng(1)
    mask.kernel.assign(rng.standard_normal(mask.layout.shape))
    if initial == "random":
        mask.subnets[0].initialize(rng.random(mask.layout.shape), 1 - SCHEMES[scheme], rng)
    return mask.subnets[0]


def units_of(subnet: Subnet) -> np.ndarray:
    return subnet.scheme.reduce(subnet.layout.to_canonical(subnet.read()[1]))


def train(subnet: Subnet, rng: np.random.Generator) -> None:
    """Moves the kept weights, as an optimizer would."""
    kernel, masks = subnet.mask.read()
    subnet.mask.write(kernel + rng.standard_normal(kernel.shape).astype(np.float32), masks)


def gradient_for(updater, subnet: Subnet, rng: np.random.Generator) -> np.ndarray | None:
    gradient = rng.standard_normal(subnet.layout.shape).astype(np.float32)
    kinds = {None: None, "masked": gradient * subnet.read()[1], "dense": gradient}
    return kinds[updater.gradient]


def check_change(subnet: Subnet, before, change) -> None:
    """Masks hold whole units, kernels are zero where masked, kept weights bit-equal."""
    (old, old_masks), (new, new_masks) = before, subnet.mask.read()
    assert new_masks.shape == old_masks.shape and new_masks.dtype == bool
    canonical = subnet.layout.to_canonical(new_masks[0])
    whole = subnet.scheme.expand(subnet.scheme.reduce(canonical), subnet.layout.canonical_shape)
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
    subnet = make_subnet(layer, scheme, updater.initial)
    rng = np.random.default_rng(2)
    density = 1 - subnet.sparsity

    before = subnet.mask.read()
    change = mutate(updater, Moment.START, subnet, 0.0, generator(0, 0, subnet.kernel_path))
    check_change(subnet, before, change)
    first = updater.plan(Moment.START, 0.0, density).density
    if updater.initial == "random":  # Then a start drops nothing.
        assert not (before[1] & ~subnet.mask.read()[1]).any()
    if first < 1:
        assert units_of(subnet).sum() == subnet.count(first)
    else:
        assert subnet.density == 1.0

    for event in range(1, 10):
        train(subnet, rng)
        t = event / 10
        before, active = subnet.mask.read(), units_of(subnet)
        gradient = gradient_for(updater, subnet, rng)
        change = mutate(
            updater, Moment.UPDATE, subnet, t, generator(0, event, subnet.kernel_path), gradient
        )
        check_change(subnet, before, change)
        planned = updater.plan(Moment.UPDATE, t, density)
        drop_to, grow_to = subnet.count(planned.drop_to), subnet.count(planned.grow_to)
        units = units_of(subnet)
        assert units.sum() == max(grow_to, min(drop_to, active.sum()))
        # What an update drops first is bounded by what it must keep.
        if name != "magnitude":
            assert (units & active).sum() >= min(drop_to, active.sum())
        if name == "static":
            assert not change.fresh.any()

    train(subnet, rng)
    before, active = subnet.mask.read(), units_of(subnet)
    change = mutate(
        updater, Moment.SETTLE, subnet, 1.0, generator(0, 10, subnet.kernel_path), before[0]
    )
    check_change(subnet, before, change)
    assert units_of(subnet).sum() == subnet.count(density)
    assert not (subnet.mask.read()[1] & ~before[1]).any()  # Settling grows nothing.


@pytest.mark.parametrize("scheme", [name for name in SCHEMES if name != "2:4"])
@pytest.mark.parametrize("name", UPDATERS)
def test_dense_sub_nets_start_with_drawn_weights_nested(name, scheme):
    """At the density trained with at first, with the weights they had."""
    updater = updaters.get(name)
    layer = MaskedDense(16, scheme=scheme, sparsity=[0.5, 0.75, 0.875], name="dense")
    layer.build((None, 16))
    mask = layer.masks[0]
    mask.kernel.assign(np.arange(1, 257).reshape(16, 16))
    for subnet in mask.subnets:
        mutate(updater, Moment.START, subnet, 0.0, generator(0, 0, subnet.kernel_path))
    kernel, masks = mask.read()
    for subnet, kept in zip(mask.subnets, masks, strict=True):
        first = updater.plan(Moment.START, 0.0, 1 - subnet.sparsity).density
        assert subnet.kept == subnet.count(first) and (kernel[kept] > 0).all()
        assert not (kept & ~masks[0]).any()
        # Neither the largest nor the first ones.
        if kept.mean() < 0.9:
            assert np.abs(kernel[kept].mean() - 128.5) < 40
    np.testing.assert_array_equal(kernel > 0, masks.any(axis=0))


@pytest.mark.parametrize("scheme", ["unstructured", "2:4"])
@pytest.mark.parametrize("name", UPDATERS)
def test_the_other_sub_net_stays_as_it_is(name, scheme):
    updater = updaters.get(name)
    sparsity = [0.5, 0.75] if scheme == "unstructured" else 0.5
    layer = MaskedDense(16, scheme=[scheme, scheme], sparsity=sparsity, name="dense")
    layer.build((None, 8))
    other, subnet = layer.masks[0].subnets
    rng = np.random.default_rng(1)
    subnet.mask.kernel.assign(rng.standard_normal(subnet.layout.shape))
    for each in (other, subnet):
        if updater.initial == "random" or each is other:
            each.initialize(rng.random(subnet.layout.shape), 1 - each.sparsity, rng)

    for event, moment in enumerate([Moment.START, *[Moment.UPDATE] * 4, Moment.SETTLE]):
        train(subnet, rng)
        before, kept = other.read(), subnet.mask.read()[1].any(axis=0)
        gradient = gradient_for(updater, subnet, rng) if event else None
        rng_of_event = generator(0, event, subnet.kernel_path)
        change = mutate(updater, moment, subnet, event / 5, rng_of_event, gradient)
        np.testing.assert_array_equal(other.read(), before)
        kernel, masks = subnet.mask.read()
        np.testing.assert_array_equal(change.fresh, kept ^ masks.any(axis=0))
        assert not kernel[change.fresh | ~masks.any(axis=0)].any()
    assert units_of(subnet).sum() == subnet.count(1 - subnet.sparsity)


@pytest.mark.parametrize("name", UPDATERS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_update_depends_on_seed_event_and_path_only(name, scheme):
    def updated(seed, event, path):
        updater = updaters.get(name)
        subnet = make_subnet("conv", scheme, updater.initial)
        gradient = gradient_for(updater, subnet, np.random.default_rng(3))
        mutate(updater, Moment.START, subnet, 0.0, generator(seed, 0, path))
        mutate(updater, Moment.UPDATE, subnet, 0.1, generator(seed, event, path), gradient)
        return subnet.mask.read()

    reference = updated(0, 1, "a")
    for one, other in zip(reference, updated(0, 1, "a"), strict=True):
        np.testing.assert_array_equal(one, other)
    if name in ("set", "mest_em") and scheme == "unstructured":
        for other in (updated(1, 1, "a"), updated(0, 2, "a"), updated(0, 1, "b")):
            assert (reference[1] != other[1]).any()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_rigl_grows_the_units_of_largest_gradient_norm(scheme):
    subnet = make_subnet("dense", scheme)
    rng = np.random.default_rng(3)
    gradient = rng.standard_normal(subnet.layout.shape).astype(np.float32)
    updater, shape = updaters.RigL(fraction=0.5), subnet.layout.canonical_shape
    active = units_of(subnet)
    scores = subnet.scheme.scores(np.abs(subnet.layout.to_canonical(subnet.mask.read()[0])))
    drop_to = subnet.count(updater.densities(0.0, 1 - subnet.sparsity)[0])
    keep = subnet.scheme.select(np.where(active, scores, -np.inf), drop_to, shape, rng)
    mutate(updater, Moment.UPDATE, subnet, 0.0, rng, gradient)
    claims = subnet.scheme.scores(np.abs(subnet.layout.to_canonical(gradient)))
    grown, units = units_of(subnet) & ~keep, units_of(subnet)
    assert units[keep].all()
    if scheme in ("unstructured", "block", "channel", "filter"):
        # No rule ties units to one another: the largest claims win.
        assert claims[grown].min() > claims[~units].max()
