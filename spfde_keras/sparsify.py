"""From a plain Keras model to one that trains sparse, and back."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from spfde_keras import checks, distributions, own_classes, schemes
from spfde_keras.equality import check_same_outputs, check_sparse
from spfde_keras.layers import masked_class
from spfde_keras.layout import KernelLayout
from spfde_keras.masking import Mask, SchemeLike, check_sparsity, find_masks, subnet_targets
from spfde_keras.places import kernel_places, name_masks, sealed_leaves
from spfde_keras.randomness import generator
from spfde_keras.rebuilding import as_functional
from spfde_keras.replacements import Replacements, fused, masked, plain, rebuild
from spfde_keras.schemes.base import DoesNotFit
from spfde_keras.scores import Scores, check_scores, scores_of
from spfde_keras.selection import Selector, layers_left_dense
from spfde_keras.training import SparseModel

_INITIAL = ("random", "magnitude", "dense")


def sparsify(
    model: keras.Model,
    sparsity: float | Sequence[float] | None = None,
    scheme: SchemeLike | Sequence[SchemeLike] = "unstructured",
    distribution: distributions.Distribution | str | Mapping[str, float] = "uniform",
    dense: Selector | Iterable[Selector] = ("first", "last", "depthwise"),
    initial: str | Scores | None = None,
    seed: int = 0,
    strict: bool = False,
) -> SparseModel:
    """Returns a copy of `model` whose kernels carry masks; its weights are kept where unmasked.

    Masks reach the kernels inside of other layers, too: blocks of your own class, wrappers,
    recurrent cells. Layers that cannot be copied exactly (adapted to data, or with functions that
    refer to their weights) belong to both models from then on; a warning names those that train.

    Args:
        model: a functional or Sequential `keras.Model`, nested ones included; or a subclassed
            one that has been called on a batch, which becomes the only layer of the new model.
        sparsity: float in [0, 1), share of zeros in the masked kernels. May be left out where
            `scheme` fixes it (N:M); defaults to 0.9 otherwise. A sequence makes several
            sub-nets out of one set of weights, for `AlternatingSparseTraining`; each has its
            own BatchNormalization.
        scheme: a `Scheme` or its name: "unstructured", "block", "pattern", "channel",
            "filter", "2:4"; or a sequence of them, one for each sub-net.
        distribution: a `Distribution`, its name ("uniform", "erk"), or a dictionary from
            regular expressions of layer names to sparsities.
        dense: what stays dense: "first" (the first convolution), "last" (the classifier),
            "depthwise" (kernels with one input for each output: few weights, and a channel that
            loses them all is dead), layers, their names, paths ("encoder/block_1", with all that
            is inside), regular expressions of these, callables from a layer to bool, or several
            of these.
        initial: the masks to start with: "random", "magnitude" (the largest weights are
            kept), "dense" (nothing is masked yet: training brings masks, at random, to the
            density that its updater starts with, or, with gradual pruning, lets them fall), or a
            dictionary from kernel paths to scores, the largest of which are kept, as of
            `spfde_keras.saliency.snip`. None: "dense" for several sub-nets, else "random".
            Sub-nets start nested.
        seed: int >= 0, seed of the random masks.
        strict: bool, whether a kernel that the scheme cannot divide is an error; otherwise its
            layer stays dense.

    Returns:
        A `SparseModel`. `spfde_keras.summary` names each layer left dense, and why.

    Raises:
        ValueError: on arguments out of range, a model whose inputs are not known, or one with
            nothing left to make sparse; on kernels that are used elsewhere than in their layer;
            with `strict`, on shapes the scheme cannot divide.

    Example:

    >>> mlp = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16),
    ...                         keras.layers.Dense(16), keras.layers.Dense(2)])
    >>> model = sparsify(mlp, sparsity=0.75)
    >>> [mask.density for mask in find_masks(model)]
    [0.25, 0.25]

    Source: MEST (Yuan et al., NeurIPS 2021), section 3; ERK from RigL; sub-nets: AST (Yang et
    al., NeurIPS 2022).
    """
    initial = _checked_initial(initial)
    seed, strict = checks.seed(seed), checks.switch("strict", strict)
    targets = _targets(sparsity, scheme)
    distribute = distributions.get(distribution)
    functional = as_functional(model)
    own_classes.check_class(model)
    if find_masks(functional):
        raise ValueError("`model` must not have masks yet: pass `densify(model)`.")
    sealed = sealed_leaves(functional)
    found = kernel_places(functional)
    left_dense = layers_left_dense(functional, found, dense, sealed)
    names = {place.layer: name for name, place in found.items()}
    chosen = [layer for layer, name in names.items() if name not in left_dense]
    # Made open first, they tell the shapes of their kernels, which a distribution needs.
    opened = {layer: masked(layer, sparsity=_open(layer, names, left_dense)) for layer in chosen}
    for layer, open_one in opened.items():
        name_masks(open_one, names[layer])
    refused: dict[keras.layers.Layer, DoesNotFit] = {}
    while chosen := [layer for layer in chosen if layer not in refused]:
        layouts = {m.kernel_path: m.layout for layer in chosen for m in opened[layer].masks}
        per_kernel = _per_kernel(distribute, layouts, targets)
        misfits = _misfits({layer: opened[layer] for layer in chosen}, per_kernel, targets)
        if not misfits:
            break
        refused |= misfits  # others may have to take over what these were to lose
    left_dense |= {names[layer]: refusal.reason for layer, refusal in refused.items()}
    if refused and (strict or not chosen):
        raise _refusal(list(refused.values()))
    if not chosen:
        advice = " Pass fewer layers in `dense`." if any(map(masked_class, names)) else ""
        raise ValueError(
            "`model` must have a layer that can be made sparse. All were left dense: "
            f"{left_dense}.{advice}"
        )
    subnet_schemes = _single([one for one, _ in targets])
    shares = {layer: _shares(opened[layer], per_kernel) for layer in chosen}
    opened.clear()  # large kernels are not held twice
    with_masks: Replacements = {
        layer: masked(layer, scheme=subnet_schemes, sparsity=shares[layer]) for layer in chosen
    }
    others = fused(functional, len(targets), sealed)
    sparse = _sparse_model(rebuild(functional, with_masks | others, sealed), model)
    if len(set(sparse.subnets)) < len(targets):
        raise ValueError(
            "`sparsity` must differ from sub-net to sub-net. Received: "
            f"{[share for _, share in targets]}, distributed to {sparse.subnets}"
        )
    sparse.left_dense = left_dense
    check_sparse(sparse, model)  # while all masks are open
    if initial is None:
        initial = "dense" if len(targets) > 1 else "random"
    for mask in find_masks(sparse):
        _initialize(mask, initial, seed)
    return sparse


def wrap(model: keras.Model) -> SparseModel:
    """Returns a copy of `model`, with its weights, for sieving and freezing without masks.

    Layers that cannot be copied exactly belong to both models, as in `sparsify`.

    Args:
        model: a functional or Sequential `keras.Model`.

    Returns:
        A `SparseModel` without masks.

    Raises:
        ValueError: if the model is not functional.

    Example:

    >>> mlp = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])
    >>> find_masks(wrap(mlp))
    []
    """
    functional = as_functional(model)
    own_classes.check_class(model)
    sealed = sealed_leaves(functional)
    graph = rebuild(functional, fused(functional, 1, sealed), sealed)
    wrapped = _sparse_model(graph, model)
    check_same_outputs(wrapped, model)
    return wrapped


def densify(model: keras.Model, subnet: int | None = None) -> keras.Model:
    """Returns the plain Keras model with masks folded into its kernels: same outputs.

    Layers that cannot be copied exactly belong to both models, as in `sparsify`.

    Args:
        model: a `SparseModel`, or any functional or Sequential model.
        subnet: int, which of the model's sub-nets; None for the active one.

    Returns:
        A functional `keras.Model` of Keras' own layers.

    Raises:
        ValueError: if the model is not functional, or there is no such sub-net.

    Example:

    >>> mlp = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4), keras.layers.Dense(2)])
    >>> plain = densify(sparsify(mlp, sparsity=0.5, dense=()))
    >>> type(plain.layers[1]).__name__
    'Dense'
    """
    functional = as_functional(model)
    own_classes.check_class(model)
    if subnet is not None:
        count = max(1, len(getattr(model, "subnets", [])))
        subnet = checks.whole("subnet", subnet, least=0, below=count)
    chosen = subnet is not None and isinstance(model, SparseModel)
    with model.at(subnet) if chosen else contextlib.nullcontext():
        graph = rebuild(functional, plain(functional))
        dense = own_classes.plain_class(model)(graph.input, graph.output, name=model.name)
        check_same_outputs(dense, model)
    return dense


def _targets(
    sparsity: float | Sequence[float] | None, scheme: SchemeLike | Sequence[SchemeLike]
) -> list[tuple[schemes.Scheme, float]]:
    """The scheme and sparsity of each sub-net; N:M schemes fix the sparsity."""
    if sparsity is None:
        given: Sequence[Any] = scheme if isinstance(scheme, (list, tuple)) else [scheme]
        sparsity = [_resolve_sparsity(None, schemes.get(one)) for one in given]
    targets = subnet_targets(scheme, sparsity)
    return [(one, _resolve_sparsity(share, one)) for one, share in targets]


def _distribute(
    distribution: distributions.Distribution,
    layouts: dict[str, KernelLayout],
    sparsity: float,
    scheme: schemes.Scheme,
) -> dict[str, float]:
    per_kernel = distribution(layouts, sparsity)
    if scheme.density is not None and not np.allclose(list(per_kernel.values()), sparsity):
        raise ValueError(
            "`distribution` must be 'uniform' with a scheme that fixes the density. "
            f"Received: {distribution.__class__.__name__} with scheme {scheme}"
        )
    return per_kernel


def _open(
    layer: keras.layers.Layer, names: Mapping[keras.layers.Layer, str], left_dense: dict[str, str]
) -> float | dict[str, float]:
    """The sparsity of masks that keep all weights; none for single kernels left dense."""
    cls: Any = masked_class(layer)
    if not cls.depthwise_weights:
        return 0.0
    kernels = cls.masked_weights
    return {kernel: 0.0 for kernel in kernels if f"{names[layer]}/{kernel}" not in left_dense}


def _per_kernel(
    distribution: distributions.Distribution,
    layouts: dict[str, KernelLayout],
    targets: list[tuple[schemes.Scheme, float]],
) -> dict[str, list[float]]:
    """The sparsity of each kernel in each sub-net."""
    shares = [_distribute(distribution, layouts, share, scheme) for scheme, share in targets]
    return {path: [share[path] for share in shares] for path in layouts}


def _misfits(
    opened: Replacements,
    per_kernel: dict[str, list[float]],
    targets: list[tuple[schemes.Scheme, float]],
) -> dict[keras.layers.Layer, DoesNotFit]:
    """The layers with a kernel that a scheme cannot divide, and the first reason why."""
    found: dict[keras.layers.Layer, DoesNotFit] = {}
    for layer, open_one in opened.items():
        for mask in open_one.masks:
            for (scheme, _), share in zip(targets, per_kernel[mask.kernel_path], strict=True):
                try:
                    scheme.validate(mask.layout, mask.kernel_path, 1 - share)
                except DoesNotFit as refusal:
                    found.setdefault(layer, refusal)
    return found


def _refusal(refused: list[DoesNotFit]) -> ValueError:
    if len(refused) == 1:
        return refused[0]
    return ValueError(
        "`scheme` must divide the kernels of layers that are not named in `dense`. Received: "
        f"{len(refused)} layers that {refused[0].scheme} cannot divide, such as "
        f"{', '.join(one.kernel for one in refused[:3])}; use another scheme, or leave them dense."
    )


def _single(values: list) -> Any:
    return values[0] if len(values) == 1 else values


def _resolve_sparsity(sparsity: float | None, scheme: schemes.Scheme) -> float:
    if scheme.density is None:
        return check_sparsity(0.9 if sparsity is None else sparsity)
    fixed = 1 - scheme.density
    if sparsity is not None and abs(check_sparsity(sparsity) - fixed) > 1e-6:
        raise ValueError(
            f"`sparsity` must be {fixed:g}, or left out, with scheme {scheme}. Received: {sparsity}"
        )
    return fixed


def _sparse_model(graph: keras.Model, model: keras.Model) -> SparseModel:
    made = own_classes.sparse_class(model)(graph.input, graph.output, name=model.name)
    made.dtype_policy = model.dtype_policy  # by which `compile` scales the loss
    return made


def _shares(layer: keras.layers.Layer, per_kernel: dict[str, list[float]]) -> dict:
    paths = (mask.kernel_path for mask in layer.masks)
    return {
        name: _single(per_kernel[path]) for name, path in zip(layer.sparsity, paths, strict=True)
    }


def _checked_initial(initial: Any) -> str | Scores | None:
    if initial is None:
        return None
    if isinstance(initial, Mapping):
        return check_scores("initial", initial)
    if isinstance(initial, str) and initial in _INITIAL:
        return initial
    names = ", ".join(map(repr, _INITIAL))
    checks.refuse("initial", f"one of {names}, or a dictionary of scores by kernel path", initial)


def _initialize(mask: Mask, initial: str | Scores, seed: int) -> None:
    if initial == "dense":
        return
    rng = generator(seed, 0, mask.subnets[0].stream)
    if isinstance(initial, Mapping):
        scores = scores_of(initial, "initial", mask.kernel_path, mask.layout)
    elif initial == "random":
        scores = rng.random(mask.layout.shape, np.float32)
    else:
        scores = np.abs(mask.read()[0])
    for subnet in mask.subnets:
        subnet.initialize(scores, 1 - subnet.sparsity, rng)
