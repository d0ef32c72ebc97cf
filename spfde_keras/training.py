"""The model that trains sparse: one train step, for every method."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from spfde_keras import compat, fitting, inside, kernels, settling, sparsity_summary
from spfde_keras.finite import Guard
from spfde_keras.kernels.library import tell_if_missing
from spfde_keras.last_batch import LastBatch, batch_size
from spfde_keras.layers.switchable import SwitchableBatchNormalization
from spfde_keras.masking import Mask, find_masks
from spfde_keras.open_sizes import OpenSizes
from spfde_keras.places import name_kernels
from spfde_keras.sieve.data_sieve import DataSieve
from spfde_keras.sieve.identified import Identified, strip_ids
from spfde_keras.state import SavedState
from spfde_keras.subnets import SubnetSwitch, check_subnet, subnet_name


@keras.saving.register_keras_serializable("spfde_keras")
class SparseModel(keras.Model):
    """A functional model, made by `sparsify` or `wrap`, that can be sieved, frozen and mutated.

    It takes `Identified(inputs, sample_id)` wherever it takes inputs. During `fit` the
    callback attaches `monitor`, which sees each training batch; `sieve`, which learns which
    samples were classified correctly; and, with several sub-nets, `alternation`, which says
    which of them a step trains.
    """

    monitor: "Monitor | None" = None
    sieve: DataSieve | None = None
    alternation: Any = None
    freezer: Any = None
    switch: SubnetSwitch | None = None
    judge: Any = None
    _recorded = False
    _in_step = False
    _guarded: Any = None

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
        check_subnet(subnet, max(1, len(self.subnets)))
        if self.switch is not None:
            self.switch.active.assign(subnet)

    @property
    def active(self) -> int:
        """The index of the active sub-net."""
        return 0 if self.switch is None else int(self.switch.active.numpy())

    def at(self, subnet: int | tf.Tensor) -> contextlib.AbstractContextManager:
        """Returns a context in which sub-net `subnet`, int or int32 tensor, is the model.

        It holds for calls of the model, and for functions traced in it. `predict`, `evaluate`
        and `fit` use the sub-net that `activate` chose.
        """
        return contextlib.nullcontext() if self.switch is None else self.switch.at(subnet)

    def attach(
        self,
        monitor: "Monitor | None" = None,
        sieve: DataSieve | None = None,
        alternation: Any = None,
    ) -> None:
        """Attaches observers, or detaches them with None; they are saved with the weights.

        Raises:
            ValueError: if loss, outputs and labels do not tell which samples are right.
        """
        judge = None if sieve is None else sieve.judge(self.loss, self.outputs)
        compat.set_untracked(
            self, monitor=monitor, sieve=sieve, alternation=alternation, judge=judge
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
        leaves = tf.inside_function() and not (self._in_step or kwargs.get("training"))
        with kernels.disabled() if leaves else contextlib.nullcontext():
            return super().__call__(strip_ids(inputs), *args, **kwargs)

    @contextlib.contextmanager
    def _step(self) -> Iterator[None]:
        compat.set_untracked(self, _in_step=True)
        try:
            yield
        finally:
            compat.set_untracked(self, _in_step=False)

    @contextlib.contextmanager
    def _guard(self, data: Any) -> Iterator[None]:
        """Within, the loss is that of training on `data`, which must be finite."""
        compat.set_untracked(self, _guarded=None if self.monitor is None else data)
        try:
            yield
        finally:
            compat.set_untracked(self, _guarded=None)

    def predict_step(self, data: Any) -> Any:
        with self._step():
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
        if self.subnets and bound.arguments.get("verbose", "auto"):
            tell_if_missing()
        try:
            history = super().fit(*bound.args[1:], **bound.kwargs)
        except BaseException as error:
            guard = self.monitor and self.monitor.guard
            # By an error or by hand: no layer stays frozen, no hook is left.
            if self.freezer is not None:
                self.freezer.end(self)
            self.attach()
            if guard is not None and guard.batch is not None and isinstance(error, Exception):
                raise guard.explain(self) from None
            raise
        if any(map(fitting.leads, keras.tree.flatten(bound.arguments.get("callbacks")))):
            settling.settle_early_end(self)
        return history

    def save(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        fitting.check_file(filepath)
        super().save(filepath, *args, **kwargs)

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
        with self._step(), self._guard(data):
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
        with self._step():
            return super().test_step((strip_ids(x), y, sample_weight))

    def compute_loss(self, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(strip_ids(x), *args, **kwargs)
        if self._guarded is None or self.monitor is None:
            return loss
        return self.monitor.guard(loss, self._guarded, self.optimizer.iterations)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict:
        if self.sieve is not None and isinstance(x, Identified):
            compat.set_untracked(self, _recorded=True)
            self.sieve.count(x.sample_id, self.judge(y, y_pred))
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
        model = super().from_config(config, custom_objects=custom_objects)
        if described:
            graph = inside.restore(model, described, subnets)
            model = type(model)(graph.input, graph.output, name=model.name)
            inside.name_kernels(model, described)
        model.left_dense = left_dense
        return model


@keras.saving.register_keras_serializable("spfde_keras")
class Monitor(SavedState):
    """Counts the samples of an epoch, and keeps its last batch and the totals of a run.

    Args:
        keep_batch: bool, whether the last training batch is kept for gradients at a boundary.
        open_sizes: None, or the `OpenSizes` of the model, which are then measured.
    """

    last_batch: LastBatch | None
    guard: Guard
    callback: Any = None
    """That whose training this is."""

    def __init__(
        self, keep_batch: bool = False, open_sizes: OpenSizes | None = None, **kwargs: Any
    ):
        super().__init__(name="monitor", **kwargs)
        self.samples = self.variable("samples", (), "int64")
        self.completed = self.variable("completed_epochs", (), "int64")
        self.totals = self.variable("totals", (2,), "float64")
        self._open_sizes = open_sizes if open_sizes and open_sizes.axes else None
        if self._open_sizes is not None:
            # Of all samples of the epoch, along each open axis.
            self.sizes = self.variable("sizes", (len(self._open_sizes.axes),), "float64")
        # In a dictionary's items Keras would look for layers and variables of its own.
        compat.set_untracked(self, last_batch=LastBatch() if keep_batch else None, guard=Guard())

    def observe(self, data: Any) -> None:
        """Counts and keeps one batch; called while the train step is traced."""
        samples = batch_size(data)
        self.samples.assign_add(samples)
        if self._open_sizes is not None:
            x, *_ = keras.utils.unpack_x_y_sample_weight(data)
            sizes = self._open_sizes.measure(strip_ids(x))
            self.sizes.assign_add(tf.cast(samples, tf.float64) * sizes)
        if self.last_batch is not None:
            self.last_batch.assign(data)

    def start_epoch(self) -> None:
        """Counts from the beginning."""
        self.samples.assign(0)
        if self._open_sizes is not None:
            self.sizes.assign(np.zeros(self.sizes.shape))

    @property
    def mean_sizes(self) -> tuple[float, ...]:
        """The mean size of this epoch's samples along each open axis; () without any."""
        samples = int(self.samples.numpy())
        if self._open_sizes is None or not samples:
            return ()
        return tuple((self.sizes.numpy() / samples).tolist())


