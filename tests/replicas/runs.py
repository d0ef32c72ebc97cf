"""Trains small models under a strategy, and writes what came of it.

Run as `python runs.py STRATEGY FOLDER`, for several workers once for each, with TF_CONFIG set.
"""

import pathlib
import sys

import numpy as np
import tensorflow as tf

STRATEGY, FOLDER = sys.argv[1], pathlib.Path(sys.argv[2])
if STRATEGY == "mirrored":
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
# Before anything else: communication between workers is set up here.
strategy = {
    "none": tf.distribute.get_strategy,
    "mirrored": lambda: tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]),
    "multiworker": tf.distribute.MultiWorkerMirroredStrategy,
}[STRATEGY]()

import keras  # noqa: E402

import spfde_keras  # noqa: E402
from spfde_keras.alternating import JointSparseTraining  # noqa: E402
from spfde_keras.masking import find_masks  # noqa: E402

EPOCHS, BATCH = 6, 16
random = np.random.default_rng(0)
X = random.normal(size=(90, 12)).astype("float32")  # the last batch of 10, or 74 % 16 = 10
Y = (X[:, :3] @ random.normal(size=(3, 4))).argmax(1)


def plain() -> keras.Model:
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Dense(24, "relu") for _ in range(4)]
    return keras.Sequential([keras.Input((12,)), *layers, keras.layers.Dense(4)])


def train(name: str, callback, sparsity=0.7, initial="random", epochs=EPOCHS, **options) -> dict:
    keras.utils.clear_session(free_memory=False)  # outside of any scope
    with strategy.scope():
        model = spfde_keras.sparsify(plain(), sparsity, initial=initial)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss, metrics=["accuracy"])
    sieve = callback.sieve
    data = {"x": X, "y": Y, "batch_size": BATCH} if sieve is None else {"x": sieve.batches(BATCH)}
    history = model.fit(
        **data,
        epochs=EPOCHS,
        shuffle=False,
        verbose=0,
        callbacks=[callback],
        validation_data=(X[:37], Y[:37]),
        **options,
    ).history
    masks = {f"mask{i}": mask.read()[1] for i, mask in enumerate(find_masks(model))}
    kernels = {f"kernel{i}": mask.read()[0] for i, mask in enumerate(find_masks(model))}
    others = (
        {}
        if sieve is None
        else {
            "member": sieve.member.numpy(),
            "forgets": sieve.forgets.numpy(),
            "learned": sieve.learned.numpy(),
            "was_correct": sieve.was_correct.numpy(),
        }
    )
    logs = {f"log_{key}": np.array(values) for key, values in history.items()}
    predicted = {"predicted": model.predict(X[:21], verbose=0)}
    worker = model.replicas.worker
    np.savez(FOLDER / f"{name}-{worker}.npz", **masks, **kernels, **others, **logs, **predicted)


def spfde(updater: str) -> spfde_keras.SpFDE:
    with strategy.scope():
        sieve = spfde_keras.DataSieve((X, Y), fraction=16 / 90)
    return spfde_keras.SpFDE(EPOCHS, updater, interval=1, freeze=0.1, sieve=sieve)


CASES = {
    "static": lambda: train("static", spfde("static")),
    "set": lambda: train("set", spfde("set")),
    "rigl": lambda: train("rigl", spfde("rigl")),
    "mest_em": lambda: train("mest_em", spfde("mest_em")),
    "mest_ems": lambda: train("mest_ems", spfde("mest_ems")),
    "magnitude": lambda: train("magnitude", spfde("magnitude"), initial="dense"),
    "no_sieve": lambda: train("no_sieve", spfde_keras.SpFDE(EPOCHS, "rigl", interval=1)),
    "ast": lambda: train(
        "ast",
        spfde_keras.AlternatingSparseTraining(EPOCHS, interval=2, sieve=spfde("set").sieve),
        [0.5, 0.75],
    ),
    "joint": lambda: train(
        "joint", JointSparseTraining(EPOCHS, interval=2, freeze=0.1), [0.5, 0.75]
    ),
}

if __name__ == "__main__":
    for name in sys.argv[3:] or CASES:
        try:
            CASES[name]()
        except Exception:
            import traceback

            traceback.print_exc()
            print("FAILED", name)
