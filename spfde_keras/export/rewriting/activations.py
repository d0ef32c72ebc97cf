"""Activations that XNNPACK cannot run sparse, as sums or clippings of some that it can."""

from collections.abc import Callable

import keras
import numpy as np
from keras import layers

from spfde_keras.export.rewriting.graph import CallSite
from spfde_keras.export.rewriting.replacements import scaled

# SELU is this multiple of an ELU of this alpha. Source: Klambauer et al., NeurIPS 2017.
_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


def needs_layer(site: CallSite) -> bool:
    """Returns whether the activation within a layer must become a layer, to be rewritten."""
    return site.rewriting.is_inside(site.output) and site.layer.activation in _FUNCTIONS


def activated(site: CallSite, image: keras.KerasTensor) -> keras.KerasTensor:
    """Returns an image after the activation within a layer.

    Args:
        site: what is rewritten.
        image: tensor of the new model.
    """
    function = site.layer.activation
    if function is keras.activations.linear:
        return image
    if needs_layer(site):
        return _FUNCTIONS[function](site, image)
    return site.add(layers.Activation, "activation", image, activation=function)


def rewritten(site: CallSite, image: keras.KerasTensor) -> keras.KerasTensor | None:
    """Returns an image after an activation layer; None if there is nothing to rewrite.

    Args:
        site: of any layer.
        image: tensor of the new model.
    """
    layer = site.layer
    if type(layer) is layers.Activation and layer.activation in _FUNCTIONS:
        return _FUNCTIONS[layer.activation](site, image)
    if type(layer) is layers.ELU and layer.alpha != 1:
        return _elu(site, image, layer.alpha)
    if type(layer) is layers.PReLU:
        return _prelu(site, image, keras.ops.convert_to_numpy(layer.alpha))
    return None


def _hard_sigmoid(site: CallSite, image: keras.KerasTensor) -> keras.KerasTensor:
    return site.add(layers.ReLU, "clip", scaled(site, image, 1 / 6, 0.5), max_value=1.0)


def _elu(
    site: CallSite, image: keras.KerasTensor, alpha: float, scale: float = 1.0
) -> keras.KerasTensor:
    """An ELU of any alpha: between those of 0, which is ReLU, and of 1."""
    elu = site.add(layers.ELU, "elu", image)
    return _mixed(site, image, scale * (1 - alpha), elu, scale * alpha)


def _selu(site: CallSite, image: keras.KerasTensor) -> keras.KerasTensor:
    return _elu(site, image, _SELU_ALPHA, _SELU_SCALE)


def _prelu(site: CallSite, image: keras.KerasTensor, alpha: np.ndarray) -> keras.KerasTensor | None:
    """A slope for each channel: between those of 0, which is ReLU, and of 1."""
    alpha = alpha.reshape(-1, alpha.shape[-1])
    if np.any(alpha != alpha[0]):
        return None  # It differs from pixel to pixel.
    return _mixed(site, image, 1 - alpha[0], image, alpha[0])


def _mixed(
    site: CallSite,
    image: keras.KerasTensor,
    share: np.ndarray | float,
    other: keras.KerasTensor,
    other_share: np.ndarray | float,
) -> keras.KerasTensor:
    """Returns share * relu(image) + other_share * other."""
    relu = site.add(layers.ReLU, "relu", image)
    return site.add(
        layers.Add, "sum", [scaled(site, relu, share), scaled(site, other, other_share)]
    )


_FUNCTIONS: dict[Callable, Callable[[CallSite, keras.KerasTensor], keras.KerasTensor]] = {
    keras.activations.hard_sigmoid: _hard_sigmoid,
    keras.activations.selu: _selu,
}
