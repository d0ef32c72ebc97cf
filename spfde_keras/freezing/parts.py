"""The parts of a layer that hides others, so that they can be frozen one by one."""

from collections.abc import Iterator

import keras

from spfde_keras import compat

_KNOWN = ("keras.", "spfde_keras.")


class OwnWeights(keras.layers.Layer):
    """Stands for the weights that a layer has beside the layers inside of it.

    Args:
        weights: the variables, which remain those of the layer.
        **kwargs: arguments of `keras.layers.Layer`.
    """

    def __init__(self, weights: list[keras.Variable], **kwargs: object):
        super().__init__(**kwargs)
        self.owned = weights


def parts(layer: keras.layers.Layer, path: str) -> Iterator[tuple[str, keras.layers.Layer]]:
    """Yields what a layer is made of, each part with its path.

    Layers of Keras' own classes are whole, models apart.

    Args:
        layer: the layer.
        path: its path.

    Example:

    >>> net = keras.Sequential([keras.layers.Dense(2, name="a"), keras.layers.Dense(2, name="b")])
    >>> net.build((None, 3))
    >>> [path for path, _ in parts(net, "net")]
    ['net/a', 'net/b']
    """
    inside = [one for one in compat.sublayers(layer) if one.weights]
    whole = type(layer).__module__.startswith(_KNOWN) and not isinstance(layer, keras.Model)
    if whole or not inside:
        yield path, layer
        return
    held = {id(weight) for one in inside for weight in one.weights}
    own = [weight for weight in compat.own_variables(layer) if id(weight) not in held]
    if own:
        yield f"{path}/own_weights", OwnWeights(own, name="own_weights")
    for one in inside:
        yield from parts(one, f"{path}/{one.name}")
