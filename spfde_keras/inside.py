"""Masks inside layers that know nothing of them: written down, and made again when loaded."""

from typing import Any

import keras

from spfde_keras import checks, compat
from spfde_keras.layers.base import MASK_ARGUMENTS, MaskArguments
from spfde_keras.masking import find_masks
from spfde_keras.places import name_streams, places
from spfde_keras.rebuilding import leaf_layers
from spfde_keras.replacements import Replacements, fused, masked, rebuild

Inside = dict[str, Any]
"""By the place of a layer: the arguments of its masks, and the paths of its kernels."""


def describe(model: keras.Model) -> Inside:
    """Returns what `restore` needs to know of masks, fused layers included, inside of layers.

    Args:
        model: a functional model with masks.
    """
    found: Inside = {}
    for index, place in enumerate(places(model)):
        layer = place.layer
        if layer is place.leaf or not type(layer).__module__.startswith(f"{__package__}."):
            continue
        found[str(index)] = {}
        if isinstance(layer, MaskArguments):
            config = layer.get_config()
            paths = [mask.kernel_path for mask in find_masks(layer)]
            found[str(index)] = {name: config[name] for name in MASK_ARGUMENTS} | {"paths": paths}
    return found


def restore(model: keras.Model, inside: Inside, subnets: int) -> keras.Model:
    """Returns the graph of a model with masks inside of its layers as `describe` saw them.

    Args:
        model: a functional model as made from its configuration.
        inside: what `describe` returned.
        subnets: int, the number of sub-nets.
    """
    found = places(model)
    rule = f"a dictionary from layers, 0 to {len(found) - 1}, to the arguments of their masks"
    for key, arguments in checks.instance("inside", inside, dict, rule).items():
        known = {str(index) for index in range(len(found))}
        if key not in known or not (arguments == {} or _is_whole(arguments)):
            checks.refuse("inside", rule, {key: arguments})
    replacements: Replacements = {}
    for index, place in enumerate(found):
        wanted = inside.get(str(index))
        if wanted and not isinstance(place.layer, MaskArguments):
            arguments = {name: wanted[name] for name in MASK_ARGUMENTS}
            replacements[place.layer] = masked(place.layer, **arguments)
    outer = set(leaf_layers(model))
    within = fused(model, max(1, subnets))
    replacements |= {layer: new for layer, new in within.items() if layer not in outer}
    return rebuild(model, replacements)


def _is_whole(arguments: Any) -> bool:
    return isinstance(arguments, dict) and all(name in arguments for name in MASK_ARGUMENTS)


def name_kernels(model: keras.Model, inside: Inside) -> None:
    """Gives kernels inside of layers the paths that they had; layers may be named anew."""
    found = places(model)
    for index, wanted in inside.items():
        paths = wanted.get("paths", ())
        for mask, path in zip(find_masks(found[int(index)].layer), paths, strict=False):
            compat.rename_variable(mask.kernel, path)
    name_streams(model)
