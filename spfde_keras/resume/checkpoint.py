"""All that a run needs to go on, as one checkpoint of TensorFlow."""

import json
import re
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

_NAME = "state"


class Facts(tf.train.experimental.PythonState):
    """What a checkpoint holds beside variables: a dictionary that JSON can write."""

    def __init__(self, values: dict[str, Any] | None = None):
        self.values = {} if values is None else values

    def serialize(self) -> str:
        return json.dumps(self.values)

    def deserialize(self, string_value: str | bytes) -> None:
        self.values = json.loads(string_value)


class Checkpoint:
    """The state of a model in training, with whatever is attached to it, and of its optimizer.

    Args:
        model: a compiled model, built, with nothing frozen but by the user.

    Example:

    >>> mlp = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> mlp.compile("adam", "mse")
    >>> checkpoint = Checkpoint(mlp)
    >>> checkpoint.save(Path("state"), {"epoch": 3})
    >>> checkpoint.damage(Path("state"), epoch=3)
    >>> checkpoint.restore(Path("state"))
    {'epoch': 3}
    """

    def __init__(self, model: keras.Model):
        if not model.built:
            raise ValueError(
                "The model must be built before `fit`: start it with keras.Input, or call it on a "
                f"batch. Received: {model.name!r}, which is not"
            )
        if model.optimizer is not None and not model.optimizer.built:
            with model.distribute_strategy.scope():
                model.optimizer.build(model.trainable_variables)
        names = ("monitor", "sieve", "alternation", "analyses", "optimizer")
        parts = [model, *(getattr(model, name, None) for name in names)]
        self._variables = [v for part in parts if part is not None for v in part.variables]

    def save(self, folder: Path, facts: dict[str, Any]) -> None:
        """Writes the files of the state into a folder.

        Args:
            folder: that is there.
            facts: what to keep beside the variables, as JSON can write it.

        Raises:
            OSError: it cannot be written.
        """
        kept = Facts({"facts": facts, "variables": self._shapes()})
        try:
            self._checkpoint(kept).write(str(folder / _NAME))
        except tf.errors.OpError as error:
            raise OSError(_plain(error)) from None

    def damage(self, folder: Path, epoch: int) -> str | None:
        """Returns what is wrong with the files of a state, None if nothing is.

        All of it is read, since TensorFlow compares the sum of a tensor when it reads it.

        Args:
            folder: where they are.
            epoch: int, the "epoch" that its facts must name.
        """
        try:
            reader = tf.train.load_checkpoint(str(folder / _NAME))
            for name in reader.get_variable_to_shape_map():
                reader.get_tensor(name)
            found = self.facts(folder).get("epoch")
        except Exception as error:  # of many classes, as many as there are damages
            return _plain(error)
        return None if found == epoch else f"it is of epoch {found}"

    def facts(self, folder: Path) -> dict[str, Any]:
        """Returns the facts that are kept with a state."""
        return self._read(folder)["facts"]

    def restore(self, folder: Path) -> dict[str, Any]:
        """Restores a state that is whole; returns the facts that are kept with it.

        Raises:
            ValueError: it is of another model. Nothing has changed then.
        """
        kept, names = self._read(folder), [variable.path for variable in self._variables]
        for index, (saved, now) in enumerate(zip(kept["variables"], self._shapes(), strict=False)):
            if saved[1:] != now[1:]:
                raise ValueError(
                    f"A run must be resumed with the same model and optimizer. Received: "
                    f"{names[index]!r} with shape and type {_text(now)}, where {folder} has "
                    f"{saved[0]!r} with {_text(saved)}"
                )
        if len(kept["variables"]) != len(names):
            raise ValueError(
                "A run must be resumed with the same model, optimizer and callbacks. Received: "
                f"{len(names)} variables, where {folder} has {len(kept['variables'])}"
            )
        self._checkpoint(Facts()).read(str(folder / _NAME)).assert_consumed()
        return kept["facts"]

    def _shapes(self) -> list[list]:
        # As JSON gives them back. Names start over where a process makes several models.
        return [[v.path, list(v.shape), keras.backend.standardize_dtype(v.dtype)] for v in
                self._variables]  # fmt: skip

    def _checkpoint(self, facts: Facts) -> tf.train.Checkpoint:
        return tf.train.Checkpoint(facts=facts, variables=[v.value for v in self._variables])

    def _read(self, folder: Path) -> dict[str, Any]:
        facts = Facts()
        tf.train.Checkpoint(facts=facts).read(str(folder / _NAME)).expect_partial()
        return facts.values


def _plain(error: Exception) -> str:
    """What an error says, in one line, without where TensorFlow was when it came."""
    message = str(getattr(error, "message", error))
    return " ".join(re.sub(r"\{\{.*?\}\}|\[Op:.*", "", message).split())


def _text(described: list) -> str:
    _, shape, dtype = described
    return f"{tuple(shape)} {dtype}"
