"""How good a model's sub-nets are: during a run, and in the end, in Keras and in its file."""

import pathlib

import numpy as np
import tensorflow as tf

from spfde_keras import SparseModel
from spfde_keras.export import evaluate_tflite
from spfde_keras.sparsity_summary import subnet_sparsities

from . import phones
from .progress import say

_BATCH = 256


def names(model: SparseModel) -> list[str]:
    """Returns the names of the sub-nets; "dense" is that of a model without masks."""
    return model.subnets or ["dense"]


def now(model: SparseModel, batches: tf.data.Dataset) -> dict[str, float]:
    """Returns what a row of history says of a model beside its training.

    Args:
        model: a compiled model.
        batches: test samples, (x, y).

    Returns:
        "val_loss" and "val_accuracy", of the active sub-net. Of several each has its own, and its
        sparsity, as "val_accuracy/subnet_90".
    """
    active, subnets = model.active, names(model)
    found: dict[str, float] = {}
    for index, (name, sparsity) in enumerate(
        zip(subnets, subnet_sparsities(model) or [0.0], strict=True)
    ):
        model.activate(index)
        tested = {f"val_{k}": v for k, v in _evaluate(model, batches).items()}
        if index == active:
            found |= tested
        if len(subnets) > 1:
            tested["sparsity"] = sparsity
            found |= {f"{column}/{name}": value for column, value in tested.items()}
    model.activate(active)
    return found


def in_the_end(model: SparseModel, path: pathlib.Path, x: np.ndarray, y: np.ndarray) -> list[dict]:
    """Returns the results on test samples of each sub-net, in Keras and in the file at `path`."""
    subnets, sparsities = names(model), subnet_sparsities(model) or [0.0]
    signatures = subnets if len(subnets) > 1 else [None]
    on_phones = phones.sparse_mode_accuracies(model, path, x, y, signatures)
    say(f"testing on {len(x)} samples, in Keras and in {path.name}")
    results = []
    for index, signature in enumerate(signatures):
        model.activate(index)
        tested = _evaluate(model, tf.data.Dataset.from_tensor_slices((x, y)).batch(_BATCH))
        results.append(
            {
                "name": subnets[index],
                "sparsity": sparsities[index],
                "test_accuracy": tested["accuracy"],
                "test_loss": tested["loss"],
                "tflite_test_accuracy": evaluate_tflite(path, x, y, signature=signature),
                **on_phones[index],
            }
        )
    model.activate(0)
    return results


def _evaluate(model: SparseModel, batches: tf.data.Dataset) -> dict[str, float]:
    return model.evaluate(batches, verbose=0, return_dict=True)
