"""What `fit` does with the callbacks it is given, before work starts."""

import inspect
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from spfde_keras import compat, compat_replicas
from spfde_keras.freezing.learning_rate import inner_optimizer
from spfde_keras.replicas import too_small
from spfde_keras.sieve.data_sieve import DataSieve
from spfde_keras.sieve.epochs import SieveEpochs
from spfde_keras.sieve.inputs import carries_ids


def bound_fit(model: keras.Model, args: tuple, kwargs: dict) -> inspect.BoundArguments:
    """Returns the arguments of `fit` by name, with its callbacks arranged."""
    bound = inspect.signature(keras.Model.fit).bind(model, *args, **kwargs)
    training = leading(bound.arguments.get("callbacks"))
    if len(training) > 1:
        names = ", ".join(type(one).__name__ for one in training)
        raise ValueError(
            "`callbacks` must hold one callback that trains sparse, since each changes masks, "
            f"samples and layers by a plan of its own. Received: {names}"
        )
    most_steps = _most_steps(bound.arguments)
    _check_sieve(bound.arguments, most_steps)
    callbacks = bound.arguments.get("callbacks")
    if callbacks is not None and not isinstance(callbacks, keras.callbacks.CallbackList):
        callbacks = arranged(keras.tree.flatten(callbacks))
        bound.arguments["callbacks"] = callbacks
        for callback in filter(keeps, callbacks):
            callback.begin(bound.arguments)
        _warn_of_best(model, callbacks, bound.arguments.get("epochs", 1))
        sieving = [one for one in callbacks if leads(one) and one.sieve is not None]
        for callback in sieving:
            # Given to Keras, an iteration would go on over several epochs, past updates.
            callback.most_steps = most_steps
            bound.arguments["steps_per_epoch"] = None
    replicas = model.replicas
    share = getattr(bound.arguments.get("x"), "share", None)
    if share is not None and replicas.workers > 1 and not bound.arguments.get("class_weight"):
        own = share(replicas.worker, replicas.workers)
        if own is not None:
            vars(own)["of_one_worker"] = True
            bound.arguments["x"] = own
    return bound


def _most_steps(arguments: Mapping[str, Any]) -> int | None:
    """The most steps of an epoch, by `steps_per_epoch` or as batches of a sieve were taken."""
    taken = getattr(arguments.get("x"), "most_steps", None)
    given = [each for each in (arguments.get("steps_per_epoch"), taken) if each is not None]
    return min(given, default=None)


def _check_sieve(arguments: Mapping[str, Any], most_steps: int | None) -> None:
    """Refuses a sieve in place of its batches; warns where nothing would exchange its samples."""
    x, callbacks = arguments.get("x"), keras.tree.flatten(arguments.get("callbacks"))
    if isinstance(x, DataSieve):
        raise ValueError(
            "`x` must be the batches of a sieve: fit(sieve.batches(batch_size)). Received: the "
            "DataSieve itself"
        )
    if not isinstance(x, tf.data.Dataset) or not carries_ids(x):
        return
    chosen = getattr(x, "chosen", None)
    of = None if chosen is None else chosen()
    for callback in leading(callbacks):
        if callback.sieve is None:
            continue  # which the first step refuses
        if chosen is None:
            raise ValueError(
                "`x` must be what `sieve.batches` returned, or what its `map`, `prefetch`, "
                "`shuffle`, `take` or `with_options` made of it: otherwise nobody knows which "
                f"samples an epoch has. Received: a {type(x).__name__.lstrip('_')}"
            )
        if of is not callback.sieve:
            raise ValueError(
                "`x` must be batches of the sieve that the callback has. Received: those of "
                "another DataSieve"
            )
        if most_steps is not None and isinstance(
            arguments.get("callbacks"), keras.callbacks.CallbackList
        ):
            raise ValueError(
                "`callbacks` must be a list where epochs of a sieve are to have fewer steps than "
                f"there are samples for. Received: a CallbackList, and {most_steps} steps"
            )
    follows = (keras.callbacks.CallbackList, SieveEpochs)
    if not any(leads(one) or isinstance(one, follows) for one in callbacks):
        warnings.warn(
            "Nothing exchanges the samples of the sieve, so that those left out now stay out: "
            "pass callbacks=[SpFDE(sieve=sieve)] to `fit`, too.",
            stacklevel=4,
        )


