"""From a plain Keras model to one that trains sparse, and back."""

import re
from collections.abc import Callable, Iterable

import keras
import numpy as np

from spfde_keras import distributions, schemes
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
    layers = _leaves(functional)
    maskable = [layer for layer in layers if masked_class(layer)]
    left_dense = _left_dense(functional, maskable, dense)
    left_dense |= {
        layer.name: f"{type(layer).__name__} has no masked form"
        for layer in layers
        if layer not in maskable and _owns_kernel(layer)
    }
    chosen = [layer for layer in maskable if layer.name not in left_dense]
    if not chosen:
        raise ValueError(
            "`model` must have a layer that can be made sparse. All were left dense: "
            f"{left_dense}. Pass fewer layers in `dense`."
        )

    # A first copy tells the kernels' shapes; only then can a distribution decide.
    probe = _convert(functional, {layer: 0.0 for layer in chosen}, "unstructured")
    layouts = {mask.kernel_path: mask.layout for mask in find_masks(probe)}
    if len(layouts) < len(find_masks(probe)):
        raise ValueError("`model` must give its layers distinct names, nested ones included.")
    per_kernel = distribution(layouts, sparsity)
    if scheme.density is not None and len(set(per_kernel.values())) > 1:
        raise ValueError(
            f"`distribution` must be 'uniform' with a scheme that fixes the density. "
            f"Received: {distribution!r}"
        )
    counterparts = dict(zip(map(id, layers), _leaves(probe), strict=True))
    shares = {layer: _shares(counterparts[id(layer)], per_kernel) for layer in chosen}
    sparse = _convert(functional, shares, scheme)
    sparse = SparseModel(sparse.input, sparse.output, name=model.name)
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
    wrapped = _convert(_functional(model), {}, None)
    return SparseModel(wrapped.input, wrapped.output, name=model.name)


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
    return _clone(_functional(model), _plain_layer)


def _resolve_sparsity(sparsity: float | None, scheme: schemes.Scheme) -> float:
    if scheme.density is None:
        return check_sparsity(0.9 if sparsity is None else sparsity)
    fixed = 1 - scheme.density
    if sparsity is not None and abs(check_sparsity(sparsity) - fixed) > 1e-6:
        raise ValueError(
            f"`sparsity` must be {fixed:g}, or left out, with scheme {scheme}. Received: {sparsity}"
        )
    return fixed


def _functional(model: keras.Model) -> keras.Model:
    if not isinstance(model, keras.Model):
        raise ValueError(f"`model` must be a keras.Model. Received: {type(model).__name__}")
    if isinstance(model, keras.Sequential):
        if not model.built or not model.inputs:
            raise ValueError("`model` must know its input shape: start it with keras.Input.")
        return keras.Model(model.inputs, model.outputs, name=model.name)
    if not hasattr(model, "operations"):
        raise ValueError(
            "`model` must be functional or Sequential; a subclassed model can use the masked "
            f"layers of spfde_keras.layers directly. Received: {type(model).__name__}"
        )
    return model


def _leaves(model: keras.Model) -> list[keras.layers.Layer]:
    """All layers in the graph's order, nested models replaced by their layers."""
    leaves = []
    for layer in model.layers:
        leaves += _leaves(layer) if isinstance(layer, keras.Model) else [layer]
    return leaves


def _owns_kernel(layer: keras.layers.Layer) -> bool:
    return any(len(v.shape) > 1 for v in layer.trainable_variables)


def _left_dense(model, maskable, dense) -> dict[str, str]:
    selectors = [dense] if isinstance(dense, str) or callable(dense) else list(dense)
    reasons = {}
    for selector in selectors:
        if selector == "first":
            found = [layer for layer in maskable if "Conv" in type(layer).__name__][:1]
            reason = "first convolution"
        elif selector == "last":
            found, reason = _classifiers(model), "classifier (last layer)"
        elif callable(selector):
            found, reason = list(filter(selector, maskable)), "chosen by a callable in `dense`"
        else:
            found = [layer for layer in maskable if re.fullmatch(selector, layer.name)]
            reason = f"matches {selector!r} in `dense`"
            if not found:
                raise ValueError(
                    f"`dense` must match layers that can be masked. Received: {selector!r}; "
                    f"the layers are {[layer.name for layer in maskable]}"
                )
        for layer in found:
            reasons.setdefault(layer.name, reason)
    return reasons


def _classifiers(model: keras.Model) -> list[keras.layers.Layer]:
    """The maskable layers nearest to the outputs."""
    found, queue, seen = [], list(model.outputs), set()
    while queue:
        tensor = queue.pop()
        operation, node_index, _ = tensor._keras_history
        if id(tensor) in seen or isinstance(operation, keras.layers.InputLayer):
            continue
        seen.add(id(tensor))
        if isinstance(operation, keras.Model):
            nested = _classifiers(_functional(operation))
            found += nested
            if nested:
                continue
        elif masked_class(operation):
            found.append(operation)
            continue
        queue += operation._inbound_nodes[node_index].input_tensors
    return found


def _shares(layer: keras.layers.Layer, per_kernel: dict[str, float]) -> dict[str, float]:
    names = type(layer).masked_weights
    return {
        name: per_kernel[mask.kernel_path] for name, mask in zip(names, layer.masks, strict=True)
    }


def _convert(model: keras.Model, sparsities: dict, scheme) -> keras.Model:
    def convert(layer):
        if layer in sparsities:
            arguments = {"scheme": scheme, "sparsity": sparsities[layer]}
            return masked_class(layer).from_config(layer.get_config() | arguments)
        if type(layer) is keras.layers.BatchNormalization:
            return FusedBatchNormalization.from_config(layer.get_config())
        return type(layer).from_config(layer.get_config())

    return _clone(model, convert)


def _plain_layer(layer: keras.layers.Layer) -> keras.layers.Layer:
    config = layer.get_config()
    if plain_class(layer):
        for argument in _MASK_ARGUMENTS:
            config.pop(argument)
        return plain_class(layer).from_config(config)
    if isinstance(layer, FusedBatchNormalization):
        return keras.layers.BatchNormalization.from_config(config)
    return type(layer).from_config(config)


def _clone(model: keras.Model, convert: Callable) -> keras.Model:
    copies = {}

    def copy(layer):
        # A layer called twice must stay one layer.
        if id(layer) not in copies:
            nested = isinstance(layer, keras.Model)
            copies[id(layer)] = _clone(_functional(layer), convert) if nested else convert(layer)
        return copies[id(layer)]

    clone = keras.models.clone_model(model, clone_function=copy)
    for source, target in zip(_leaves(model), _leaves(clone), strict=True):
        _copy_weights(source, target)
    return clone


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
