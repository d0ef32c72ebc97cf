"""From a plain Keras model to one that trains sparse, and back."""

import collections
import re
from collections.abc import Callable, Iterable

import keras
import numpy as np

from spfde_keras import distributions, schemes
from spfde_keras.graph import trace
from spfde_keras.layers import masked_class, plain_class
from spfde_keras.layers.batch_norm import FusedBatchNormalization
from spfde_keras.masking import Mask, check_sparsity, find_masks
from spfde_keras.randomness import generator
from spfde_keras.training import SparseModel

_INITIAL = ("random", "magnitude", "dense")
_MASK_ARGUMENTS = ("scheme", "sparsity")

Selector = str | Callable[[keras.layers.Layer], bool]


def sparsify(
    model: keras.Model,
    sparsity: float | None = None,
    scheme="unstructured",
    distribution="uniform",
    dense: Selector | Iterable[Selector] = ("first", "last"),
    initial: str = "random",
    seed: int = 0,
) -> SparseModel:
    """Returns a copy of `model` whose kernels carry masks; its weights are kept where unmasked.

    Args:
        model: a functional or Sequential `keras.Model`, nested ones included, with known
            input shape.
        sparsity: float in [0, 1), share of zeros among the masked kernels. May be left out
            where `scheme` fixes it (N:M); defaults to 0.9 otherwise.
        scheme: a `Scheme` or its name: "unstructured", "block", "pattern", "channel",
            "filter", "2:4".
        distribution: a `Distribution`, its name ("uniform", "erk"), or a dictionary from
            regular expressions of layer names to sparsities.
        dense: what stays dense: "first" (the first convolution), "last" (the classifier),
            layer names, regular expressions, callables from a layer to bool, or several.
        initial: the masks to start with: "random", "magnitude" (the largest weights are
            kept) or "dense" (nothing is masked yet, for gradual pruning).
        seed: int, seed of the random masks.

    Returns:
        A `SparseModel`. `spfde_keras.summary` names each layer left dense, and why.

    Raises:
        ValueError: on arguments out of range, a model that is not functional, shapes the
            scheme cannot divide, or a model in which nothing is left to be made sparse.

    Example:

    >>> mlp = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16),
    ...                         keras.layers.Dense(16), keras.layers.Dense(2)])
    >>> model = sparsify(mlp, sparsity=0.75)
    >>> [mask.density for mask in find_masks(model)]
    [0.25, 0.25]

    Source: MEST (Yuan et al., NeurIPS 2021), section 3; ERK from RigL.
    """
    if initial not in _INITIAL:
        raise ValueError(f"`initial` must be one of {_INITIAL}. Received: {initial!r}")
    scheme = schemes.get(scheme)
    sparsity = _resolve_sparsity(sparsity, scheme)
    distribution = distributions.get(distribution)
    functional = _functional(model)
    if find_masks(functional):
        raise ValueError("`model` must not have masks yet: pass `densify(model)`.")
    layers = [layer for layer in _leaves(functional) if masked_class(layer) or _owns_kernel(layer)]
    _check_names(layers)
    left_dense = _left_dense(functional, layers, dense)
    chosen = [layer for layer in layers if layer.name not in left_dense]
    if not chosen:
        raise ValueError(
            "`model` must have a layer that can be made sparse. All were left dense: "
            f"{left_dense}. Pass fewer layers in `dense`."
        )

    # A first copy tells the kernels' shapes; only then can a distribution decide.
    probe, copies = _convert(functional, {layer: 0.0 for layer in chosen}, "unstructured")
    layouts = {mask.kernel_path: mask.layout for mask in find_masks(probe)}
    per_kernel = distribution(layouts, sparsity)
    if scheme.density is not None and not np.allclose(list(per_kernel.values()), sparsity):
        raise ValueError(
            "`distribution` must be 'uniform' with a scheme that fixes the density. "
            f"Received: {distribution.__class__.__name__} with scheme {scheme}"
        )
    shares = {layer: _shares(copies[layer], per_kernel) for layer in chosen}
    sparse = _sparse_model(_convert(functional, shares, scheme)[0])
    sparse.left_dense = left_dense
    for mask in find_masks(sparse):
        _initialize(mask, initial, seed)
    return sparse


