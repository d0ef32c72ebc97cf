"""The Keras peers of benchmarks/peers.py, each a process: ours, dense, bfloat16, and tfmot's.

`python benchmarks/peer_keras.py PEER SETTINGS`.
"""

import dataclasses
import importlib
import importlib.metadata
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from apps import models  # first: no log of TensorFlow

# isort: split
import keras

from benchmarks import step_time
from benchmarks.peer_process import Trainer, lines, serve
from spfde_keras import kernels
from spfde_keras.cost.model import profile

Settings = dict[str, Any]


@dataclasses.dataclass
class Net:
    """What a peer trains.

    Args:
        dense: the model that was made sparse.
        model: the model to train.
        library: the module of Keras that it is of.
        callbacks: that its training needs.
    """

    dense: keras.Model
    model: Any
    library: Any = keras
    callbacks: Sequence = ()


def plain(settings: Settings) -> keras.Model:
    """The model of a plain training script."""
    shape, classes = step_time.INPUT_SHAPE, step_time.CLASSES
    return models.build(settings["model"], shape, classes, width=settings["width"])


def dense(settings: Settings) -> Net:
    """Dense Keras 3 in float32."""
    model = plain(settings)
    return Net(model, model)


def bfloat16(settings: Settings) -> Net:
    """Dense Keras 3, activations and products in bfloat16."""
    use_bfloat16()
    return dense(settings)


def use_bfloat16() -> None:
    """What a user adds in front of the model."""
    keras.mixed_precision.set_global_policy("mixed_bfloat16")


def ours(settings: Settings) -> Net:
    """Sparse, zeros skipped."""
    if not kernels.status().active:
        raise RuntimeError(f"zeros are not skipped here: {kernels.status().reason}")
    model = plain(settings)
    left_dense = models.dense_layers(settings["model"])
    return Net(model, sparse(model, settings["sparsity"], left_dense))


def sparse(model: keras.Model, sparsity: float, left_dense: Sequence[str]) -> keras.Model:
    """What a user adds behind the model."""
    import spfde_keras

    return spfde_keras.sparsify(model, sparsity, dense=left_dense)


def tfmot(settings: Settings) -> Net:
    """Pruned by tfmot to the same sparsity, in the same layers, in Keras 2."""
    module, tf_keras = step_time.baselines()
    model = plain(settings)
    left_dense = models.dense_layers(settings["model"])
    names = step_time.masked_layers(sparse(model, settings["sparsity"], left_dense))
    twin = step_time.keras2_twin(model, tf_keras)
    pruned = step_time.prune(twin, names, settings["sparsity"], module, tf_keras)
    return Net(model, pruned, tf_keras, pruning_callbacks())


def pruning_callbacks() -> list:
    """What a user adds to `fit`."""
    import tensorflow_model_optimization as tfmot

    return [tfmot.sparsity.keras.UpdatePruningStep()]


@dataclasses.dataclass(frozen=True)
class Peer:
    """How a peer is made.

    Args:
        net: makes what it trains.
        added: what a user adds to a plain training script.
        modules: what it is made with, by the name of the package that has it.
    """

    net: Callable[[Settings], Net]
    added: tuple[Callable, ...]
    modules: dict[str, str]


_KERAS3 = {"tensorflow": "tensorflow", "keras": "keras"}
_TFMOT = {
    "tensorflow": "tensorflow",
    "tf-keras": "tf_keras",
    "tensorflow-model-optimization": "tensorflow_model_optimization",
}
PEERS = {
    "ours": Peer(ours, (sparse,), _KERAS3 | {"spfde-keras": "spfde_keras"}),
    "keras": Peer(dense, (), _KERAS3),
    "bfloat16": Peer(bfloat16, (use_bfloat16,), _KERAS3),
    "tfmot": Peer(tfmot, (step_time.prune, pruning_callbacks), _TFMOT),
}


def build(name: str, settings: Settings) -> Trainer:
    """The trainer of a peer, whose step is the one that `fit` compiles."""
    keras.utils.set_random_seed(0)
    peer = PEERS[name]
    net = peer.net(settings)
    batch = step_time.random_batch(settings["batch_size"])
    train_step = step_time.train_step(net.model, net.library, batch, net.callbacks)
    iterator = iter(batch)

    def step() -> float:
        net.model.reset_metrics()  # or the loss is the mean of all steps so far
        return float(train_step(iterator)["loss"])

    facts = {
        "weights": sum(math.prod(weight.shape) for weight in net.model.trainable_weights),
        "macs": int(profile(net.dense).forward({})) // 2,
        "versions": {package: importlib.metadata.version(package) for package in peer.modules},
        "lines": lines(*peer.added),
    }
    if name == "ours":
        facts["skipping"], facts["sparse_kernels"] = step_time.skipping_kernels(net.model)
    return Trainer(step, facts)


if __name__ == "__main__":
    for module in PEERS[sys.argv[1]].modules.values():
        importlib.import_module(module)
    serve(lambda: build(sys.argv[1], json.loads(sys.argv[2])))
