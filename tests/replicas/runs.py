"""Trains small models under strategies, and writes what came of it.

Run as `python runs.py FOLDER STRATEGY [CASE ...]`; for several workers once for each, with
TF_CONFIG set.
"""

import json
import pathlib
import sys
from collections.abc import Callable

import numpy as np
import tensorflow as tf

FOLDER, STRATEGY = pathlib.Path(sys.argv[1]), sys.argv[2]
if STRATEGY == "mirrored":
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
# Before anything else: workers are connected here.
strategy = {
    "none": tf.distribute.get_strategy,
    "mirrored": lambda: tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]),
    "multiworker": tf.distribute.MultiWorkerMirroredStrategy,
}[STRATEGY]()

import keras  # noqa: E402

import spfde_keras  # noqa: E402
from spfde_keras.alternating import JointSparseTraining  # noqa: E402
from spfde_keras.masking import find_masks  # noqa: E402
from spfde_keras.sparse_training import SparseTraining  # noqa: E402

L = keras.layers
EPOCHS, BATCH = 5, 16
ANALYSED = ("rigl", "ast", "dense")
random = np.random.default_rng(0)
X = random.normal(size=(95, 12)).astype("float32")
Y = (X[:, :3] @ random.normal(size=(3, 4))).argmax(1)


def mlp() -> keras.Model:
    hidden = [L.Dense(24, "relu") for _ in range(4)]
    return keras.Sequential([keras.Input((12,)), *hidden, L.Dense(4)])


class Normalized(keras.Model):
    """With what replicas compute apart, unless it is synchronized, and noise that is none."""

    def __init__(self):
        super().__init__()
        first, normalize = L.Conv1D(8, 3), L.BatchNormalization(synchronized=True)
        self.all = [L.Reshape((4, 3)), first, normalize, L.ReLU()]
        self.all += [L.Flatten(), L.Dropout(0.0), L.Dense(4)]

    def call(self, x):
        for layer in self.all:
            x = layer(x)
        return x


def normalized() -> keras.Model:
    model = Normalized()
    model(X[:4])
    return model


def compiled(sparsity, initial="random", net=mlp) -> spfde_keras.SparseModel:
    keras.utils.clear_session(free_memory=False)  # outside of any scope
    keras.utils.set_random_seed(1)
    with strategy.scope():
        if sparsity is None:
            model = spfde_keras.wrap(net())
        else:
            model = spfde_keras.sparsify(net(), sparsity, initial=initial, dense=())
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss, metrics=["accuracy"])
    return model


def fit(
    model: spfde_keras.SparseModel, callback: SparseTraining, *others, preprocess=None, **options
) -> dict:
    sieve = callback.sieve
    # The last batch of an epoch is incomplete, and cannot be halved: 15 samples.
    data = {"x": X, "y": Y, "batch_size": BATCH}
    if sieve is not None:
        data = {"x": sieve.batches(BATCH, preprocess)}
    return model.fit(
        **data, epochs=EPOCHS, shuffle=False, verbose=0, callbacks=[callback, *others], **options
    ).history


def state(model: spfde_keras.SparseModel, sieve: spfde_keras.DataSieve | None) -> dict:
    found = {}
    for index, mask in enumerate(find_masks(model)):
        found[f"kernel_{index}"], found[f"mask_{index}"] = mask.read()
    for name in ("member", "queue", "forgets", "learned", "was_correct"):
        if sieve is not None:
            found[name] = getattr(sieve, name).numpy()
    for index, variable in enumerate([*model.weights, *model.optimizer.variables]):
        if variable.dtype.startswith("float"):
            found[f"variable_{index}"] = variable.numpy()
    return found


def write(name: str, model: spfde_keras.SparseModel, **arrays) -> None:
    np.savez(FOLDER / f"{name}-{STRATEGY}-{model.replicas.worker}.npz", **arrays)


def train(
    name: str, callback: SparseTraining, sparsity=0.7, others=(), preprocess=None, **options
) -> None:
    model, analyses = compiled(sparsity, **options), []
    if name.removeprefix("resumed_") in ANALYSED:
        analyses.append(spfde_keras.Analyses(callback, X[:8]))
    logs = fit(model, callback, *analyses, *others, preprocess=preprocess)
    found = {f"log_{key}": np.array(values) for key, values in logs.items()}
    for each in analyses:
        found |= analysed(each.result())
    write(name, model, **state(model, callback.sieve), **found)


def analysed(found: dict) -> dict:
    """What was recorded, as arrays."""
    parts = {"gradient_norms": found["gradient_norms"], **found["forgetting"]}
    for subnet, measures in found["subnets"].items():
        parts |= {f"{subnet}_{measure}": values for measure, values in measures.items()}
    whole = ("histogram", "never_forgotten", "never_learned", "easiest", "hardest")
    return {
        f"analyses_{key}": np.array(values, "int64" if key in whole else "float64")
        for key, values in parts.items()
    }


def sieve() -> spfde_keras.DataSieve:
    with strategy.scope():
        return spfde_keras.DataSieve((X, Y), fraction=16 / 95)


