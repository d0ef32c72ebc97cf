"""Models, data and epochs that cannot be trained sparse, refused before anything is trained."""

import warnings

import keras

from spfde_keras import own_classes
from spfde_keras.freezing.learning_rate import inner_optimizer
from spfde_keras.masking import find_masks
from spfde_keras.timeline import Timeline
from spfde_keras.training import SparseModel
from spfde_keras.updaters import Updater


def check_model(name: str, model: keras.Model, updater: Updater, timeline: Timeline) -> None:
    """Raises ValueError if a callback cannot train a model.

    Args:
        name: of the callback's class.
        model: what it is given.
        updater: how masks change.
        timeline: when they do.
    """
    if not isinstance(model, SparseModel):
        raise ValueError(
            f"The {name} callback needs a model made by `spfde_keras.sparsify`, or by "
            f"`spfde_keras.wrap` for one without masks. Received: {type(model).__name__}"
        )
    if model.optimizer is None:
        raise ValueError("The model must be compiled with an optimizer before `fit`.")
    inner_optimizer(model.optimizer)
    if timeline.update_steps is not None and not find_masks(model):
        raise ValueError(
            "`update_steps` must be left out with a model that has no masks. Received: "
            f"{timeline.update_steps}"
        )
    shared = type(updater).allocate is not Updater.allocate
    of_groups = {
        str(one.scheme) for mask in find_masks(model) for one in mask.subnets if one.scheme.density
    }
    if shared and of_groups:
        raise ValueError(
            f"`updater` must leave kernels the share that scheme {', '.join(sorted(of_groups))} "
            f"keeps in each group. Received: {type(updater).__name__}, which moves weights from "
            "kernel to kernel"
        )
    own_step = "train_step" in own_classes.overrides(type(model))
    if own_step and (updater.gradient or len(model.subnets) > 1):
        raise ValueError(
            f"The {name} callback must know the loss that a step trains: use an updater "
            'without gradients ("set", "static", "magnitude") and one sub-net, or override '
            f"`compute_loss` instead. Received: {type(model).__name__} with its own `train_step`"
        )


def check_update_steps(update_steps: int | None, updater: Updater) -> None:
    """Raises ValueError if masks are to change every so many steps, and never do."""
    if update_steps is not None and not updater.stop:
        raise ValueError(
            f"`update_steps` must be left out with {type(updater).__name__}, with which masks "
            f"never change. Received: {update_steps}"
        )


def check_steps(timeline: Timeline, steps: int | None, at_once: int) -> None:
    """Raises ValueError if masks cannot change within intervals.

    Args:
        timeline: when they are to change.
        steps: of an epoch; None where `fit` does not know them.
        at_once: steps that the model takes without a pause, its `steps_per_execution`.
    """
    if steps is None:
        raise ValueError(
            "`fit` must know the number of steps in an epoch, to spread the updates of masks: "
            "pass `steps_per_epoch`, or a dataset of known cardinality."
        )
    every = timeline.update_steps
    if every is not None and every >= timeline.interval * steps:
        raise ValueError(
            "`update_steps` must be below the steps of an interval, "
            f"{timeline.interval} x {steps}: at its end masks change anyway. Received: {every}"
        )
    if every is not None and every < at_once:
        raise ValueError(
            f"`update_steps` must not be below the model's `steps_per_execution`, {at_once}: "
            f"between these steps nothing can change. Received: {every}"
        )


def check_follows(epoch: int, completed: int) -> None:
    """Raises ValueError if an epoch does not follow those completed; warns if it starts over."""
    if epoch == 0 < completed:
        warnings.warn(
            f"Training starts over, after {completed} epochs that this callback has trained: "
            f"pass initial_epoch={completed} to `fit` to go on instead.",
            stacklevel=3,
        )
    elif completed != epoch:
        raise ValueError(
            f"Epoch {epoch} cannot follow {completed} completed epochs. To go on, fit the same "
            f"model with the same callback and initial_epoch={completed}; to resume in a new "
            "process, use spfde_keras.Resume."
        )
