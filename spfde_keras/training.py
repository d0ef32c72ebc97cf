"""The model that trains sparse: one train step, for every method."""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import tensorflow as tf

from spfde_keras import (
    checks,
    compat,
    compat_replicas,
    fitting,
    inside,
    kernels,
    settling,
    sparsity_summary,
)
from spfde_keras.contexts import holding
from spfde_keras.freezing.learning_rate import inner_optimizer
from spfde_keras.kernels.library import tell_if_missing
from spfde_keras.layers.switchable import SwitchableBatchNormalization
from spfde_keras.masking import Mask, find_masks
from spfde_keras.monitor import Monitor
from spfde_keras.places import name_kernels
from spfde_keras.replicas import Replicas, distributed_loss, never_empty, of_too_small
from spfde_keras.sieve.data_sieve import DataSieve
from spfde_keras.sieve.identified import Identified, strip_ids
from spfde_keras.subnets import SubnetSwitch, subnet_name

# Each replica of a strategy is a thread, in a step of its own.
_in_step = contextvars.ContextVar("in_step", default=False)
# Whether the next data that is spread over replicas is what `fit` trains on: the first alone.
_trained_on: contextvars.ContextVar[Iterator[bool]] = contextvars.ContextVar("trained_on")
_batch: contextvars.ContextVar[Any] = contextvars.ContextVar("batch", default=None)