def spfde(updater: str, freeze: float | None = 0.1) -> spfde_keras.SpFDE:
    return spfde_keras.SpFDE(EPOCHS, updater, interval=1, freeze=freeze, sieve=sieve())


def ast() -> SparseTraining:
    return spfde_keras.AlternatingSparseTraining(EPOCHS, interval=1, freeze=0.1, sieve=sieve())


def evaluated() -> None:
    """Batches that leave a replica without samples, in everything but training."""
    model = compiled(0.7, net=normalized)
    history = fit(
        model,
        spfde_keras.SpFDE(EPOCHS, "rigl", interval=1),
        validation_data=(X[:33], Y[:33]),
        validation_batch_size=16,
    )
    found = [history["val_loss"][-1], *model.evaluate(X[:33], Y[:33], batch_size=16, verbose=0)]
    predicted = model.predict(X[:33], batch_size=16, verbose=0)
    write("evaluated", model, **state(model, None), found=found, predicted=predicted)


class Stop(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        if epoch == 3:
            raise KeyboardInterrupt


def resumed(name: str, make: Callable[[], SparseTraining], sparsity=0.7) -> None:
    resume = spfde_keras.Resume(FOLDER / f"{name}-{STRATEGY}")
    try:
        stopped = make()
        fit(compiled(sparsity), stopped, spfde_keras.Analyses(stopped, X[:8]), resume, Stop())
    except KeyboardInterrupt:
        train(name, make(), sparsity, others=[resume])


def refused() -> None:
    """What `fit` says of what it cannot do, before it starts."""
    found = {}

    def attempt(name: str, prepare: Callable, **options) -> None:
        try:
            prepare().fit(**{"x": X, "y": Y, "batch_size": BATCH, "verbose": 0} | options)
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"

    def outside() -> keras.Model:
        model = compiled(0.7)
        model.compile(keras.optimizers.SGD(), "mse")
        return model

    def with_loss(**options):
        model = compiled(0.7)
        with strategy.scope():
            model.compile(**{"optimizer": "sgd", "loss": "mse"} | options)
        return model

    class InScope:
        def fit(self, **options):
            model = spfde_keras.sparsify(mlp(), 0.7)
            model.compile("sgd", "mse")
            with strategy.scope():
                model.fit(**options)

    attempt("remainder", lambda: compiled(0.7), batch_size=len(X) - 1)

    def with_callback(**options):
        callback = spfde_keras.SpFDE(1, sieve=options.pop("sieve", None))
        return {"y": None, "batch_size": None, "callbacks": [callback]} | options

    one_left = tf.data.Dataset.from_tensor_slices((X, Y)).batch(len(X) - 1)
    attempt("remainder_of_dataset", lambda: compiled(0.7), **with_callback(x=one_left))
    known = sieve()
    options = with_callback(x=known.batches(known.active - 1), sieve=known)
    attempt("remainder_of_sieve", lambda: compiled(0.7), **options)
    unknown = one_left.filter(lambda x, y: True)
    attempt("remainder_found", lambda: compiled(0.7), **with_callback(x=unknown))
    attempt("optimizer", outside)
    attempt("model", InScope)
    summed = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")
    attempt("reduction", lambda: with_loss(loss=summed))
    # By its configuration, so that it is made in the scope.
    accumulating = keras.optimizers.SGD(gradient_accumulation_steps=2)
    made = keras.optimizers.serialize(accumulating)
    attempt("accumulation", lambda: with_loss(optimizer=made))
    attempt("steps", lambda: with_loss(steps_per_execution=2))
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(BATCH)
    spread = strategy.experimental_distribute_dataset(data)
    attempt("dataset", lambda: compiled(0.7), x=spread, y=None, batch_size=None)
    (FOLDER / f"refused-{STRATEGY}.json").write_text(json.dumps(found))


CASES = {
    **{name: lambda name=name: train(name, spfde(name)) for name in
       ("static", "rigl", "dsr", "mest_em", "mest_ems", "prune_and_regrow")},
    # Each worker reads its own samples.
    "set": lambda: train("set", spfde("set"), preprocess=lambda x, y: (2 * x, y)),
    **{name: lambda name=name: train(name, spfde(name), initial="dense") for name in
       ("magnitude", "global_magnitude", "granet")},
    # In so few epochs its phases leave freezing nothing to save.
    "ac_dc": lambda: train("ac_dc", spfde("ac_dc", None), initial="dense"),
    "dense": lambda: train("dense", spfde("static"), None),
    "ast": lambda: train("ast", ast(), [0.5, 0.75]),
    "joint": lambda: train("joint", JointSparseTraining(EPOCHS, interval=1), [0.5, 0.75]),
    "evaluated": evaluated,
    "resumed_rigl": lambda: resumed("resumed_rigl", lambda: spfde("rigl")),
    "resumed_ast": lambda: resumed("resumed_ast", ast, [0.5, 0.75]),
    "refused": refused,
}  # fmt: skip

if __name__ == "__main__":
    for case in sys.argv[3:] or CASES:
        CASES[case]()
