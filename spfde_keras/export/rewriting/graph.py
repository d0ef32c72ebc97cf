"""A model's graph while it is rewritten: what is around each call, and what takes its place."""

import collections
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from spfde_keras import compat
from spfde_keras.graph import Call, trace

_POOLINGS = (layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D)
# The converter takes a scale or an offset into these, if they have no activation,
_KERNEL_LAYERS = (layers.Conv2D, layers.DepthwiseConv2D, layers.Dense)
# also with these in between, which do nothing in inference.
_IDLE = (
    layers.ActivityRegularization,
    layers.Dropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.Identity,
    layers.SpatialDropout2D,
)
_ARITHMETIC = ("Add", "Subtract", "Multiply", "TrueDivide", "Divide")  # of keras.ops


class Rewriting:
    """The graph of a model, and the tensors of the new one.

    Tensors are those of the old model unless a method says otherwise.

    Args:
        model: functional, of Keras' own layers. They become layers of the new model; those of
            nested models get another name where two models have some of the same.
    """

    def __init__(self, model: keras.Model):
        graph = trace(model)
        self.sites = [CallSite(self, call) for call in graph.calls]
        self.outputs = graph.outputs
        self._results = {id(tensor) for tensor in graph.outputs}
        self._makers = {id(tensor): site for site in self.sites for tensor in site.outputs}
        self._readers: dict[int, list[CallSite]] = collections.defaultdict(list)
        for site in self.sites:
            for tensor in site.inputs:
                self._readers[id(tensor)].append(site)
        self._new = {id(tensor): tensor for tensor in graph.inputs}
        self._names = collections.Counter(_distinct_names(model, graph.calls))
        self._stems: set[int] = set()
        self._flipped: set[int] = set()
        self._linear: set[int] = set()
        self._after_stem: set[int] = set()
        self._pooled, self._head = self._after_pooling()

    def maker(self, tensor: keras.KerasTensor) -> "CallSite | None":
        """Returns the call that makes a tensor; None for an input."""
        return self._makers.get(id(tensor))

    def readers(self, tensor: keras.KerasTensor) -> "list[CallSite]":
        """Returns the calls that read a tensor."""
        return self._readers[id(tensor)]

    def is_result(self, tensor: keras.KerasTensor) -> bool:
        """Returns whether a tensor is an output of the model."""
        return id(tensor) in self._results

    def is_read_once(self, tensor: keras.KerasTensor) -> bool:
        """Returns whether a single call reads a tensor, and it is no output of the model."""
        return len(self.readers(tensor)) == 1 and not self.is_result(tensor)

    def is_stem(self, site: "CallSite") -> bool:
        """Returns whether a call is one where a sparse region can begin."""
        return id(site) in self._stems

    def is_flipped(self, tensor: keras.KerasTensor) -> bool:
        """Returns whether the new model holds this image with height and width reversed."""
        return id(tensor) in self._flipped

    def is_after_stem(self, tensor: keras.KerasTensor) -> bool:
        """Returns whether a tensor is computed from what a stem makes."""
        return id(tensor) in self._after_stem

    def is_inside(self, tensor: keras.KerasTensor) -> bool:
        """Returns whether a tensor is an image where phones could run sparse."""
        return self.is_after_stem(tensor) and len(tensor.shape) == 4 and not self.is_head(tensor)

    def is_pooled(self, tensor: keras.KerasTensor) -> bool:
        """Returns whether a tensor is computed only from results of global poolings."""
        return id(tensor) in self._pooled

    def is_head(self, tensor: keras.KerasTensor) -> bool:
        """Returns whether a tensor is pooled and never meets an image again, as gates do."""
        return id(tensor) in self._head

    def folds(self, tensor: keras.KerasTensor) -> bool:
        """Returns whether the converter takes a scale of this tensor into a convolution."""
        return id(tensor) in self._linear and self.is_read_once(tensor)

    def new(self, tensor: keras.KerasTensor) -> keras.KerasTensor:
        """Returns the new model's tensor in place of one of the old model."""
        return self._new[id(tensor)]

    def mark_stems(self, stems: "Iterable[CallSite]", flipped: Iterable[int]) -> None:
        """Notes where sparse regions begin, and which images to flip.

        Args:
            stems: the calls that read what the model is given.
            flipped: ids of tensors.
        """
        self._stems = {id(site) for site in stems}
        self._flipped = set(flipped)
        for site in self.sites:
            if self.is_stem(site) or any(self.is_after_stem(tensor) for tensor in site.inputs):
                self._after_stem.update(map(id, site.outputs))

    def put(self, site: "CallSite", outputs: Any) -> None:
        """Notes what the new model has in place of a call.

        Args:
            site: the call.
            outputs: the new model's tensors, as the call makes them.
        """
        outputs = keras.tree.flatten(outputs)
        self._new.update(zip(map(id, site.outputs), outputs, strict=True))

        layer = compat.maker(outputs[0])
        is_linear = (
            isinstance(layer, _KERNEL_LAYERS) and layer.activation is keras.activations.linear
        )
        passes = isinstance(site.layer, _IDLE) or (is_per_channel(site) and not negates(site))
        if is_linear or (passes and self.folds(site.input)):
            self._linear.add(id(site.output))

    def repeat(self, site: "CallSite") -> Any:
        """Calls the same layer on the new model's tensors; returns what it makes."""
        return site.call.repeat(self._new)

    def unused(self, name: str) -> str:
        """Returns a name for a new layer: this one, with a number added if it is taken."""
        self._names[name] += 1
        count = self._names[name] - 1
        return f"{name}_{count}" if count else name

    def _after_pooling(self) -> tuple[set[int], set[int]]:
        pooled: set[int] = set()
        for site in self.sites:
            is_pooled = bool(site.inputs) and all(id(tensor) in pooled for tensor in site.inputs)
            if is_pooled or isinstance(site.layer, _POOLINGS) or pools_all(site):
                pooled.update(map(id, site.outputs))
        head: set[int] = set()
        for site in reversed(self.sites):
            for tensor in site.outputs:
                read = [other for reader in self.readers(tensor) for other in reader.inputs]
                made = [other for reader in self.readers(tensor) for other in reader.outputs]
                if id(tensor) in pooled and all(id(other) in pooled for other in read):
                    if all(id(other) in head for other in made):
                        head.add(id(tensor))
        return pooled, head


