"""The devices and processes that a run is spread over."""

import contextlib
import dataclasses
import functools
import os
import tempfile
from collections.abc import Iterator

import tensorflow as tf

from spfde_keras.replicas import Replicas

from .config import RunConfig


@functools.cache
def make(name: str) -> Replicas:
    """Returns the replicas of a strategy; call it before anything else of TensorFlow.

    Args:
        name: "none", "mirrored" for all devices of this process, or "multiworker" for those of
            the processes that the environment variable TF_CONFIG names.

    Raises:
        ValueError: "multiworker" without TF_CONFIG.

    Example:

    >>> make("none").count
    1
    """
    if name == "multiworker" and not os.environ.get("TF_CONFIG"):
        raise ValueError(
            "`strategy` multiworker needs the environment variable TF_CONFIG, which names all "
            "workers and which of them this one is; BUILD.md has an example. Received: none"
        )
    strategies = {
        "none": tf.distribute.get_strategy,
        "mirrored": tf.distribute.MirroredStrategy,
        "multiworker": tf.distribute.MultiWorkerMirroredStrategy,
    }
    return Replicas(strategies[name]())


@contextlib.contextmanager
def as_worker(config: RunConfig) -> Iterator[RunConfig]:
    """Yields the options of this worker: the chief's are `config`, all others work in the dark.

    Those do what the chief does, since most of it takes all of them, but print nothing and write
    to a folder that is removed in the end.
    """
    if make(config.strategy).chief:
        yield config
        return
    with (
        tempfile.TemporaryDirectory() as folder,
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
    ):
        yield dataclasses.replace(config, output_dir=folder, resume=False)
