"""What an app does with a file that trains, in Python: the plan of `SpFDE`, on LiteRT."""

import os
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np

from spfde_keras import checks, compat
from spfde_keras.callbacks import SpFDE
from spfde_keras.device import shares, trainable
from spfde_keras.device.app import App, staged
from spfde_keras.device.contents import Contents, contents_of, kernels_of
from spfde_keras.device.cutting import check_cut, parts_of
from spfde_keras.device.state import is_of
from spfde_keras.freezing.blocks import first_trained, which_train
from spfde_keras.freezing.freezer import Freezer
from spfde_keras.freezing.learning_rate import inner_optimizer
from spfde_keras.masking import Subnet
from spfde_keras.randomness import generator
from spfde_keras.sieve.data_sieve import DataSieve
from spfde_keras.sieve.identified import Identified
from spfde_keras.sieve.policies import Circular
from spfde_keras.sparsify import densify

Arrays = dict[str, np.ndarray]


class Trainer:
    """Trains a file on LiteRT as `model.fit` with `SpFDE` trains the model it was made from.

    It is the loop that an app writes: it calls the file's signatures, and nothing of Keras
    computes. Masks, samples in training and frozen blocks are those of the callback. Let the
    callback be new, and the file have been exported with its `settings_for`.

    Args:
        path: a file that `export_trainable_tflite` wrote.
        model: the model that was exported, compiled with the same loss, and an optimizer whose
            learning rate or schedule is followed. It is not changed.
        callback: an `SpFDE` that is given `epochs`.
        cut: as it was passed to `export_trainable_tflite`.

    Raises:
        ValueError: if the file cannot do what the callback plans.
        ModuleNotFoundError: if the extra "export" is not installed.

    Example:

    >>> settings = {"optimizer": "sgd", "loss": "sparse_categorical_crossentropy"}
    >>> model.compile(**settings)
    >>> callback = spfde_keras.SpFDE(epochs=2, updater="set", interval=1)
    >>> _ = spfde_keras.export_trainable_tflite(
    ...     model, "trainable.tflite", **settings, batch_size=4, **settings_for(model, callback))
    >>> trainer = Trainer("trainable.tflite", model, callback)
    >>> history = trainer.fit([(np.zeros((4, 8, 8, 1), "float32"), np.zeros(4, "int32"))])
    >>> [logs["frozen_blocks"] for logs in history]
    [0, 0]

    Source: SpFDE (Yuan et al., NeurIPS 2022), Algorithms 1 and 2.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        model: keras.Model,
        callback: SpFDE,
        cut: str | None = None,
    ):
        checks.instance("callback", callback, SpFDE, "an SpFDE")
        graph = _compiled(model)
        check_cut(graph, cut)
        self._app = _opened(path)
        callback.set_model(model)
        self._callback, self._freezer = callback, _checked_plan(callback)
        self._optimizer = inner_optimizer(model.optimizer)
        self._updater = shares.get(callback.updater)
        contents = contents_of(model, parts_of(densify(model), cut), self._updater)
        kernels = kernels_of(model)
        self._kernels = [
            (one, kernels[one.variable.path]) for one in contents.stored if one.places is not None
        ]
        (self._blocks,) = self._app.shape("train", "rate")
        # The file has no blocks in front of the cut, nor those that the user has frozen.
        self._first = self._freezer.blocks - self._blocks if self._blocks > 1 else 0
        self._steps = 0
        self._check(contents)

    @property
    def state(self) -> np.ndarray:
        """What `load_device_state` takes, and `restore`: float32 (numbers,)."""
        return self._app["save"]()["state"]

    def infer(self, x: np.ndarray) -> np.ndarray:
        """Returns the outputs for samples (samples, ...)."""
        return self._app.singly("infer", x)

    def fit(self, data: Iterable) -> list[dict[str, float]]:
        """Trains for the callback's epochs.

        Args:
            data: batches of the file's size, read once an epoch: (x, y), or, with a sieve,
                `sieve.batches(batch_size, drop_remainder=True)`.

        Returns:
            A dictionary for each epoch: "loss" and, where the loss tells it, "accuracy" of its
            batches, "frozen_blocks", "active_samples" and, where masks change, "stayed", the
            share of weights that its boundary left.
        """
        if self._steps:
            warnings.warn(
                f"Training starts over, after {self._steps} steps: masks, samples and frozen "
                "blocks follow the plan from its beginning, a schedule of the rate goes on.",
                stacklevel=2,
            )
        history = []
        self._start()
        for epoch in range(self._callback.epochs):
            found = self._epoch(epoch, data)
            found |= self._boundary(epoch + 1)
            history.append(found)
        return history

    def _epoch(self, epoch: int, data: Iterable) -> dict[str, float]:
        sieve, frozen = self._callback.sieve, self._freezer.frozen(epoch)
        if sieve is not None:
            sieve.start_epoch(epoch)
        train = self._app[staged("train", self._stage(frozen))]
        losses, correct, samples = [], [], 0
        for batch in data:
            self._batch = self._checked(batch)
            found = train(**self._batch, rate=self._rates(epoch))
            self._steps += 1
            losses.append(found["loss"][0])
            correct.extend(found.get("correct", ()))
            samples += len(self._batch["x"])
        if not losses:
            raise ValueError(
                "`data` must give batches each time that it is read, once an epoch. "
                f"Received: none in epoch {epoch + 1}"
            )
        if not np.all(np.isfinite(losses)):
            raise ValueError(
                f"`data` must give finite losses. Received: {losses[-1]} in epoch {epoch + 1}; "
                "labels may be no class, ids no sample, or the learning rate too large"
            )
        logs = {"loss": float(np.mean(losses))}
        if correct:
            logs["accuracy"] = float(np.mean(correct))
        return logs | {"frozen_blocks": frozen, "active_samples": samples}

    def _checked(self, batch: Any) -> Arrays:
        """A batch as the file takes it."""
        x, y, *others = batch
        if any(other is not None for other in others):
            raise ValueError(
                "`data` must give (x, y), since a file takes no weights of samples. Received: "
                f"batches of {len(batch)}"
            )
        identified, sieve = isinstance(x, Identified), self._callback.sieve
        if identified != (sieve is not None):
            raise ValueError(
                "`data` must be `sieve.batches(...)` if, and only if, the callback has a sieve. "
                f"Received: {'' if identified else 'no '}batches of a sieve, and sieve={sieve}"
            )
        given = {"x": x.inputs, "sample": x.sample_id} if identified else {"x": x}
        inputs: Arrays = {}
        details = self._app["train"].get_input_details()
        for name, value in (given | {"y": y}).items():
            array, shape = np.asarray(value), tuple(map(int, details[name]["shape"]))
            if array.shape[:1] != shape[:1] or _long(array.shape[1:]) != _long(shape[1:]):
                raise ValueError(
                    f"`data` must give batches of {shape[0]} samples: {name} of shape {shape}. "
                    f"Received: {array.shape}; batch with drop_remainder=True"
                )
            inputs[name] = array.astype(details[name]["dtype"]).reshape(shape)
        return inputs

    def _rates(self, epoch: int) -> np.ndarray:
        """The learning rate of each block."""
        plan = self._freezer.plan
        factors = np.ones(self._blocks) if plan is None else plan.multipliers(epoch)[self._first :]
        return (compat.rate_at(self._optimizer, self._steps) * factors).astype("float32")

    def _start(self) -> None:
        """Opens the soft bound, if there is one."""
        updater = self._updater
        if self._kernels and updater is not None and shares.grows_first(updater):
            self._batch = self._app.zeros("train")
            share = shares.share(updater, 0.0)
            self._mutate("mutate", event=0, blocks=range(self._blocks), share=share)

    def _boundary(self, done: int) -> dict[str, float]:
        callback, timeline = self._callback, self._callback.timeline
        t, sieve = timeline.fraction(done), callback.sieve
        if not timeline.is_boundary(done):
            return {}
        if sieve is not None and timeline.data_changes(done, sieve.policy):
            self._sieve(sieve, done)
        updater = self._updater
        if updater is None or not self._kernels or not timeline.masks_change(done):
            return {}
        mutate = staged("mutate", self._stage(self._freezer.frozen(done - 1)))
        before, settled = (self._stage(n) for n in self._freezer.settled(done, timeline))
        stayed = {}
        # Blocks that freeze now keep what is most important; the others drop and grow.
        parts = (range(before, settled), 0.0), (range(settled, self._blocks), None)
        for blocks, share in parts:
            if blocks:
                share = shares.share(updater, t) if share is None else share
                stayed["stayed"] = self._mutate(mutate, done, blocks, share)
        return stayed

    def _mutate(self, name: str, event: int, blocks: Sequence[int], share: float) -> float:
        """Changes the masks of some blocks by numbers that the callback would draw."""
        given = np.full(self._blocks, -1.0, "float32")
        given[list(blocks)] = share
        random = np.concatenate([self._drawn(event, kernel) for _, kernel in self._kernels])
        wanted = self._app[name].get_input_details()
        inputs = {k: v for k, v in self._batch.items() if k in wanted}
        if "features" in wanted:
            inputs["features"] = self._app.singly("features", self._batch["x"])
        (stayed,) = self._app[name](share=given, random=random, **inputs)["stayed"]
        if not np.isfinite(stayed):
            raise ValueError(
                f"`path` must have room for a share of {share:g}. Received: {self._app.path}; "
                "export it with the callback's updater"
            )
        return float(stayed)

    def _drawn(self, event: int, kernel: Subnet) -> np.ndarray:
        layout = kernel.layout
        rng = generator(self._callback.seed, event, kernel.stream)
        drawn = [each.random(layout.canonical_shape, np.float32) for each in (rng, *rng.spawn(1))]
        return np.concatenate([layout.from_canonical(numbers).ravel() for numbers in drawn])

    def _sieve(self, sieve: DataSieve, event: int) -> None:
        """Exchanges samples in the order that the sieve would draw."""
        rng = generator(sieve.seed, event, "sieve/update")
        random = np.zeros(sieve.total, "float32")
        ids = rng.permutation(np.flatnonzero(sieve.member.numpy()))
        random[ids] = _falling(ids.size)
        removed = sieve.queue.shape[0]
        shuffle = np.zeros(removed, "float32")
        shuffle[rng.permutation(removed)] = _falling(removed)
        member = self._app["sieve"](random=random, shuffle=shuffle)["member"]
        sieve.member.assign(member.astype(bool))

    def _stage(self, frozen: int) -> int:
        """How many of the file's blocks are frozen where so many of the model's are."""
        return min(max(0, frozen - self._first), self._blocks)

    def _check(self, contents: Contents) -> None:
        """Raises ValueError unless the file can do what the callback plans."""
        path = self._app.path
        if not is_of(self.state, contents.about):
            raise ValueError(
                "`path` must be a file of this model, of the same `cut` and of the callback's "
                f"updater. Received: {path}; export it with settings_for(model, callback)"
            )
        plan = self._freezer.plan
        stages = 0 if plan is None else self._stage(int(plan.frozen.max()))
        if staged("train", stages) not in self._app:
            raise ValueError(
                f"`path` must have {stages} stages, as many as the callback freezes blocks. "
                f"Received: {path}; export it with stages={stages}"
            )
        if plan is not None and self._first + self._blocks != self._freezer.blocks:
            raise ValueError(f"`path` must have the blocks of the model. Received: {path}")
        if self._kernels and self._updater is not None and "mutate" not in self._app:
            raise ValueError(
                f"`path` must be a file whose masks change. Received: {path}; export it with "
                "the callback's updater"
            )
        self._check_sieve()

    def _check_sieve(self) -> None:
        sieve, path = self._callback.sieve, self._app.path
        counts = "sample" in self._app["train"].get_input_details()
        if (sieve is not None) != counts:
            raise ValueError(
                "`callback` must have a sieve where, and only where, the file counts samples. "
                f"Received: sieve={sieve}, and {path}"
            )
        if sieve is None:
            return
        _checked_policy(sieve)
        removed = sieve.queue.shape[0]
        if not removed and "sieve" not in self._app:
            return
        sizes = (sieve.total,), (removed,)
        if "sieve" in self._app and sizes == (
            self._app.shape("sieve", "random"),
            self._app.shape("sieve", "shuffle"),
        ):
            if np.array_equal(self._app["member"]()["member"], sieve.member.numpy()):
                return
        raise ValueError(
            "`path` must have the samples of the callback's sieve, and the same ones at rest at "
            f"first. Received: {path}; export it with samples={sieve.total}, "
            f"sieve={removed / sieve.total:g} and seed={sieve.seed}"
        )


def _long(shape: Sequence[int]) -> list[int]:
    """The axes that have more than one entry: labels may be columns, or not."""
    return [size for size in shape if size != 1]


def settings_for(model: keras.Model, callback: SpFDE) -> dict[str, Any]:
    """Returns what a file must be exported with, to be trained as a callback plans.

    Args:
        model: the model that is exported, compiled.
        callback: an `SpFDE` that is given `epochs`.

    Returns:
        Arguments of `export_trainable_tflite`: stages, updater, samples, sieve, exchange and seed.

    Raises:
        ValueError: if the callback plans what a file cannot do.

    Example:

    >>> model.compile("sgd", "sparse_categorical_crossentropy")
    >>> settings = settings_for(model, SpFDE(epochs=6, interval=1, updater="set", freeze=0.2))
    >>> settings["stages"], settings["samples"]
    (1, 0)
    """
    checks.instance("callback", callback, SpFDE, "an SpFDE")
    _compiled(model)
    callback.set_model(model)
    plan, sieve = _checked_plan(callback).plan, callback.sieve
    shares.get(callback.updater)
    first = first_trained(callback.blocks)
    stages = 0 if plan is None else max(0, int(plan.frozen.max()) - first)
    found = {"stages": stages, "updater": callback.updater}
    if sieve is None:
        return found | {"samples": 0, "sieve": 0.0, "exchange": 1.0, "seed": 0}
    policy = _checked_policy(sieve)
    fraction = sieve.queue.shape[0] / sieve.total
    of_sieve = {"samples": sieve.total, "sieve": fraction, "exchange": policy.share}
    return found | of_sieve | {"seed": sieve.seed}


def _compiled(model: keras.Model) -> keras.Model:
    """Returns the graph of a compiled model."""
    graph = trainable.checked_graph(model)
    if getattr(model, "optimizer", None) is None:
        raise ValueError("`model` must be compiled. Received: one that is not")
    return graph


def _opened(path: str | os.PathLike[str]) -> App:
    from spfde_keras.export.inspection.file import read_tflite

    read_tflite(path)  # LiteRT crashes on files that are not whole
    app = App(path)
    if "train" not in app:
        checks.refuse("path", "a file that `export_trainable_tflite` wrote", app.path)
    return app


def _checked_plan(callback: SpFDE) -> Freezer:
    if callback.freezer is None:
        raise ValueError("`callback` must be given `epochs`. Received: one without")
    if callback.timeline.update_steps is not None:
        raise ValueError(
            "`callback` must change masks at boundaries alone. Received: "
            f"update_steps={callback.timeline.update_steps}"
        )
    # A file numbers the blocks that train; the plan numbers all.
    behind = callback.blocks[first_trained(callback.blocks) :]
    trained = which_train(behind)
    if callback.freezer.plan is not None and not all(trained):
        frozen = behind[trained.index(False)]
        raise ValueError(
            "`model` must train all blocks behind the first one that it trains, where a callback "
            f"freezes them in turn. Received: a model in which {frozen[0].name!r} is frozen"
        )
    return callback.freezer


def _checked_policy(sieve: DataSieve) -> Circular:
    if type(sieve.policy) is not Circular:
        checks.refuse("callback", "one whose sieve has the policy 'circular'", sieve.policy)
    return sieve.policy


def _falling(count: int) -> np.ndarray:
    """Different numbers in (0, 1], the largest first."""
    return ((count - np.arange(count)) / max(count, 1)).astype("float32")