def kernel_gradients(
    model: keras.Model, data: Any, masks: list[Mask], dense: bool = False
) -> dict[str, np.ndarray]:
    """Returns the loss gradient of masked kernels on one batch, changing nothing in the model.

    Args:
        model: a compiled model.
        data: a batch as given to `train_step`: (x, y) or (x, y, sample_weight).
        masks: the masks of the kernels wanted.
        dense: bool. False gives the gradient of existing weights, zero elsewhere; True that
            of all weights, of the same function, since masked weights are zero.

    Returns:
        A dictionary from kernel path to float array of the kernel's shape.

    Source: RigL (Evci et al., 2020) for the dense gradient, MEST for the other.
    """
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    masked = [mask(mask.kernel.value) for mask in masks]
    # In a stateless scope, Keras reads the weights it regularizes from the scope.
    values = [(variable, variable.value) for variable in model.trainable_variables]
    values += [(mask.kernel, kernel) for mask, kernel in zip(masks, masked, strict=True)]
    if dense:
        # Kernels are masked above, so all masks can be open: weights of other sub-nets are zero.
        values += [(mask.values, ops.ones(mask.values.shape, "bool")) for mask in masks]
    # As in the train step: unscaled, small gradients vanish in half precision.
    scale = ops.convert_to_tensor(model.optimizer.scale_loss(1.0), "float32")
    skipping = kernels.disabled() if dense else contextlib.nullcontext()
    with keras.StatelessScope(state_mapping=values, collect_losses=True), skipping:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(masked)
            y_pred = model(x, training=True)
            loss = model.compute_loss(
                x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=True
            )
            loss *= ops.cast(scale, loss.dtype)
        gradients = tape.gradient(loss, masked, unconnected_gradients="zero")
    if not dense:
        gradients = [mask(gradient) for mask, gradient in zip(masks, gradients, strict=True)]
    return {
        # An overflow must not decide which weights are kept.
        mask.kernel_path: np.nan_to_num(ops.convert_to_numpy(gradient / scale))
        for mask, gradient in zip(masks, gradients, strict=True)
    }
