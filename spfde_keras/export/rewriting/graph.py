"""A model's graph while it is rewritten: what each call reads and makes, old and new."""

import collections
import dataclasses
from collections.abc import Iterable

import keras
import numpy as np
from keras import layers

from spfde_keras.cloning import as_functional, has_graph

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


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a layer or an operation in the model that is rewritten.

    Args:
        layer: keras.Operation.
        inputs: the tensors it reads.
        outputs: the tensors it makes.
        arguments: of the call, as Keras keeps them.
    """

    layer: keras.Operation
    inputs: tuple[keras.KerasTensor, ...]
    outputs: tuple[keras.KerasTensor, ...]
    arguments: object


class Rewriting:
    """The graph of a flat model, and the tensors of the new one.

    Tensors are those of the old model but where it says otherwise.

    Args:
        model: as `flat` returns it.
    """

    def __init__(self, model: keras.Model):
        self.calls = [
            Call(n.operation, tuple(n.input_tensors), tuple(n.outputs), n.arguments)
            for n in _nodes(model)
        ]
        self._makers = {id(tensor): call for call in self.calls for tensor in call.outputs}
        self._readers = collections.defaultdict(list)
        for call in self.calls:
            for tensor in call.inputs:
                self._readers[id(tensor)].append(call)
        self.results = {id(tensor) for tensor in model.outputs}
        self._new = {id(tensor): tensor for tensor in model.inputs}
        self._names = collections.Counter(layer.name for layer in model.layers)
        self._stems: set[int] = set()
        self._flipped: set[int] = set()
        self._linear: set[int] = set()
        self._after_stem: set[int] = set()
        self._pooled, self._head = self._after_pooling()

    def maker(self, tensor) -> Call | None:
        """Returns the call that makes a tensor; None for an input."""
        return self._makers.get(id(tensor))

    def readers(self, tensor) -> list[Call]:
        """Returns the calls that read a tensor."""
        return self._readers[id(tensor)]

    def is_read_once(self, tensor) -> bool:
        """Returns whether a single call reads a tensor, and it is no output of the model."""
        return len(self.readers(tensor)) == 1 and id(tensor) not in self.results

    def is_stem(self, call: Call) -> bool:
        """Returns whether a call is one where a sparse region can begin."""
        return id(call) in self._stems

    def is_flipped(self, tensor) -> bool:
        """Returns whether the new model holds this image with height and width reversed."""
        return id(tensor) in self._flipped

    def is_after_stem(self, tensor) -> bool:
        """Returns whether a tensor is computed from what a stem makes."""
        return id(tensor) in self._after_stem

    def is_inside(self, tensor) -> bool:
        """Returns whether a tensor is an image where phones could run sparse."""
        return self.is_after_stem(tensor) and len(tensor.shape) == 4 and not self.is_head(tensor)

    def is_pooled(self, tensor) -> bool:
        """Returns whether a tensor is computed from results of global poolings alone."""
        return id(tensor) in self._pooled

    def is_head(self, tensor) -> bool:
        """Returns whether a tensor is pooled and never meets an image again, as gates do."""
        return id(tensor) in self._head

    def mark_stems(self, stems: Iterable[Call], flipped: Iterable[int]) -> None:
        """Notes where the images come from, and which of them are to be flipped.

        Args:
            stems: the calls that read what the model is given.
            flipped: ids of tensors.
        """
        self._stems = {id(call) for call in stems}
        self._flipped = set(flipped)
        for call in self.calls:
            if self.is_stem(call) or any(self.is_after_stem(tensor) for tensor in call.inputs):
                self._after_stem.update(map(id, call.outputs))

    def new(self, tensor) -> keras.KerasTensor:
        """Returns the new model's tensor in the place of one of the old model."""
        return self._new[id(tensor)]

    def put(self, call: Call, outputs) -> None:
        """Notes what the new model has in the place of a call.

        Args:
            call: of the old model.
            outputs: the new model's tensors, as the call makes them.
        """
        outputs = keras.tree.flatten(outputs)
        self._new.update(zip(map(id, call.outputs), outputs, strict=True))

        maker = outputs[0]._keras_history.operation
        is_kernel = isinstance(maker, _KERNEL_LAYERS)
        passes = isinstance(call.layer, _IDLE) or (is_per_channel(call) and not negates(call))
        if (is_kernel and maker.activation is keras.activations.linear) or (
            passes and self.folds(call.inputs[0])
        ):
            self._linear.add(id(call.outputs[0]))

    def folds(self, tensor) -> bool:
        """Returns whether the converter takes a scale of this tensor into a convolution."""
        return id(tensor) in self._linear and self.is_read_once(tensor)

    def repeat(self, call: Call):
        """Calls the same layer on the new model's tensors; returns what it makes."""
        args, kwargs = call.arguments.fill_in(self._new)
        return call.layer(*args, **kwargs)

    def add(self, layer_class, call: Call, suffix: str, inputs, weights=(), **options):
        """Calls a new layer; returns what it makes.

        Args:
            layer_class: a class of keras.layers.
            call: what is rewritten, whose name and dtype the layer takes over.
            suffix: str, added to the name.
            inputs: tensors of the new model.
            weights: arrays, all of the layer's weights.
            options: of the layer.
        """
        name = f"{call.layer.name}_{suffix}"
        options["name"] = f"{name}_{self._names[name]}" if self._names[name] else name
        self._names[name] += 1
        dtype = getattr(call.layer, "dtype_policy", None)
        layer = layer_class(dtype=dtype, **options)
        outputs = layer(inputs)
        layer.set_weights(weights)
        return outputs

    def _after_pooling(self) -> tuple[set[int], set[int]]:
        pooled = set()
        for call in self.calls:
            is_pooled = bool(call.inputs) and all(id(tensor) in pooled for tensor in call.inputs)
            if is_pooled or isinstance(call.layer, _POOLINGS) or pools_all(call):
                pooled.update(map(id, call.outputs))
        head = set()
        for call in reversed(self.calls):
            for tensor in call.outputs:
                read = [other for reader in self.readers(tensor) for other in reader.inputs]
                made = [other for reader in self.readers(tensor) for other in reader.outputs]
                if id(tensor) in pooled and all(id(other) in pooled for other in read):
                    if all(id(other) in head for other in made):
                        head.add(id(tensor))
        return pooled, head


