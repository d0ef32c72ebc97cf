"""Times one training step of nets other than image classifiers: dense Keras, and sparse.

A vision transformer (Dosovitskiy et al., 2021) reads 64 tokens of 256 features in 6 layers; a
WaveNet (van den Oord et al., 2016) reads sequences of 128 channels in 8 layers of gated, dilated,
causal convolutions. The sparse ones skip zeros where `spfde_keras.kernels` finds that faster.
Both take turns, so that a machine that slows down does so for both; the speed-up is the median
over the rounds of that within a round.
"""

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from apps import program  # first: no log of TensorFlow

# isort: split
import keras
import numpy as np
import tensorflow as tf
from keras import layers

import spfde_keras
from benchmarks import report, step_time
from spfde_keras import kernels

TOKENS, PATCH, CLASSES = 64, 48, 100
LEVELS = 256  # of a quantized signal


@dataclasses.dataclass(frozen=True)
class Options(program.Options):
    """The options of the benchmark."""

    sparsity: float = program.option(0.9, "share of zeros", least=0, below=1)
    batch_size: int = program.option(64, "images in a batch; half as many sequences", least=1)
    length: int = program.option(512, "steps of a sequence", least=1)
    width: float = program.option(1.0, "factor on all channel counts")
    layers: int = program.option(6, "of the transformer; the WaveNet has two more", least=1)
    steps: int = program.option(15, "timed steps of each variant", least=1)
    json: str | None = program.option(None, "file to write the results to", written=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status, as of `program.run`."""
    return program.run(benchmark, Options, __doc__, arguments)


def benchmark(options: Options) -> None:
    """Times each net, prints the table and writes the results."""
    results = {name: measure(*make(options), options) for name, make in NETS.items()}
    report.finish(options, {"nets": results}, tables)
    print(f"skipping: kernels whose zeros are not computed ({kernels.status()})")


def measure(dense: keras.Model, batch: tf.data.Dataset, options: Options) -> dict:
    """Times a net and its sparse form in turns."""
    sparse = spfde_keras.sparsify(dense, options.sparsity, seed=0)
    steps = {
        name: step_time.train_step(model, keras, batch)
        for name, model in [("dense", dense), ("sparse", sparse)]
    }
    skipping, masked = step_time.skipping_kernels(sparse)
    times = step_time.measure(steps, batch, options.steps)
    return {
        "median_s": {name: float(np.median(seconds)) for name, seconds in times.items()},
        "quartiles_s": {
            name: np.percentile(seconds, [25, 75]).tolist() for name, seconds in times.items()
        },
        "speedup": float(np.median(np.divide(times["dense"], times["sparse"]))),
        "skipping_kernels": skipping,
        "kernels": masked,
    }


def transformer(options: Options) -> tuple[keras.Model, tf.data.Dataset]:
    """A vision transformer on images cut into patches, and a batch of noise."""
    heads = 8
    size = heads * max(1, round(32 * options.width))
    inputs = keras.Input((TOKENS, PATCH))
    # Each position has a bias of its own, which is its embedding.
    x = layers.EinsumDense("abc,cd->abd", (TOKENS, size), bias_axes="bd", name="patches")(inputs)
    for _ in range(options.layers):
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        x = layers.add([x, layers.MultiHeadAttention(heads, size // heads)(y, y)])
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        y = layers.Dense(4 * size, activation="gelu")(y)
        x = layers.add([x, layers.Dense(size)(y)])
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization(epsilon=1e-6)(x))
    model = keras.Model(inputs, layers.Dense(CLASSES, name="head")(x))
    return model, noise((options.batch_size, TOKENS, PATCH), (options.batch_size,), CLASSES)


def wavenet(options: Options) -> tuple[keras.Model, tf.data.Dataset]:
    """A WaveNet of one stack of dilations that predicts the levels of a signal, and noise."""
    channels = max(1, round(128 * options.width))
    inputs = keras.Input((options.length, 1))
    x = layers.Conv1D(channels, 2, padding="causal", name="signal")(inputs)
    skips = []
    for layer in range(options.layers + 2):
        where = {"padding": "causal", "dilation_rate": 2**layer}
        gate = layers.Conv1D(channels, 2, activation="sigmoid", **where)(x)
        y = layers.multiply([layers.Conv1D(channels, 2, activation="tanh", **where)(x), gate])
        skips.append(layers.Conv1D(channels, 1)(y))
        x = layers.add([x, layers.Conv1D(channels, 1)(y)])
    x = layers.ReLU()(layers.add(skips))
    x = layers.Conv1D(channels, 1, activation="relu")(x)
    model = keras.Model(inputs, layers.Conv1D(LEVELS, 1, name="levels")(x))
    sequences = (max(1, options.batch_size // 2), options.length)
    return model, noise((*sequences, 1), sequences, LEVELS)


NETS: dict[str, Callable[[Options], tuple[keras.Model, tf.data.Dataset]]] = {
    "transformer": transformer,
    "wavenet": wavenet,
}


def noise(shape: Sequence[int], labels: Sequence[int], classes: int) -> tf.data.Dataset:
    """An endless dataset of one random batch."""
    random = np.random.default_rng(0)
    x = random.normal(size=shape).astype("float32")
    return tf.data.Dataset.from_tensors((x, random.integers(0, classes, labels))).repeat()


def tables(found: Mapping) -> dict[str, report.Table]:
    """The table of nets."""
    of = found["settings"]
    rows = [
        [
            name,
            *(f"{result['median_s'][way]:.3f}" for way in ("dense", "sparse")),
            f"{result['speedup']:.2f}",
            f"{result['skipping_kernels']} of {result['kernels']}",
        ]
        for name, result in found["nets"].items()
    ]
    headings = ["", "s dense", "s sparse", "times faster", "skipping"]
    title = f"{report.percent(of['sparsity'])} sparse, median of {of['steps']} training steps"
    return {"steps": report.Table(headings, rows, title)}


if __name__ == "__main__":
    sys.exit(main())
