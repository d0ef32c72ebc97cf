"""What the callbacks of sparse training share."""

import dataclasses
import functools
import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from spfde_keras import checks, compat, updaters
from spfde_keras.booking import Booking
from spfde_keras.cost.plan import PlanCost
from spfde_keras.event_log import EventLog
from spfde_keras.finite import check_epoch
from spfde_keras.fitting import check_replicas
from spfde_keras.freezing.blocks import find_blocks
from spfde_keras.freezing.freezer import Freezer
from spfde_keras.freezing.plan import Freezing
from spfde_keras.kernel_gradients import kernel_gradients
from spfde_keras.mask_updates import MaskUpdate
from spfde_keras.masking import Mask, find_masks
from spfde_keras.monitor import Monitor
from spfde_keras.planning import Planning
from spfde_keras.settling import settle_by_size
from spfde_keras.sieve.data_sieve import DataSieve
from spfde_keras.sieve.epochs import SieveEpochs
from spfde_keras.sieve.suitable import check_model as check_sieved
from spfde_keras.sparsity_summary import model_sparsity, subnet_sparsities, target_sparsities
from spfde_keras.standstill import warn_of_few_units, warn_of_few_visits, warn_of_standstill
from spfde_keras.starting import check_start
from spfde_keras.suitable import check_follows, check_model, check_steps, check_update_steps
from spfde_keras.timeline import Timeline, usual_interval
from spfde_keras.updaters import Moment
from spfde_keras.updaters.base import UpdaterLike