def wrap(model: keras.Model) -> SparseModel:
    """Returns a copy of `model`, with its weights, that can be sieved and frozen but has no masks.

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
    return _sparse_model(_convert(_functional(model), {}, None)[0])


def densify(model: keras.Model) -> keras.Model:
    """Returns the plain Keras model with masks folded into its kernels: same outputs.

    Args:
        model: a `SparseModel`, or any functional or Sequential model.

    Returns:
        A functional `keras.Model` of Keras' own layers.

    Raises:
        ValueError: if the model is not functional.

    Example:

    >>> mlp = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4), keras.layers.Dense(2)])
    >>> plain = densify(sparsify(mlp, sparsity=0.5, dense=()))
    >>> type(plain.layers[1]).__name__
    'Dense'
    """
    return _clone(_functional(model), _plain_layer)[0]


def _resolve_sparsity(sparsity: float | None, scheme: schemes.Scheme) -> float:
    if scheme.density is None:
        return check_sparsity(0.9 if sparsity is None else sparsity)
    fixed = 1 - scheme.density
    if sparsity is not None and abs(check_sparsity(sparsity) - fixed) > 1e-6:
        raise ValueError(
            f"`sparsity` must be {fixed:g}, or left out, with scheme {scheme}. Received: {sparsity}"
        )
    return fixed


def _sparse_model(model: keras.Model) -> SparseModel:
    return SparseModel(model.input, model.output, name=model.name)


def _functional(model: keras.Model) -> keras.Model:
    """The graph of `model` as a functional model, neither compiled nor of a class of its own."""
    if not isinstance(model, keras.Model):
        raise ValueError(f"`model` must be a keras.Model. Received: {type(model).__name__}")
    if isinstance(model, keras.Sequential):
        if model._functional is None:
            raise ValueError("`model` must know its input shape: start it with keras.Input.")
        return _functional(model._functional)
    if not _has_graph(model):
        raise ValueError(
            "`model` must be functional or Sequential; a subclassed model can use the masked "
            f"layers of spfde_keras.layers directly. Received: {type(model).__name__}"
        )
    return keras.Model(model.input, model.output, name=model.name)


def _has_graph(layer: keras.Operation) -> bool:
    return isinstance(layer, (keras.Sequential, keras.Function))


def _leaves(model: keras.Model) -> list[keras.layers.Layer]:
    """All layers in the graph's order, once each, nested models replaced by their layers."""
    leaves = {}
    for layer in model.layers:
        leaves |= dict.fromkeys(_leaves(layer) if _has_graph(layer) else [layer])
    return list(leaves)


def _owns_kernel(layer: keras.layers.Layer) -> bool:
    return any(len(variable.shape) > 1 for variable in layer.weights)


def _check_names(layers: list[keras.layers.Layer]) -> None:
    counts = collections.Counter(layer.name for layer in layers)
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        raise ValueError(
            "`model` must give its layers distinct names, nested ones included. "
            f"Received more than once: {repeated}"
        )


def _left_dense(model, layers, dense) -> dict[str, str]:
    reasons = {
        layer.name: f"{type(layer).__name__} has no masked form"
        for layer in layers
        if not masked_class(layer)
    }
    for selector in (
        dense if isinstance(dense, Iterable) and not isinstance(dense, str) else [dense]
    ):
        found, reason = _select(model, layers, selector)
        for layer in found:
            reasons.setdefault(layer.name, reason)
    return reasons


def _select(model, layers, selector) -> tuple[list[keras.layers.Layer], str]:
    if callable(selector):
        return list(filter(selector, layers)), "chosen by a callable in `dense`"
    if selector == "first":
        convolutions = [layer for layer in layers if "Conv" in type(layer).__name__]
        return convolutions[:1], "first convolution"
    if selector == "last":
        return _classifiers(model, layers), "classifier (last layer)"
    found = [layer for layer in layers if _matches(selector, layer.name)]
    if not found:
        raise ValueError(
            "`dense` must match layers that have kernels, by name, regular expression or "
            f"callable. Received: {selector!r}; the layers are {[x.name for x in layers]}"
        )
    return found, f"matches {selector!r} in `dense`"