@keras.saving.register_keras_serializable("spfde_keras")
class SparseModel(keras.Model):
    """A functional model, made by `sparsify` or `wrap`, that can be sieved, frozen and mutated.

    It takes `Identified(inputs, sample_id)` wherever it takes inputs. During `fit` the
    callback attaches `monitor`, which sees each training batch; `sieve`, which learns which
    samples were classified correctly; with several sub-nets `alternation`, which says which of
    them a step trains; and `analyses`, if training is analysed.
    """

    monitor: Monitor | None = None
    sieve: DataSieve | None = None
    alternation: Any = None
    analyses: Any = None
    freezer: Any = None
    switch: SubnetSwitch | None = None
    judge: Any = None
    _recorded = False
    _whole_batches = False

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        name_kernels(self)
        if len(self.subnets) > 1:
            self._share_switch()
        # On GPUs Keras turns XLA on by itself. XLA does not support variables of changing shape,
        # which hold the last batch.
        self.supports_jit = False

    def _share_switch(self) -> None:
        active = self.add_weight(
            name="active_subnet", shape=(), dtype="int32", initializer="zeros", trainable=False
        )
        self.switch = SubnetSwitch(active)
        for layer in compat.all_layers(self):
            if isinstance(layer, (Mask, SwitchableBatchNormalization)):
                layer.switch = self.switch

    @property
    def subnets(self) -> list[str]:
        """The names of the sub-nets, such as "subnet_90"; none in a model without masks."""
        masks = find_masks(self)
        counts = {len(mask.subnets) for mask in masks}
        if not counts:
            return []
        if len(counts) > 1:
            raise ValueError(
                f"All masks must have the same number of sub-nets. Received: {sorted(counts)}"
            )
        return [subnet_name(share) for share in sparsity_summary.target_sparsities(self)]

    @property
    def replicas(self) -> Replicas:
        """The replicas of the strategy in whose scope the model was made."""
        return Replicas(compat_replicas.own_strategy(self))

    @property
    def distribute_strategy(self) -> Any:
        """The strategy in whose scope the model was made, as Keras sees it."""
        replicas = self.replicas
        if replicas.count == 1:
            return super().distribute_strategy
        return compat_replicas.KerasStrategy(
            replicas, self._whole_batches, lambda: next(_trained_on.get(iter(())), False)
        )

    def activate(self, subnet: int) -> None:
        """Chooses the sub-net that the model runs as, in everything but training.

        Nothing is rebuilt or recompiled.

        Args:
            subnet: int, index in `subnets`.

        Raises:
            ValueError: if there is no such sub-net.

        Example:

        >>> mlp = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16),
        ...                         keras.layers.Dense(16), keras.layers.Dense(2)])
        >>> model = sparsify(mlp, sparsity=[0.5, 0.75])
        >>> model.activate(1)
        >>> model.subnets[model.active]
        'subnet_75'

        Source: AST (Yang et al., NeurIPS 2022).
        """
        subnet = checks.whole("subnet", subnet, least=0, below=max(1, len(self.subnets)))
        if self.switch is not None:
            self.switch.active.assign(subnet)

    @property
    def active(self) -> int:
        """The index of the active sub-net."""
        return 0 if self.switch is None else int(self.switch.active.numpy())

    def at(self, subnet: int | tf.Tensor) -> contextlib.AbstractContextManager:
        """Returns a context in which sub-net `subnet`, int or int32 tensor, is the model.

        It holds for calls of the model, for functions traced in it, and for `predict`, `evaluate`
        and `fit`.
        """
        return contextlib.nullcontext() if self.switch is None else self.switch.at(subnet)

    def _outlasting(self) -> contextlib.AbstractContextManager:
        """A context for Keras' loops, whose compiled functions are used again outside of `at`."""
        return contextlib.nullcontext() if self.switch is None else self.switch.outlasting()

    def attach(
        self,
        monitor: Monitor | None = None,
        sieve: DataSieve | None = None,
        alternation: Any = None,
        analyses: Any = None,
    ) -> None:
        """Attaches observers, or detaches them with None; they are saved with the weights.

        Raises:
            ValueError: if loss, outputs and labels do not tell which samples are right.
        """
        judge = None if sieve is None else sieve.judge(self.loss, self.outputs)
        compat.set_untracked(
            self,
            monitor=monitor,
            sieve=sieve,
            alternation=alternation,
            analyses=analyses,
            judge=judge,
        )

    @property
    def left_dense(self) -> dict[str, str]:
        """Names of the layers left dense by `sparsify`, and why."""
        return dict(getattr(self, "_left_dense", {}))

    @left_dense.setter
    def left_dense(self, reasons: dict[str, str]) -> None:
        self._left_dense = dict(reasons)

    def summary(
        self, *args: Any, print_fn: Callable[[str], object] | None = None, **kwargs: Any
    ) -> None:
        """Prints Keras' summary, then what is sparse, what was left dense, and why."""
        super().summary(*args, print_fn=print_fn, **kwargs)
        sparsity_summary.summary(self, print_fn or print)

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        # Where an archive or a converter traces it, and takes it elsewhere, kernels may be missing.
        leaves = tf.inside_function() and not (_in_step.get() or kwargs.get("training"))
        call = super().__call__
        spread = _in_step.get() and not kwargs.get("training") and self.replicas.count > 1
        with kernels.disabled() if leaves else contextlib.nullcontext():
            if spread:
                return never_empty(lambda x: call(x, *args, **kwargs), strip_ids(inputs))
            return call(strip_ids(inputs), *args, **kwargs)

    def predict_step(self, data: Any) -> Any:
        with holding(_in_step, True):
            return super().predict_step(data)

    def export(self, *args: Any, **kwargs: Any) -> Any:
        with kernels.disabled():  # where the export is loaded they may be missing
            return super().export(*args, **kwargs)

    def quantize(self, *args: Any, **kwargs: Any) -> None:
        # Keras would pass over masked layers without a word.
        raise ValueError(
            "A model with masks cannot be quantized: fold them in first, with "
            "`spfde_keras.densify(model)`, or export it with precision='int8_full'. "
            f"Received: {self.name!r}"
        )

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        bound = fitting.bound_fit(self, args, kwargs)
        fitting.check_replicas(self, bound.arguments)
        if self.subnets and bound.arguments.get("verbose", "auto"):
            tell_if_missing()
        sparse = fitting.leading(bound.arguments.get("callbacks"))
        if not sparse:
            settling.warn_if_unsettled(self)
        try:
            with (
                holding(_trained_on, iter([True])),
                self._naming_damage(bound.arguments),
                self._outlasting(),
            ):
                history = super().fit(*bound.args[1:], **bound.kwargs)
        except BaseException as error:
            guard = self.monitor and self.monitor.guard
            # By an error or by hand: no layer stays frozen, no hook is left.
            if self.freezer is not None:
                self.freezer.end(self)
            self.attach()
            if guard is not None and guard.batch is not None and isinstance(error, Exception):
                raise guard.explain(self) from None
            if isinstance(error, tf.errors.InvalidArgumentError):
                if told := of_too_small(error):
                    raise told from None
            raise
        self.replicas.average(self.non_trainable_variables)
        if sparse:
            settling.settle_early_end(self)
        return history

    def _naming_damage(self, arguments: Mapping[str, Any]) -> contextlib.AbstractContextManager:
        sieves = [
            callback.sieve
            for callback in keras.tree.flatten(arguments.get("callbacks"))
            if fitting.leads(callback) and callback.sieve is not None
        ]
        return sieves[0].naming_damage() if sieves else contextlib.nullcontext()

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        self.replicas.average(self.non_trainable_variables)
        with self._outlasting():
            return super().evaluate(*args, **kwargs)

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        # Each worker predicts for all samples: it gets no outputs of the others.
        whole = self.replicas.workers > 1
        compat.set_untracked(self, _whole_batches=whole)
        try:
            with self._outlasting():
                return super().predict(*args, **kwargs)
        finally:
            compat.set_untracked(self, _whole_batches=False)

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        with self._outlasting():
            return super().train_on_batch(*args, **kwargs)

    def test_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        with self._outlasting():
            return super().test_on_batch(*args, **kwargs)

    def predict_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        with self._outlasting():
            return super().predict_on_batch(*args, **kwargs)

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        if self.replicas.count == 1:
            super()._maybe_symbolic_build(iterator=iterator, data_batch=data_batch)
        else:
            compat_replicas.build(self, iterator, data_batch)

    def as_set(self) -> contextlib.AbstractContextManager:
        """Returns a context in which no block is frozen by training, only what the user froze."""
        return contextlib.nullcontext() if self.freezer is None else self.freezer.thawed()

    def save(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        fitting.check_file(filepath)
        if self.replicas.chief:
            with self.as_set():
                super().save(filepath, *args, **kwargs)

    def save_weights(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        if self.replicas.chief:
            super().save_weights(filepath, *args, **kwargs)

    def train_step(self, data: Any) -> dict:
        if self.monitor is not None:
            x, *_ = keras.utils.unpack_x_y_sample_weight(data)
            if isinstance(x, Identified) != (self.sieve is not None):
                raise ValueError(
                    "`fit` must be given `sieve.batches(...)` if, and only if, the callback is "
                    f"given `sieve`. Received: {'' if self.sieve is None else 'no '}batches of a "
                    f"sieve, and sieve={self.sieve}"
                )
            self.monitor.observe(data)
        if self.sieve is not None:
            compat.set_untracked(self, _recorded=False)
        train = functools.partial(super().train_step, data)
        with holding(_in_step, True), holding(_batch, data):
            logs = train() if self.alternation is None else self.alternation.train_step(self, train)
        if self.sieve is not None and not self._recorded:
            raise ValueError(
                "A `train_step` must call `self.compute_metrics(x, y, y_pred)`, with the `x` it "
                f"was given, to be sieved. Received: that of {type(self).__name__}, which does not"
            )
        return logs

    def test_step(self, data: Any) -> dict:
        # Without ids: evaluating a sample is not a visit.
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        with holding(_in_step, True):
            return super().test_step((strip_ids(x), y, sample_weight))

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        loss = super().compute_loss(strip_ids(x), y, y_pred, sample_weight, training)
        loss = distributed_loss(loss, y_pred, training)
        batch = _batch.get()
        if batch is None or self.monitor is None:
            return loss
        return self.monitor.guard(loss, batch, compat.steps_taken(inner_optimizer(self.optimizer)))

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict:
        if self.sieve is not None and isinstance(x, Identified):
            compat.set_untracked(self, _recorded=True)
            right = self.judge(y, y_pred)
            if self.alternation is None:
                self.sieve.count(x.sample_id, right)
            else:
                self.alternation.count(self.sieve, x.sample_id, right)
        return super().compute_metrics(strip_ids(x), y, y_pred, sample_weight=sample_weight)

    def get_config(self) -> dict:
        config = super().get_config() | {"left_dense": self.left_dense}
        described = inside.describe(self)
        return config | ({"inside": described, "subnets": len(self.subnets)} if described else {})

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> "SparseModel":
        config = dict(config)
        left_dense = config.pop("left_dense", {})
        described, subnets = config.pop("inside", {}), config.pop("subnets", 1)
        checks.instance("left_dense", left_dense, dict, "a dictionary from layers to reasons")
        checks.whole("subnets", subnets, least=0)
        model = super().from_config(config, custom_objects=custom_objects)
        if described:
            graph = inside.restore(model, described, subnets)
            model = type(model)(graph.input, graph.output, name=model.name)
            inside.name_kernels(model, described)
        model.left_dense = left_dense
        return model
