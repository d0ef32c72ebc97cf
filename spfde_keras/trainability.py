"""What of a layer is trainable: remembered whole, so that it can be given back."""

import keras

from spfde_keras import compat
from spfde_keras.masking import Mask


class Trainability:
    """The `trainable` flags of a layer, of the layers inside of it, and of each weight.

    Setting `layer.trainable` overwrites them all; `restore` gives them back.

    Args:
        layer: the layer.

    Example:

    >>> dense = keras.layers.Dense(2)
    >>> dense.build((None, 2))
    >>> dense.kernel.trainable = False
    >>> before = Trainability(dense)
    >>> dense.trainable = False
    >>> dense.trainable = True
    >>> before.restore()
    >>> dense.kernel.trainable, dense.bias.trainable
    (False, True)
    """

    def __init__(self, layer: keras.layers.Layer):
        self._layers = [(one, one.trainable) for one in nested_layers(layer)]
        self._weights = [
            (weight, weight.trainable)
            for one, _ in self._layers
            for weight in compat.own_trainable(one)
        ]

    @property
    def any(self) -> bool:
        """Whether any weight was trainable."""
        return any(trainable for _, trainable in self._weights)

    def restore(self) -> None:
        """Gives all flags back, outer layers first: setting theirs sets those inside."""
        for flags in (self._layers, self._weights):
            for owner, trainable in flags:
                owner.trainable = trainable


def copy_trainability(source: keras.layers.Layer, target: keras.layers.Layer) -> None:
    """Gives a layer, and all inside of it, the flags of another one of the same structure."""
    pairs = list(zip(nested_layers(source), nested_layers(target), strict=True))
    for one, other in pairs:
        other.trainable = one.trainable
    for one, other in pairs:
        for weight, copy in zip(
            compat.own_trainable(one), compat.own_trainable(other), strict=True
        ):
            copy.trainable = weight.trainable


def nested_layers(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Returns a layer and those inside of it, outer ones first, without masks."""
    found: list[keras.layers.Layer] = []
    queue = [layer]
    while queue:
        one = queue.pop(0)
        if not isinstance(one, Mask) and not any(one is other for other in found):
            found.append(one)
            queue.extend(compat.sublayers(one))
    return found
