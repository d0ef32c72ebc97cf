"""Measures how time and memory grow with samples and with weights.

Three tables: a sieve of so many samples of one byte, in arrays; an update of the masks of one
kernel of so many weights; training from a folder of generated images, cropped at random, in a
process for each way. Rates are of one core: they are taken from processor time.
"""

import dataclasses
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from apps import program  # first: no log of TensorFlow

# isort: split
import keras
import numpy as np
import tensorflow as tf

import spfde_keras
from apps.images import random_crop
from benchmarks import memory, report
from spfde_keras import updaters
from spfde_keras.masking import find_masks

BATCH, SIDE, CLASSES = 1024, 64, 10
# The share of samples that rests; None is tf.data and Keras alone.
WAYS = {"tf.data alone": None, "sieve, none rests": 0.0, "sieve, a fifth rests": 0.2}


@dataclasses.dataclass(frozen=True)
class Options(program.Options):
    """The options of the benchmark."""

    samples: tuple[int, ...] = program.option(
        (10**4, 10**5, 10**6, 10**7), "with commas between", several=int
    )
    weights: tuple[int, ...] = program.option(
        (10**5, 10**6, 10**7, 10**8), "with commas between", several=int
    )
    updaters: tuple[str, ...] = program.option(
        ("set", "rigl", "mest_em"), "with commas between", choices=updaters.names, several=str
    )
    images: int = program.option(2000, "images in the folder; 0 leaves them out", least=0)
    epochs: int = program.option(3, "epochs of training from the folder", least=2)
    child: str | None = program.option(
        None, "the only way to train from `folder`, in this process", choices=tuple(WAYS)
    )
    folder: str | None = program.option(None, "of images, for `child`")
    json: str | None = program.option(None, "file to write the results to", written=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status, as of `program.run`."""
    return program.run(benchmark, Options, __doc__, arguments)


def benchmark(options: Options) -> None:
    """Measures, prints the tables and writes the results."""
    if options.child:
        assert options.folder is not None
        print(json.dumps(train(Path(options.folder), WAYS[options.child], options.epochs)))
        return
    keras.utils.set_random_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        results = {
            "samples": {str(n): sieve(n, Path(folder)) for n in options.samples},
            "weights": {str(n): masks(n, options.updaters) for n in options.weights},
        }
        if options.images:
            results["folder"] = from_folder(options, Path(folder) / "images")
    report.finish(options, results, tables, leave_out=["child", "folder"])


def sieve(count: int, folder: Path) -> dict[str, float]:
    """What a sieve of `count` samples takes: seconds, bytes, and ids in a second."""
    x = np.zeros(count, np.uint8)
    made = spfde_keras.DataSieve((x, x), fraction=0.2)
    state = [made.member, made.forgets, made.was_correct, made.learned, made.queue]
    held = sum(math.prod(v.shape) * tf.as_dtype(v.dtype).size for v in state)
    # The ids of an epoch, as long as it lasts.
    held += made.active * (4 if count < 2**31 else 8)
    batches = made.batches(min(BATCH, made.active))
    next(iter(batches))  # compiled
    start = time.perf_counter()
    next(iter(batches))
    first = time.perf_counter() - start
    with memory.added() as of_epoch:
        seconds = processor_time(batches)
    rng = np.random.default_rng(0)
    made.learned.assign(rng.random(count) < 0.9)
    made.forgets.assign(rng.integers(0, 5, count))
    with memory.added() as of_update:
        start = time.perf_counter()
        made.update(1, 0.1)
        update = time.perf_counter() - start
    found = {
        "bytes_per_sample": held / count,
        "first_batch_s": first,
        "ids_per_core_s": count / seconds,
        "epoch_peak_bytes": of_epoch.peak,
        "update_s": update,
        "update_peak_bytes": of_update.peak,
    }
    return found | records(min(count, 10**6), folder / f"{count}.tfrecord")


def records(count: int, path: Path) -> dict[str, float]:
    """What the filter costs in front of records in a file: ids in a second of its own time."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for _ in range(count):
            writer.write(b"record of 20 bytes..")
    source = spfde_keras.sieve.tfrecord_files(path, lambda record: (record, 0), [count])
    member = tf.constant(np.random.default_rng(0).random(count) < 0.8)
    order = spfde_keras.sieve.sources.Order(0, tf.constant(1, tf.int64), False)
    plain = tf.data.TFRecordDataset(str(path)).batch(1024).unbatch().batch(BATCH)
    chosen = source.batched(member, order, BATCH, False)
    runs = [(processor_time(plain), processor_time(chosen)) for _ in range(5)]
    read, filtered = (min(seconds) for seconds in zip(*runs, strict=True))
    batches = spfde_keras.DataSieve(source, fraction=0.2).batches(min(BATCH, count // 2))
    next(iter(batches))  # compiled
    start = time.perf_counter()
    next(iter(batches))
    first = time.perf_counter() - start
    path.unlink()
    return {
        "first_batch_of_records_s": first,
        "records_per_core_s": count / read,
        "filtered_records_per_core_s": count / filtered,
        # A record that rests is not passed on, which the plain pipeline has to do.
        "filter_ids_per_core_s": count / max(filtered - read, 1e-9),
    }


def processor_time(dataset: tf.data.Dataset) -> float:
    """Seconds that all cores together take to read a dataset."""
    start = time.process_time()
    for _ in dataset:
        pass
    return time.process_time() - start


def masks(count: int, names: Sequence[str]) -> dict[str, float]:
    """What making a kernel of about `count` weights sparse takes, and an update by each method."""
    side = round(count**0.5)
    inputs = keras.Input((side,))
    dense = keras.Model(inputs, keras.layers.Dense(side, use_bias=False)(inputs))
    with memory.added() as making:
        start, processor = time.perf_counter(), time.process_time()
        model = spfde_keras.sparsify(dense, 0.9, dense=())
        found = {
            "kernel_bytes": 4 * side**2,
            "sparsify_s": time.perf_counter() - start,
            "sparsify_processor_s": time.process_time() - processor,
        }
    subnet = find_masks(model)[0].subnets[0]
    found["sparsify_peak_bytes"] = making.peak
    for name in names:
        updater, rng = updaters.get(name), np.random.default_rng(0)
        # Beside the update: a training step computes it.
        gradient = rng.standard_normal(subnet.layout.shape, np.float32)
        seconds, of_processor = [], []
        with memory.added() as of_update:
            for t in (0.1, 0.2, 0.3):
                start, processor = time.perf_counter(), time.process_time()
                mutation = updater.plan(updaters.Moment.UPDATE, t, 0.1)
                updaters.carry_out(mutation, updater, subnet, rng, gradient)
                seconds.append(time.perf_counter() - start)
                of_processor.append(time.process_time() - processor)
        found |= {
            f"{name}_s": float(np.median(seconds)),
            f"{name}_processor_s": float(np.median(of_processor)),
            f"{name}_peak_bytes": of_update.peak,
        }
    return found


def from_folder(options: Options, folder: Path) -> dict[str, dict]:
    """Generates a folder of images, and trains from it in each way, in a process of its own."""
    generate(folder, options.images)
    results = {}
    for name in WAYS:
        flags = [f"--child={name}", f"--folder={folder}", f"--epochs={options.epochs}"]
        child = [sys.executable, __file__, *flags]
        done = subprocess.run(child, stdout=subprocess.PIPE, text=True, check=True)
        results[name] = json.loads(done.stdout.splitlines()[-1])
    return results


def generate(folder: Path, count: int) -> None:
    """Writes JPEG images of 200 to 500 pixels a side into a folder for each class."""
    rng = np.random.default_rng(0)
    for label in range(CLASSES):
        (folder / str(label)).mkdir(parents=True)
    for number in range(count):
        coarse = rng.integers(0, 256, (16, 16, 3)).astype(np.float32)
        image = tf.image.resize(coarse, rng.integers(200, 501, 2))
        path = folder / str(number % CLASSES) / f"{number}.jpg"
        tf.io.write_file(str(path), tf.io.encode_jpeg(tf.cast(image, tf.uint8)))


def train(folder: Path, fraction: float | None, epochs: int) -> dict[str, float]:
    """Trains a small net; returns samples and seconds of an epoch, and the memory added."""
    inputs = keras.Input((SIDE, SIDE, 3))
    x = inputs
    for channels in (16, 32):
        x = keras.layers.Conv2D(channels, 3, strides=2, activation="relu")(x)
    outputs = keras.layers.Dense(CLASSES)(keras.layers.GlobalAveragePooling2D()(x))
    model = spfde_keras.wrap(keras.Model(inputs, outputs))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss)

    def cropped(file: tf.Tensor, label: tf.Tensor, seed: tf.Tensor) -> tuple:
        return random_crop(file, (SIDE, SIDE), 3, seed, True), label

    paths = sorted(map(str, folder.rglob("*.jpg")))
    labels = np.array([int(Path(path).parent.name) for path in paths])
    samples = tf.data.Dataset.from_tensor_slices((paths, labels))
    ends: list[float] = []
    callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: ends.append(time.time()))]
    with memory.added() as added:
        if fraction is None:
            shuffled = samples.shuffle(len(paths)).enumerate()
            read = shuffled.map(
                lambda i, s: cropped(tf.io.read_file(s[0]), s[1], tf.stack([i, i])),
                tf.data.AUTOTUNE,
            )
            batches, used = read.batch(32).prefetch(tf.data.AUTOTUNE), len(paths)
        else:
            sieve = spfde_keras.DataSieve((np.array(paths, "S"), labels), fraction)
            batches = sieve.batches(
                32, lambda path, label, seed: cropped(tf.io.read_file(path), label, seed)
            )
            used = sieve.active
            callbacks.append(spfde_keras.SpFDE(sieve=sieve, interval=1))
        model.fit(batches, epochs=epochs, verbose=0, shuffle=False, callbacks=callbacks)
    seconds = float(np.median(np.diff(ends)))
    return {"samples": used, "epoch_s": seconds, "peak_bytes": added.peak}


