"""What sparse training reaches in an architecture, and whether it goes all the way."""

import collections
import dataclasses
import math
import pathlib
import warnings

import keras
import numpy as np

from spfde_keras import (
    DataSieve,
    Freezing,
    SpFDE,
    densify,
    export_tflite,
    find_blocks,
    sparsify,
)
from spfde_keras.masking import find_masks
from tests.architectures import nets


@dataclasses.dataclass(frozen=True)
class Reach:
    """What was seen of one architecture.

    Args:
        name: str.
        masked: float, the share of all weights that have a mask.
        blocks: int, how many blocks can be frozen one by one.
        largest: float, the share of weights in the largest of them.
        dense: dict, for each reason the number of layers left dense.
        saved: str, "model" or, where Keras cannot load the plain model either, "weights".
        file: float, the exported file's largest error as a share of the output's scale.
    """

    name: str
    masked: float
    blocks: int
    largest: float
    dense: dict[str, int]
    saved: str
    file: float


def go(name: str, net: nets.Net, folder: pathlib.Path, epochs: int = 2, export: bool = True):
    """Takes an architecture all the way: sparsify, SpFDE, save, load, densify, export."""
    model = net.make()
    sparse = sparsify(model, 0.8)
    masks, blocks = find_masks(sparse), find_blocks(sparse)
    size = sum(math.prod(weight.shape) for weight in model.weights)
    sizes = [len_of(block) for block in blocks]
    sparse.compile(keras.optimizers.Adam(1e-3), net.loss)
    x = tuple(net.x) if isinstance(net.x, list) else net.x
    sieve = DataSieve((x, net.y), 0.25, correct=net.correct)
    freeze = Freezing() if len(blocks) > 1 else None
    callback = SpFDE(epochs, "mest_ems", 1, freeze=freeze, sieve=sieve)
    history = sparse.fit(sieve.batches(8), epochs=epochs, verbose=0, callbacks=[callback]).history
    assert np.isfinite(history["loss"]).all()
    assert freeze is None or history["frozen_blocks"][-1] > 0
    for mask in masks:
        kernel, (kept,) = mask.read()
        assert not kernel[~kept].any()
    inputs = keras.tree.map_structure(keras.ops.convert_to_tensor, net.x)
    expected = keras.tree.flatten(sparse(inputs))
    restored, saved = restore(sparse, net, folder)
    plain = densify(restored)
    for one, other in zip(keras.tree.flatten(plain(inputs)), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
    error = export_tflite(sparse, folder / "model.tflite").max_error if export else math.nan
    reasons = collections.Counter(why.partition(":")[0] for why in sparse.left_dense.values())
    return Reach(
        name,
        sum(mask.layout.size for mask in masks) / size,
        len(blocks),
        max(sizes) / sum(sizes),
        dict(reasons),
        saved,
        error,
    )


def len_of(block: list[keras.layers.Layer]) -> int:
    """The number of weights in a block."""
    kinds = {id(weight): weight for layer in block for weight in layer.weights}
    return sum(math.prod(w.shape) for w in kinds.values() if "float" in str(w.dtype))


def restore(sparse, net: nets.Net, folder: pathlib.Path):
    """Returns the model from a file: whole, where Keras can do so with the plain one."""
    if can_be_loaded(densify(sparse), folder):
        sparse.save(folder / "model.keras")
        return keras.models.load_model(folder / "model.keras"), "model"
    sparse.save_weights(folder / "model.weights.h5")
    made = sparsify(net.make(), 0.8)
    made.load_weights(folder / "model.weights.h5")
    return made, "weights"


def can_be_loaded(model: keras.Model, folder: pathlib.Path) -> bool:
    """Whether Keras can load a plain model, with the classes at hand."""
    classes = {type(layer).__name__: type(layer) for layer in model._flatten_layers()}
    own = {n: c for n, c in classes.items() if not c.__module__.startswith("keras.")}
    keras.saving.get_custom_objects().update(own)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.save(folder / "plain.keras")
            keras.models.load_model(folder / "plain.keras")
    except Exception:
        return False
    return True