def _matches(selector: str, name: str) -> bool:
    try:
        return selector == name or re.fullmatch(selector, name) is not None
    except (re.error, TypeError):
        return False


def _classifiers(model: keras.Model, layers: list) -> list[keras.layers.Layer]:
    """Those of `layers` that are nearest to each output."""
    graph = trace(model)
    producers = {id(tensor): call for call in graph.calls for tensor in call.outputs}
    found = []
    for output in graph.outputs:
        nearest, tensors = [], [output]
        while tensors and not nearest:
            calls = [producers[id(tensor)] for tensor in tensors if id(tensor) in producers]
            nearest = [call.layer for call in calls if call.layer in layers]
            tensors = list({id(x): x for call in calls for x in call.inputs}.values())
        found += nearest
    return found


def _shares(layer: keras.layers.Layer, per_kernel: dict[str, float]) -> dict[str, float]:
    paths = (mask.kernel_path for mask in layer.masks)
    return {name: per_kernel[path] for name, path in zip(layer.sparsity, paths, strict=True)}


def _convert(model: keras.Model, sparsities: dict, scheme) -> tuple[keras.Model, dict]:
    def convert(layer):
        if layer in sparsities:
            arguments = {"scheme": scheme, "sparsity": sparsities[layer]}
            return masked_class(layer).from_config(layer.get_config() | arguments)
        if type(layer) is keras.layers.BatchNormalization:
            return FusedBatchNormalization.from_config(layer.get_config())
        return _same_layer(layer)

    return _clone(model, convert)


def _plain_layer(layer: keras.layers.Layer) -> keras.layers.Layer:
    config = layer.get_config()
    if plain_class(layer):
        for argument in _MASK_ARGUMENTS:
            config.pop(argument)
        return plain_class(layer).from_config(config)
    if isinstance(layer, FusedBatchNormalization):
        return keras.layers.BatchNormalization.from_config(config)
    return _same_layer(layer)


def _same_layer(layer: keras.layers.Layer) -> keras.layers.Layer:
    # The code of a Lambda comes from this process, not from a file: it may be run.
    trusted = {"safe_mode": False} if isinstance(layer, keras.layers.Lambda) else {}
    return type(layer).from_config(layer.get_config(), **trusted)


def _clone(model: keras.Model, convert: Callable) -> tuple[keras.Model, dict]:
    """Returns a copy of `model` with its weights, and a dictionary from layer to copy."""
    copies = {}

    def copy(layer):
        if not isinstance(layer, keras.layers.Layer):
            return layer  # an operation such as `+`, which owns nothing
        # A layer called twice, be it in another nested model, must stay one layer.
        if layer not in copies:
            copies[layer] = clone(layer) if _has_graph(layer) else convert(layer)
        return copies[layer]

    def clone(model):
        return keras.models.clone_model(_functional(model), clone_function=copy)

    cloned = clone(model)
    for source, target in copies.items():
        if not _has_graph(source):
            _copy_weights(source, target)
    return cloned, copies


def _copy_weights(source: keras.layers.Layer, target: keras.layers.Layer) -> None:
    folded = {id(mask.kernel): mask(mask.kernel) for mask in find_masks(source)}
    values = [folded.get(id(variable), variable) for variable in _own_variables(source)]
    for variable, value in zip(_own_variables(target), values, strict=True):
        variable.assign(value)


def _own_variables(layer: keras.layers.Layer) -> list[keras.Variable]:
    masks = {id(mask.values) for mask in find_masks(layer)}
    return [variable for variable in layer.variables if id(variable) not in masks]


def _initialize(mask: Mask, initial: str, seed: int) -> None:
    if initial == "random":
        scores = generator(seed, 0, mask.kernel_path).random(mask.layout.shape, np.float32)
        mask.initialize(scores, 1 - mask.sparsity)
    elif initial == "magnitude":
        mask.initialize(np.abs(mask.read()[0]), 1 - mask.sparsity)