class SparseTraining(keras.callbacks.Callback):
    """What the callbacks of sparse training share: boundaries at which to sieve, mutate, freeze.

    Args:
        epochs: int, the length of training, as given to `fit`; None takes what `fit` is given.
        updater: an `Updater`, or its name.
        interval: int, epochs between two updates of the data, and of each mask; None for one
            that follows the length of training: 5 of 160 epochs.
        freeze: None, True, the share of training FLOPs that freezing is to save, or a `Freezing`.
        sieve: None, or the `DataSieve` whose batches are given to `fit`.
        log_dir: None, or a folder for TensorBoard.
        seed: int, seed of random growth and data exchange.
        data_stop: None, or float in [0, 1], fraction of training after which samples are no
            longer exchanged.
        update_steps: None, or int, steps between two updates of masks within an interval.

    Raises:
        ValueError: on arguments out of range.
    """

    trains_sparse = True
    """Whether it goes before all other callbacks."""
    most_steps: int | None = None
    """The most steps of an epoch that is sieved, by `steps_per_epoch` and `take` of its batches."""

    def __init__(
        self,
        epochs: int | None,
        updater: UpdaterLike,
        interval: int | None,
        freeze: float | bool | Freezing | None = None,
        sieve: DataSieve | None = None,
        log_dir: str | None = None,
        seed: int = 0,
        data_stop: float | None = None,
        update_steps: int | None = None,
    ):
        super().__init__()
        self.updater = updaters.get(updater, argument="updater")
        self._of_fit = epochs is None
        self._interval = interval
        # Checked now; where `fit` says how long training is, it is made again.
        first = 1 if interval is None else interval
        self.timeline = Timeline(1, first, self.updater.stop, data_stop, update_steps)
        if epochs is not None:
            self._lasts(epochs)
        self._state: tuple[keras.Model, Monitor, Any] | None = None
        self.seed = checks.seed(seed)
        self.freezing = Freezing.get(freeze)
        self.sieve = checks.optional(
            checks.instance, "sieve", sieve, DataSieve, "None or a DataSieve"
        )
        if data_stop is not None and self.sieve is None:
            raise ValueError(f"`data_stop` must be left out without `sieve`. Received: {data_stop}")
        check_update_steps(update_steps, self.updater)
        self.log_dir = checks.optional(checks.folder, "log_dir", log_dir)
        EventLog.check(log_dir)

    @property
    def _passes(self) -> int:
        """How many sub-nets a step trains."""
        return 1

    @property
    def epochs(self) -> int:
        """The length of training."""
        return self.timeline.epochs

    @property
    def interval(self) -> int:
        """Epochs between two updates."""
        return self.timeline.interval

    def masks_rest(self, model: keras.Model, epochs: int) -> int:
        """Returns the epoch after which a model's masks change no more, in a `fit` of so many."""
        timeline = self._lasting(epochs) if self._of_fit else self.timeline
        return timeline.masks_rest(len(model.subnets)) if find_masks(model) else 0

    def _lasts(self, epochs: int) -> None:
        """Sets the length of training."""
        self.timeline = self._lasting(epochs)

    def _lasting(self, epochs: int) -> Timeline:
        interval = usual_interval(epochs) if self._interval is None else self._interval
        return dataclasses.replace(self.timeline, epochs=epochs, interval=interval)

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        self._check(model)
        if model.freezer is not None:
            model.freezer.end(model)
        self._masks = find_masks(model)
        if not self._masks:
            self.timeline = dataclasses.replace(self.timeline, masks_stop=0.0)
        self._subnets = max(1, len(model.subnets))
        self._step = 0
        self._resting: list[Mask] = []  # frozen by the user, and settled
        if not model.optimizer.built:
            # For all variables: an optimizer that does not know a block cannot train it later.
            with model.replicas.strategy.scope():
                model.optimizer.build(model.trainable_variables)
        patterns = self.freezing.blocks if self.freezing else None
        self._booking = Booking(model, self.freezing, self._passes)
        self._blocks = find_blocks(model, patterns)
        if not self._of_fit:
            self._freezer = Freezer(
                self._blocks, self._planning.solved(self.freezing, self._blocks)
            )
        data = [] if self.sieve is None else [SieveEpochs(self.sieve, self.most_steps)]
        self._data = keras.callbacks.CallbackList(data, model=model)
        self._events = EventLog(self.log_dir if model.replicas.chief else None)

    def _check(self, model: keras.Model) -> None:
        check_model(type(self).__name__, model, self.updater, self.timeline)

    def _check_steps(self, steps: int | None) -> None:
        check_steps(self.timeline, steps, self.model.steps_per_execution)

    def check_begin(self, steps: int) -> None:
        """Checks what `fit` would refuse only when its first epoch begins.

        Args:
            steps: int, the steps of an epoch.

        Raises:
            ValueError: masks that the updater cannot start from, or cannot change so often, or a
                model that several devices cannot train.
        """
        check_replicas(self.model, {})
        if self._changes_within:
            self._check_steps(steps)
        frozen = self._frozen_by_user
        masks = [mask for mask in self._masks if mask not in frozen]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # `fit` says them
            check_start(self.updater, masks)

    def _alternation(self) -> keras.layers.Layer | None:
        """Returns what chooses the sub-nets that a step trains, None if there is only one."""
        return None

    def _attach(self) -> None:
        """Attaches what counts and alternates; that of an earlier `fit` of this callback, if any.

        Other callbacks that restore weights restore its variables, too.
        """
        if self._state is None or self._state[0] is not self.model:
            keep_batch = bool(self._masks) and bool(self.updater.gradient)
            monitor = Monitor(keep_batch, self._booking.open_sizes)
            self._state = self.model, monitor, self._alternation()
        if self.sieve is not None:
            check_sieved(self.model, self.sieve.batch_sizes)
        _, monitor, alternation = self._state
        compat.set_untracked(monitor, callback=self)
        self.model.attach(monitor, self.sieve, alternation)

    def on_train_begin(self, logs: dict | None = None) -> None:
        of_fit = (self.params or {}).get("epochs")
        if self._of_fit:
            if of_fit is None:
                raise ValueError(
                    "`epochs` must be given where `fit` does not tell it. Received: None"
                )
            self._lasts(of_fit)
            self._freezer = Freezer(
                self._blocks, self._planning.solved(self.freezing, self._blocks)
            )
        elif of_fit not in (None, self.epochs):
            raise ValueError(
                "`epochs` must be the same in `fit` and in the callback, or None in the callback. "
                f"Received: {of_fit} and {self.epochs}"
            )
        if self._changes_within:
            self._check_steps(self._steps())
        warn_of_standstill(self.timeline, self.updater if self._masks else None, self.sieve)
        if self._masks:
            kernels = [kernel for mask in self._masks for kernel in mask.subnets]
            warn_of_few_units(self.timeline, self.updater, kernels)
        if self.sieve is not None and self._interval is not None:
            warn_of_few_visits(self.timeline, self.sieve)
        self._attach()
        # A step compiled before, by another `fit`, knows nothing of them.
        compat.forget_train_function(self.model)
        self.model.make_train_function()
        self._freezer.begin(self.model)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        monitor = self.model.monitor
        completed = int(monitor.completed.numpy())
        check_follows(epoch, completed)
        if epoch == 0 < completed:
            monitor.totals.assign([0.0, 0.0])
        self._booking.restore()
        if epoch == 0:
            masks = self._masks_in(0, None)
            check_start(self.updater, masks)
            for subnet in range(self._subnets):
                self._update(masks, subnet, 0.0, 0, Moment.START)
        frozen = self._frozen_by_user
        for mask in frozen:
            for kernel in mask.subnets if mask not in self._resting else ():
                settle_by_size(kernel, self.seed)
        self._resting = frozen
        monitor.start_epoch()
        self._booking.start_epoch()
        self._epoch, self._step = epoch, 0
        self._data.on_epoch_begin(epoch)
        if self._freezer.apply(self.model, epoch) and epoch and (self.params or {}).get("verbose"):
            print(
                f"Epoch {epoch + 1}: {self._freezer.frozen(epoch)} of {self._freezer.blocks} "
                "blocks are frozen; the first step takes longer, since it is traced anew"
            )

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        self._data.on_train_batch_begin(batch)
        # Before a step, not after it: Keras calls the hook after a step late.
        if batch:
            self._advance(batch)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        check_epoch(self.model, epoch, logs or {})
        self._advance(self._steps())
        self._data.on_epoch_end(epoch)
        monitor, ledger, done = self.model.monitor, self._booking.ledger, epoch + 1
        samples, frozen = monitor.total(self.model.replicas), self._freezer.frozen(epoch)
        self.model.replicas.average(self.model.non_trainable_variables)
        self._booking.book(frozen)
        ledger.book_dense(samples if self.sieve is None else self.sieve.most(self.most_steps))
        for mask in self._masks:
            mask.project()
        if self.timeline.is_boundary(done):
            self._boundary(done)
        # Between epochs everything is thawed, so that whatever is saved can be restored as a whole.
        self._freezer.thaw()
        monitor.completed.assign(done)
        monitor.totals.assign([ledger.spent, ledger.dense])
        logs = {} if logs is None else logs
        logs["sparsity"] = float(np.mean(subnet_sparsities(self.model) or 0.0))
        logs["target_sparsity"] = float(np.mean(target_sparsities(self.model) or 0.0))
        logs["model_sparsity"] = model_sparsity(self.model)
        logs["frozen_blocks"] = frozen
        logs["active_samples"] = samples
        logs["flops_share"] = ledger.share
        self._events.write(logs, done)

    def on_train_end(self, logs: dict | None = None) -> None:
        # Again: a run that is resumed after its last epoch starts no epoch.
        self._booking.restore()
        self._freezer.end(self.model)
        self.model.attach()
        self._events.close()

    @property
    def freezer(self) -> Freezer | None:
        """What freezes the blocks; None before `fit` has said how long training is."""
        return getattr(self, "_freezer", None)

    @property
    def blocks(self) -> list[list[keras.layers.Layer]]:
        """The layers that own weights, by the blocks that freeze front to back."""
        return self._blocks

    @property
    def training_flops(self) -> float:
        """FLOPs spent on training so far."""
        return self._booking.ledger.spent

    @property
    def dense_training_flops(self) -> float:
        """FLOPs that dense training on all data takes in as many epochs."""
        return self._booking.ledger.dense

    def planned_cost(
        self, samples: float | Sequence[float] | None = None, batch_size: int = 64
    ) -> PlanCost:
        """Returns the FLOPs and memory planned for each epoch, before or after training.

        Args:
            samples: samples per epoch, a number or one for each epoch; None for what the sieve
                leaves in each.
            batch_size: int.

        Returns:
            A `PlanCost`.

        Raises:
            ValueError: if there are neither `samples` nor a sieve.
        """
        if samples is None and self.sieve is None:
            checks.refuse("samples", "given where no sieve says how many there are", samples)
        planning = self._planning
        samples = planning.samples() if samples is None else samples
        return planning.plan(samples, batch_size).cost(self._freezer.plan)

    def _boundary(self, done: int) -> None:
        timeline = self.timeline
        t = timeline.fraction(done)
        if self.model.analyses is not None:
            self.model.analyses.before(done)
        if self.sieve is not None and timeline.data_changes(done, self.sieve.policy):
            self.sieve.update(done, t)
            queue = self.sieve.queue
            self.model.replicas.check_same(lambda: {"The queue of the sieve": queue.numpy()})
        if not timeline.masks_change(done):
            return
        before, settling = self._freezer.settled(done, timeline)
        settled, updated = self._masks_in(before, settling), self._masks_in(settling, None)
        for subnet in range(self._subnets):
            self._update(settled, subnet, t, done, Moment.SETTLE)
        self._update(updated, 0, t, done, Moment.UPDATE)

    @property
    def _changes_within(self) -> bool:
        """Whether masks change within intervals, too."""
        return self._subnets > 1 or self.timeline.update_steps is not None

    def _steps(self) -> int | None:
        """The steps of an epoch; None where `fit` cannot know."""
        if self.sieve is None:
            return (self.params or {}).get("steps")
        return self.sieve.epoch_steps_of(self.most_steps)

    def _advance(self, step: int | None) -> None:
        """Updates the masks whose turn comes up to a step of this epoch."""
        if not self._changes_within:
            return
        steps = self._steps()
        assert steps is not None and step is not None
        after, self._step = self._step, step
        t = self.timeline.fraction(self._epoch + step / steps)
        for subnet in self.timeline.turns(self._epoch, after, step, self._subnets, steps):
            frozen = self._freezer.frozen(self._epoch)
            self._booking.book(frozen)
            masks = self._masks_in(frozen, None)
            self._update(masks, subnet, t, self._epoch + 1, Moment.UPDATE, step)

    def _masks_in(self, first: int, last: int | None) -> list[Mask]:
        """The masks in some blocks, without those whose kernels the user has frozen."""
        blocks, frozen = range(self._freezer.blocks)[first:last], self._frozen_by_user
        masks = (mask for mask in self._masks if self._freezer.block_of(mask) in blocks)
        return [mask for mask in masks if mask not in frozen]

    @property
    def _frozen_by_user(self) -> list[Mask]:
        with self.model.as_set():
            return [mask for mask in self._masks if not mask.kernel.trainable]

    def _update(
        self, masks: list[Mask], subnet: int, t: float, event: int, moment: Moment, step: int = 0
    ) -> None:
        """Changes one sub-net's masks as the updater plans for `moment`, `t` into training."""
        times = self._freezer.times(self.updater, t, self.interval).tolist()
        overlaps = MaskUpdate(self.updater, subnet, moment, t, self.seed, event, step).apply(
            masks,
            [times[self._freezer.block_of(mask)] for mask in masks],
            functools.partial(self._gradients, subnet, event),
            self.model.optimizer,
        )
        self.model.replicas.check_same(
            lambda: {f"The mask of {mask.kernel_path!r}": mask.read()[1] for mask in masks}
        )
        if self.model.analyses is not None:
            self.model.analyses.changed()
        self._events.write({f"mask_overlap/{name}": one for name, one in overlaps.items()}, event)

    def _gradients(
        self, subnet: int, event: int, masks: list[Mask], kind: str
    ) -> dict[str, np.ndarray]:
        """The gradients an updater asks for, of one sub-net, on the last full batch."""
        monitor = self.model.monitor
        gradients = kernel_gradients(
            self.model, monitor.last_batch.read, masks, kind == "dense", subnet
        )
        samples = monitor.last_batch.samples
        frozen = self._freezer.frozen(event - 1)
        densities = {mask.kernel_path: mask.subnets[subnet].density for mask in self._masks}
        self._booking.ledger.book_gradient(kind, samples, frozen, densities)
        # What is too large to be known must not decide which weights are kept.
        known = functools.partial(np.nan_to_num, posinf=0.0, neginf=0.0)
        return {path: known(gradient) for path, gradient in gradients.items()}

    def _plan_freezing(self) -> None:
        plan = self._planning.solved(self.freezing, self._blocks)
        self._freezer = Freezer(self._blocks, plan)

    @property
    def _planning(self) -> Planning:
        return Planning(
            self._booking.ledger.costs,
            self._masks,
            self.updater,
            self.timeline,
            self.sieve,
            self.most_steps,
            self._passes,
        )