def tables(found: Mapping) -> dict[str, report.Table]:
    """The tables of samples, of weights and, where that was measured, of a folder."""
    made = {"samples": _of_samples(found["samples"]), "weights": _of_weights(found["weights"])}
    return made | ({"folder": _of_folder(found["folder"])} if "folder" in found else {})


def _of_samples(results: Mapping[str, Mapping]) -> report.Table:
    rows = [
        [
            f"{float(count):.0e}",
            f"{r['bytes_per_sample']:.1f}",
            f"{r['first_batch_s']:.2f}",
            f"{r['first_batch_of_records_s']:.2f}",
            f"{r['ids_per_core_s'] / 1e6:.2f} M",
            f"{r['filter_ids_per_core_s'] / 1e6:.2f} M",
            f"{r['update_s']:.2f}",
            f"{r['update_peak_bytes'] / 2**20:.0f}",
        ]
        for count, r in results.items()
    ]
    headings = ["samples", "bytes each", "first batch s", "of records s"]
    headings += ["from arrays", "filter of records", "update s", "its MiB"]
    title = "A sieve of samples of one byte: ids in a second of one core"
    return report.Table(headings, rows, title)


def _of_weights(results: Mapping[str, Mapping]) -> report.Table:
    first = next(iter(results.values()))
    names = [key.removesuffix("_peak_bytes") for key in first if key.endswith("_peak_bytes")]
    rows = [
        [
            f"{float(count):.0e}",
            f"{r['kernel_bytes'] / 2**20:.1f}",
            *[
                f"{r[f'{n}_s']:.2f}, {r[f'{n}_processor_s']:.2f}, "
                f"{r[f'{n}_peak_bytes'] / 2**20:.0f}"
                for n in names
            ],
        ]
        for count, r in results.items()
    ]
    title = "One kernel at 90 %: seconds, those of the processor, and MiB at the peak"
    return report.Table(["weights", "kernel MiB", *names], rows, title)


def _of_folder(results: Mapping[str, Mapping]) -> report.Table:
    rows = [
        [name, str(r["samples"]), f"{r['epoch_s']:.2f}", f"{r['peak_bytes'] / 2**20:.0f}"]
        for name, r in results.items()
    ]
    title = f"Training from a folder of images, cropped to {SIDE} pixels at random"
    return report.Table(["", "samples", "epoch s", "peak MiB"], rows, title)


if __name__ == "__main__":
    sys.exit(main())
