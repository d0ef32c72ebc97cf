"""How a Keras layer becomes a masked one, and which layers can."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras

from spfde_keras import checks, compat, schemes
from spfde_keras.layout import KernelLayout
from spfde_keras.masking import Mask, SchemeLike, subnet_targets
from spfde_keras.registry import make_serializable

_MASKED: dict[type, type[keras.layers.Layer]] = {}


MASK_ARGUMENTS = ("scheme", "sparsity")
"""What masked layers take beside the arguments of Keras' layers."""

# Any: a mixin calls methods of the layer class that it is combined with.
MixinBase: Any = object


class MaskArguments(MixinBase):
    """Mixin, placed before a Keras layer class, that adds `scheme` and `sparsity` to its arguments.

    Args:
        *args: arguments of the Keras layer.
        scheme: a `Scheme` or its name, how zeros are grouped; or a list of them, one for each
            sub-net.
        sparsity: float in [0, 1), or a list of them, one for each sub-net; or a dictionary of
            these by the names in `masked_weights`; weights not named in it get no mask.
        **kwargs: arguments of the Keras layer.

    Raises:
        ValueError: if `sparsity` is out of range or names a weight the layer does not mask.
    """

    masked_weights: tuple[str, ...] = ("kernel",)
    depthwise_weights: tuple[str, ...] = ()
    """Those of them in which each output depends on a single input."""

    def __init__(
        self,
        *args: Any,
        scheme: SchemeLike | Sequence[SchemeLike] = "unstructured",
        sparsity: float | Sequence[float] | dict[str, float | Sequence[float]] = 0.0,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        self.scheme, self.sparsity = _arguments(self.masked_weights, scheme, sparsity)

    @classmethod
    def from_config(cls, config: dict) -> Any:
        try:
            # What attention masks depends on the layer's other arguments.
            weights = cls.masked_weights if isinstance(cls.masked_weights, tuple) else None
            _arguments(weights, config.get("scheme"), config.get("sparsity", 0.0))
        except ValueError as error:
            raise ValueError(f"Layer {config.get('name')!r}: {error}") from None
        return super().from_config(config)

    def get_config(self) -> dict:
        config = super().get_config()
        config["scheme"] = _each(keras.saving.serialize_keras_object, self.scheme)
        config["sparsity"] = dict(self.sparsity)
        return config


def _arguments(
    weights: tuple[str, ...] | None, scheme: Any, sparsity: Any
) -> tuple[Any, dict[str, Any]]:
    """Schemes, and the sparsities of weights by name; of any weights where it is not known."""
    scheme = _each(schemes.get, scheme)
    if weights is None:
        weights = tuple(sparsity) if isinstance(sparsity, dict) else ("kernel",)
    if not isinstance(sparsity, dict):
        sparsity = dict.fromkeys(weights, sparsity)
    unknown = set(sparsity) - set(weights)
    if unknown:
        raise ValueError(
            f"`sparsity` must name weights among {weights}. Received: {sorted(unknown)}"
        )
    shares = {weight: sparsity[weight] for weight in weights if weight in sparsity}
    for share in shares.values():
        subnet_targets(scheme, share)
    return scheme, shares


def _each(function: Callable, one_or_several: Any) -> Any:
    if isinstance(one_or_several, (list, tuple)):
        return [function(one) for one in one_or_several]
    return function(one_or_several)


class MaskedLayer(MaskArguments):
    """Mixin, placed before a Keras layer class, that runs the layer with masked kernels.

    A subclass names its kernels in `masked_weights` and returns their axes from
    `kernel_layout`. The layer's own `call` is unchanged: it reads masked values.

    Args:
        *args, **kwargs: as for `MaskArguments`.
    """

    def build(self, input_shape: Sequence[int | None]) -> None:
        super().build(input_shape)
        self.attach_masks()

    def attach_masks(self) -> None:
        """Makes the masks; to be called by `build`."""
        for weight, sparsity in self.sparsity.items():
            mask = Mask(self.scheme, sparsity, name=f"{weight}_mask", dtype="float32")
            mask.attach(self.variable_of(weight), self.kernel_layout(weight))
            setattr(self, mask.name, mask)

    def variable_of(self, weight: str) -> keras.Variable:
        """Returns the variable of the kernel called `weight`."""
        return getattr(self, weight)

    def kernel_layout(self, weight: str) -> KernelLayout:
        """Returns the axes of the kernel called `weight`."""
        raise NotImplementedError

    @property
    def masks(self) -> list[Mask]:
        """The masks of this layer's kernels."""
        return [getattr(self, f"{weight}_mask") for weight in self.sparsity]

    def quantize(self, *args: Any, **kwargs: Any) -> None:
        raise ValueError(
            "A masked layer cannot be quantized: fold its masks in first, with "
            f"`spfde_keras.densify(model)`. Received: {self.name!r}"
        )

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        plain = getattr(super(), "call", None)
        if plain is None or "call" in cls.__dict__:
            return

        # Keras decides by the signature whether to pass `training` and the like: keep it.
        @functools.wraps(plain)
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            return self._call_masked(plain, *args, **kwargs)

        cls.call = call

    def _call_masked(self, call: Callable, *args: Any, **kwargs: Any) -> Any:
        # In a stateless scope every variable is read from the scope, so it gets them all.
        values = {id(v): (v, v.value) for v in compat.own_variables(self)}
        for mask in self.masks:
            values[id(mask.kernel)] = (mask.kernel, mask(mask.kernel.value))
        with keras.StatelessScope(values.values(), collect_losses=True) as scope:
            given = dict(scope.state_mapping)
            outputs = call(self, *args, **kwargs)
        # Changes of state (random seeds, statistics) and losses must outlast the scope.
        for variable in self.variables:
            value = scope.get_current_value(variable)
            if value is not given.get(id(variable)):
                variable.assign(value)
        for loss in scope.losses:
            self.add_loss(loss)
        return outputs


def register_masked(layer_class: type) -> Callable[[type], type]:
    """Class decorator that makes `sparsify` turn `layer_class` into the decorated class.

    Args:
        layer_class: the Keras layer class (exact type) to replace.

    Returns:
        A decorator that registers a `MaskedLayer` subclass, also for saving: Keras knows it
        under its own top-level package, unless it was registered with
        `keras.saving.register_keras_serializable` before.

    Example:

    >>> class Scale(keras.layers.Layer):
    ...     def build(self, input_shape: Sequence[int | None]) -> None:
    ...         self.w = self.add_weight(shape=(input_shape[-1], 8))
    ...     def call(self, inputs):
    ...         return inputs @ self.w
    >>> @register_masked(Scale)
    ... class MaskedScale(MaskedLayer, Scale):
    ...     masked_weights = ("w",)
    ...     def kernel_layout(self, weight):
    ...         return KernelLayout(tuple(self.w.shape), (), (0,), (1,))
    """

    rule = "a class of Keras layers"
    if not issubclass(checks.instance("layer_class", layer_class, type, rule), keras.layers.Layer):
        checks.refuse("layer_class", rule, layer_class)

    def register(masked_class: type) -> type:
        _MASKED[layer_class] = masked_class
        # Version 0.1.0 saved all masked classes as ours.
        before = f"spfde_keras>{masked_class.__name__}"
        keras.saving.get_custom_objects().setdefault(before, masked_class)
        return make_serializable(masked_class)

    return register


def masked_class(layer: keras.layers.Layer) -> type[keras.layers.Layer] | None:
    """Returns the masked class for a layer, None if it has none."""
    checks.instance("layer", layer, keras.layers.Layer, "a Keras layer")
    return _MASKED.get(type(layer))


def plain_class(layer: keras.layers.Layer) -> type[keras.layers.Layer] | None:
    """Returns the Keras class of a masked layer, None if it is not masked."""
    checks.instance("layer", layer, keras.layers.Layer, "a Keras layer")
    return next((plain for plain, masked in _MASKED.items() if masked is type(layer)), None)