def _warn_of_best(
    model: keras.Model, callbacks: Sequence[keras.callbacks.Callback], epochs: int
) -> None:
    """Warns where weights would be kept for a score that they had before masks changed."""
    rests = max((one.masks_rest(model, epochs) for one in callbacks if leads(one)), default=0)
    for callback in callbacks:
        if isinstance(callback, keras.callbacks.EarlyStopping):
            keeping, start = callback.restore_best_weights, callback.start_from_epoch
            hint = f"start_from_epoch={rests} waits until masks rest"
        elif isinstance(callback, keras.callbacks.ModelCheckpoint):
            keeping, start = callback.save_best_only, 0
            hint = "evaluate what it kept again"
        else:
            continue
        if keeping and start < rests:
            warnings.warn(
                f"{type(callback).__name__} keeps the weights of the best epoch as an update of "
                "masks has left them, and its score is that of before: weights are dropped "
                f"then, and others are new. Masks change until epoch {rests}; {hint}.",
                stacklevel=4,
            )


def arranged(callbacks: Sequence[keras.callbacks.Callback]) -> list[keras.callbacks.Callback]:
    """Returns callbacks in an order that works, those of sparse training first.

    What saves, logs or stops must see masks as a boundary left them. What keeps the state of a run
    comes last, so that it keeps what others have changed.

    Raises:
        ValueError: if one of them could not do its work when its time comes.

    Example:

    >>> stop = keras.callbacks.EarlyStopping()
    >>> [type(one).__name__ for one in arranged([stop, spfde_keras.SpFDE(2)])]
    ['SpFDE', 'EarlyStopping']
    """
    for callback in callbacks:
        if isinstance(callback, keras.callbacks.ModelCheckpoint):
            check_file(callback.filepath)
        elif isinstance(callback, keras.callbacks.TensorBoard):
            compat.draw_booleans(callback)
    return sorted(callbacks, key=lambda callback: (keeps(callback), not leads(callback)))


def leading(callbacks: Any) -> list[keras.callbacks.Callback]:
    """Returns those of a `fit`'s callbacks that train the model, also in a `CallbackList`."""
    lists = [getattr(one, "callbacks", [one]) for one in keras.tree.flatten(callbacks)]
    return [one for each in lists for one in each if leads(one)]


def leads(callback: Any) -> bool:
    """Returns whether a callback trains the model, and so comes first."""
    return getattr(callback, "trains_sparse", False)


def keeps(callback: Any) -> bool:
    """Returns whether a callback keeps the state of a run, and so comes last."""
    return getattr(callback, "keeps_states", False)


def check_file(path: Any) -> None:
    """Raises ValueError for a file of a format that cannot hold masks."""
    name = str(path)
    if name.endswith((".h5", ".hdf5", ".keras.h5")) and not name.endswith(".weights.h5"):
        raise ValueError(
            "Models with masks are saved to .keras files, their weights also to .weights.h5. "
            f"Received: {name}"
        )


_STRATEGIES = (tf.distribute.MirroredStrategy, tf.distribute.MultiWorkerMirroredStrategy)