def pools_all(call: Call) -> bool:
    """Returns whether a call is an average pooling with one window over the whole image."""
    layer = call.layer
    if type(layer) is not layers.AveragePooling2D or layer.data_format != "channels_last":
        return False
    one_window = call.outputs[0].shape[1:3] == (1, 1)
    return one_window and tuple(layer.pool_size) == call.inputs[0].shape[1:3]


def is_per_channel(call: Call) -> bool:
    """Returns whether a call scales and offsets each channel, and does nothing else.

    Args:
        call: of any layer or operation.
    """
    layer = call.layer
    in_training = call.arguments.kwargs.get("training")  # fixed when the model was built
    if len(call.inputs) != 1 or len(call.inputs[0].shape) != 4 or in_training:
        return False
    if type(layer) is layers.BatchNormalization:
        return layer.axis in (-1, 3)
    if type(layer) is layers.Normalization:
        return layer.axis in ((-1,), (3,))
    if type(layer) is layers.Rescaling:
        return _fits_channels(layer.scale) and _fits_channels(layer.offset)
    if isinstance(layer, layers.Layer) or type(layer).__name__ not in _ARITHMETIC:
        return False
    operands = [*call.arguments.args, *call.arguments.kwargs.values()]
    constants = [x for x in operands if not isinstance(x, keras.KerasTensor)]
    is_divisor = "Divide" in type(layer).__name__ and operands[0] is constants[0]
    return all(map(_fits_channels, constants)) and not is_divisor


def negates(call: Call) -> bool:
    """Returns whether a call subtracts from a constant, which the converter folds into nothing.

    Args:
        call: of any layer or operation.
    """
    is_difference = type(call.layer).__name__ == "Subtract" and len(call.inputs) == 1
    return is_difference and not isinstance(call.arguments.args[0], keras.KerasTensor)


def _fits_channels(constant) -> bool:
    return all(size == 1 for size in np.shape(constant)[:-1])


def flat(model: keras.Model) -> keras.Model:
    """Returns a functional model of the same layers, nested models replaced by theirs.

    Args:
        model: a functional or Sequential model. Its layers get another name where two models in
            it have some of the same.
    """
    model = as_functional(model)
    names = {operation.name: operation for operation in model.operations}
    outputs = _inline(model, model.inputs, "", names)
    return keras.Model(
        model.input, keras.tree.pack_sequence_as(model.output, outputs), name=model.name
    )


def _nodes(model: keras.Model) -> list:
    """The calls of a functional model, in an order in which they can run."""
    depths = sorted(model._nodes_by_depth, reverse=True)
    nodes = [node for depth in depths for node in model._nodes_by_depth[depth]]
    return [node for node in nodes if not node.is_input]


def _inline(model: keras.Model, inputs, prefix: str, names: dict) -> list[keras.KerasTensor]:
    """Calls the layers of a model on `inputs`; returns its outputs."""
    new = dict(zip(map(id, model.inputs), inputs, strict=True))
    for node in _nodes(model):
        args, kwargs = node.arguments.fill_in(new)
        layer = node.operation
        if has_graph(layer):
            inner = as_functional(layer)
            tensors = [
                x for x in keras.tree.flatten((args, kwargs)) if isinstance(x, keras.KerasTensor)
            ]
            path = f"{prefix}{layer.name}_"
            outputs = _inline(inner, tensors[: len(inner.inputs)], path, names)
        else:
            while names.setdefault(layer.name, layer) is not layer:
                layer.name = f"{prefix}{layer.name}"
            outputs = keras.tree.flatten(layer(*args, **kwargs))
        new.update(zip(map(id, node.outputs), outputs, strict=True))
    return [new[id(tensor)] for tensor in model.outputs]