class CallSite:
    """One call in the model that is rewritten, with all that a rewrite needs.

    Args:
        rewriting: of the model.
        call: of a layer or an operation.
    """

    def __init__(self, rewriting: Rewriting, call: Call):
        self.rewriting = rewriting
        self.call = call
        self.layer: Any = call.layer  # of any class: what is asked of it depends on that
        self.inputs, self.outputs = call.inputs, call.outputs

    @property
    def input(self) -> keras.KerasTensor:
        """The first tensor it reads."""
        return self.inputs[0]

    @property
    def output(self) -> keras.KerasTensor:
        """The first tensor it makes."""
        return self.outputs[0]

    @property
    def is_flipped(self) -> bool:
        """Whether it makes a flipped image in the new model."""
        return self.rewriting.is_flipped(self.output)

    @property
    def padding(self) -> "CallSite | None":
        """The ZeroPadding2D that only this call reads, if there is one."""
        source = self.rewriting.maker(self.input)
        if source is None or type(source.layer) is not layers.ZeroPadding2D:
            return None
        is_own = self.rewriting.is_read_once(self.input)
        return source if is_own and source.layer.data_format == "channels_last" else None

    def new(self, tensor: keras.KerasTensor) -> keras.KerasTensor:
        """Returns the new model's tensor in place of one of the old model."""
        return self.rewriting.new(tensor)

    def add(
        self,
        layer_class: type[keras.layers.Layer],
        suffix: str,
        inputs: Any,
        weights: Sequence[np.ndarray] = (),
        **options: Any,
    ) -> keras.KerasTensor:
        """Calls a new layer in place of this one; returns what it makes.

        Args:
            layer_class: a class of keras.layers.
            suffix: str, added to the name of the layer that is replaced.
            inputs: tensors of the new model.
            weights: arrays, all of the layer's weights.
            options: of the layer.
        """
        name = self.rewriting.unused(f"{self.layer.name}_{suffix}")
        dtype = getattr(self.layer, "dtype_policy", None)
        layer = layer_class(name=name, dtype=dtype, **options)
        outputs = layer(inputs)
        layer.set_weights(weights)
        return outputs


def pools_all(site: CallSite) -> bool:
    """Returns whether a call is an average pooling with one window over the whole image."""
    layer = site.layer
    if type(layer) is not layers.AveragePooling2D or layer.data_format != "channels_last":
        return False
    one_window = site.output.shape[1:3] == (1, 1)
    return one_window and tuple(layer.pool_size) == site.input.shape[1:3]


def is_per_channel(site: CallSite) -> bool:
    """Returns whether a call scales and offsets each channel, and does nothing else."""
    layer = site.layer
    in_training = site.call.kwargs.get("training")  # fixed when the model was built
    if len(site.inputs) != 1 or len(site.input.shape) != 4 or in_training:
        return False
    if type(layer) is layers.BatchNormalization:
        return layer.axis in (-1, 3)
    if type(layer) is layers.Normalization:
        return layer.axis in ((-1,), (3,))
    if type(layer) is layers.Rescaling:
        return _fits_channels(layer.scale) and _fits_channels(layer.offset)
    if isinstance(layer, layers.Layer) or type(layer).__name__ not in _ARITHMETIC:
        return False
    operands = [*site.call.args, *site.call.kwargs.values()]
    constants = [x for x in operands if not isinstance(x, keras.KerasTensor)]
    is_divisor = "Divide" in type(layer).__name__ and operands[0] is constants[0]
    return all(map(_fits_channels, constants)) and not is_divisor


def negates(site: CallSite) -> bool:
    """Returns whether a call subtracts from a constant, which the converter cannot fold."""
    is_difference = type(site.layer).__name__ == "Subtract" and len(site.inputs) == 1
    return is_difference and not isinstance(site.call.args[0], keras.KerasTensor)


def _fits_channels(constant: Any) -> bool:
    return all(size == 1 for size in np.shape(constant)[:-1])


def _distinct_names(model: keras.Model, calls: Iterable[Call]) -> Iterable[str]:
    """Renames layers of nested models that are named as another; returns all names in use."""
    owners = {operation.name: operation for operation in model.operations}
    for call in calls:
        prefix = "".join(f"{name}_" for name in call.path.split("/")[:-1])
        while owners.setdefault(call.layer.name, call.layer) is not call.layer:
            call.layer.name = f"{prefix}{call.layer.name}"
    return owners.keys()
