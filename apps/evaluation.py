"""How good a model's sub-nets are: during a run, and in the end, in Keras and in its file."""

import pathlib
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from spfde_keras import SparseModel
from spfde_keras.export import evaluate_tflite
from spfde_keras.sparsity_summary import subnet_sparsities

from . import phones
from .datasets import Dataset
from .progress import say
from .streamed import Streamed


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


def in_the_end(
    model: SparseModel,
    path: pathlib.Path,
    dataset: Dataset | Streamed,
    as_trained: Callable[[tf.data.Dataset], tf.data.Dataset],
) -> list[dict]:
    """Returns the results on test samples of each sub-net, in Keras and in the file at `path`.

    Args:
        model: a compiled model.
        path: its file.
        dataset: whose test samples are taken.
        as_trained: function of batches that gives labels the form that the model's loss takes.
    """
    subnets, sparsities = names(model), subnet_sparsities(model) or [0.0]
    signatures = subnets if len(subnets) > 1 else [None]
    tests = dataset.tests()
    on_phones = phones.sparse_mode_accuracies(
        model, path, *_arrays(dataset.tests(phones.most(dataset.input_shape))), signatures
    )
    say(f"testing on {dataset.test_samples} samples, in Keras and in {path.name}")
    results = []
    for index, signature in enumerate(signatures):
        model.activate(index)
        tested = _evaluate(model, as_trained(tests))
        results.append(
            {
                "name": subnets[index],
                "sparsity": sparsities[index],
                "test_accuracy": tested["accuracy"],
                "test_loss": tested["loss"],
                "tflite_test_accuracy": _of_file(path, tests, signature),
                **on_phones[index],
            }
        )
    model.activate(0)
    return results


def _of_file(path: pathlib.Path, tests: tf.data.Dataset, signature: str | None) -> float:
    right = total = 0
    for x, y in tests.as_numpy_iterator():
        right += round(evaluate_tflite(path, x, y, signature=signature) * len(y))
        total += len(y)
    return right / total


def _arrays(batches: tf.data.Dataset) -> tuple[np.ndarray, np.ndarray]:
    parts = zip(*batches.as_numpy_iterator(), strict=True)
    x, y = (np.concatenate(part) for part in parts)
    return x, y


def _evaluate(model: SparseModel, batches: tf.data.Dataset) -> dict[str, float]:
    return model.evaluate(batches, verbose=0, return_dict=True)