def check_replicas(model: keras.Model, arguments: Mapping[str, Any]) -> None:
    """Raises ValueError where several devices cannot train a model as `fit` is to do it.

    Args:
        model: a compiled `SparseModel`.
        arguments: those of `fit`, by name.
    """
    if keras.distribution.distribution() is not None:
        name = type(keras.distribution.distribution()).__name__
        raise ValueError(
            "With TensorFlow, keras.distribution distributes nothing: make the model in the scope "
            f"of a tf.distribute strategy instead. Received: a {name}"
        )
    strategy, current = model.replicas.strategy, tf.distribute.get_strategy()
    if tf.distribute.has_strategy() and current is not strategy:
        raise ValueError(
            "The model must be made (`sparsify` or `wrap`, and `compile`) in the scope of the "
            "strategy that is to train it. Received: a model made outside, in the scope of a "
            f"{type(current).__name__}"
        )
    if model.replicas.count == 1:
        return
    if type(strategy) not in _STRATEGIES:
        names = " or ".join(f"tf.distribute.{one.__name__}" for one in _STRATEGIES)
        raise ValueError(f"Several devices need a {names}. Received: {type(strategy).__name__}")
    if (
        model.optimizer is not None
        and compat_replicas.optimizer_strategy(model.optimizer) is not strategy
    ):
        raise ValueError(
            "The optimizer must be made in `with strategy.scope():`, as the model was. Received: "
            f"{type(model.optimizer).__name__}, made outside"
        )
    accumulated = getattr(inner_optimizer(model.optimizer), "gradient_accumulation_steps", None)
    if accumulated:
        raise ValueError(
            "On several devices, Keras does not accumulate gradients: compile without "
            f"`gradient_accumulation_steps`. Received: {accumulated}"
        )
    reductions = {
        loss.reduction for loss in tf.nest.flatten(model.loss) if isinstance(loss, keras.Loss)
    }
    if reductions - {"sum_over_batch_size", "mean"}:
        raise ValueError(
            "On several devices, losses must be means over samples: "
            f"reduction='sum_over_batch_size'. Received: {sorted(map(str, reductions))}"
        )
    callbacks = keras.tree.flatten(arguments.get("callbacks"))
    backups = [one for one in callbacks if isinstance(one, keras.callbacks.BackupAndRestore)]
    if backups and model.replicas.workers > 1:
        raise ValueError(
            "Several workers are resumed with spfde_keras.Resume, of which one writes. Received: "
            "keras.callbacks.BackupAndRestore, with which each does"
        )
    if model.steps_per_execution > 1:
        raise ValueError(
            "On several devices, Keras takes one step at a time: compile with "
            f"steps_per_execution=1. Received: {model.steps_per_execution}"
        )
    _check_remainder(model.replicas.count, arguments)


def _check_remainder(replicas: int, arguments: Mapping[str, Any]) -> None:
    x = arguments.get("x")
    if isinstance(x, tf.distribute.DistributedDataset):
        raise ValueError(
            "`fit` spreads batches over devices by itself: pass the tf.data.Dataset of the whole "
            f"batches. Received: {type(x).__name__}"
        )
    size, rests = _last_batches(x, arguments)
    rest = min(rests, default=replicas)
    if rest < replicas:
        received = f"batches of {size}, of which the last one has {rest}"
        raise too_small(replicas, "choose another size", received)


def _last_batches(x: Any, arguments: Mapping[str, Any]) -> tuple[int, set[int]]:
    """The size of batches, and those of incomplete ones; none where they are not known before."""
    first = next(iter(keras.tree.flatten(x)), None)
    if isinstance(first, (np.ndarray, tf.Tensor)):
        size = arguments.get("batch_size") or 32
        samples = math.floor(len(first) * (1 - (arguments.get("validation_split") or 0.0)))
        return size, {samples % size} - {0}
    if not isinstance(x, tf.data.Dataset):
        return 0, set()
    sieves = [one.sieve for one in leading(arguments.get("callbacks"))]
    if carries_ids(x) and any(sieves):
        sizes = next(sieve for sieve in sieves if sieve is not None).batch_sizes
        return max(sizes), sizes - {max(sizes)}
    steps = arguments.get("steps_per_epoch")
    return compat.batching(x) if steps is None else (0, set())
