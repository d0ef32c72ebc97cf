"""Times one training step: dense Keras, sparse, several sub-nets in turn, frozen, and tfmot's.

Sparse variants skip zeros in the kernels where `spfde_keras.kernels` finds that faster, as a user's
model does; "zeros computed" is the same model without. The table says how many kernels skip.
All variants run in one process and in turns, so that a machine that slows down or speeds up
does so for all of them; ratios are medians over the rounds of the ratio within a round.
"""

import dataclasses
import inspect
import itertools
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from apps import models, program  # first: no log of TensorFlow

# isort: split
import keras
import numpy as np
import tensorflow as tf

import spfde_keras
from benchmarks import report
from spfde_keras import compat, kernels
from spfde_keras.alternating import Alternation
from spfde_keras.cost.model import profile
from spfde_keras.freezing.blocks import find_blocks
from spfde_keras.masking import find_masks

INPUT_SHAPE, CLASSES = (32, 32, 3), 100
WARM_UP = 2

Step = Callable[[Iterator], dict]


@dataclasses.dataclass(frozen=True)
class Options(program.Options):
    """The options of the benchmark."""

    model: str = program.option("resnet32", "the model", choices=models.names())
    width: float = program.option(2.0, "factor on all channel counts")
    sparsity: float = program.option(0.9, "share of zeros", least=0, below=1)
    batch_size: int = program.option(64, "samples in a batch", least=1)
    steps: int = program.option(15, "timed steps of each variant", least=1)
    json: str | None = program.option(None, "file to write the results to", written=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit status, as of `program.run`."""
    return program.run(benchmark, Options, __doc__, arguments)


def benchmark(options: Options) -> None:
    """Builds every variant, times them in turns, prints the table and writes the results."""
    tfmot, tf_keras = baselines()
    keras.utils.set_random_seed(0)
    batch = random_batch(options.batch_size)
    dense = models.build(options.model, INPUT_SHAPE, CLASSES, width=options.width)
    sparse = spfde_keras.sparsify(
        dense, sparsity=options.sparsity, dense=models.dense_layers(options.model)
    )
    twin = keras2_twin(dense, tf_keras)
    pruned = prune(twin, masked_layers(sparse), options.sparsity, tfmot, tf_keras)
    callbacks = [tfmot.sparsity.keras.UpdatePruningStep()]

    steps = {"dense": train_step(dense, keras, batch)}
    steps["tfmot"] = train_step(pruned, tf_keras, batch, callbacks)
    skipping = {}
    subnets = alternating(dense, options)
    for name, model in [("sparse", sparse), ("sparse, 3 sub-nets", subnets)]:
        steps[name] = train_step(model, keras, batch)
        skipping[name] = skipping_kernels(model)
    with kernels.disabled():
        steps["sparse, zeros computed"] = retraced_step(sparse, batch)
    skipping["sparse, zeros computed"] = (0, skipping_kernels(sparse)[1])
    # Profiled before anything is frozen. Masked kernels count as dense ones: {}.
    cost = profile(sparse)
    predicted = {"sparse": 1.0, "sparse, 3 sub-nets": 1.0}
    for name, frozen, step in frozen_steps(sparse, batch):
        steps[name] = step
        skipping[name] = skipping_kernels(sparse)
        predicted[name] = cost.training({}, frozen) / cost.training({})

    times = measure(steps, batch, options.steps)
    results = summarize(times, predicted, skipping)
    report.finish(options, {"variants": results}, tables)
    print(f"skipping: kernels whose zeros are not computed ({kernels.status()})")


def random_batch(size: int) -> tf.data.Dataset:
    """An endless dataset of one batch of CIFAR-like noise."""
    random = np.random.default_rng(0)
    images = random.normal(size=(size, *INPUT_SHAPE)).astype("float32")
    labels = random.integers(0, CLASSES, size)
    return tf.data.Dataset.from_tensors((images, labels)).repeat()


def train_step(
    model: Any, library: ModuleType, batch: tf.data.Dataset, callbacks: Sequence = ()
) -> Step:
    """The compiled training step of a Keras 2 or 3 model, built by `fit` as a user would."""
    model.compile(
        optimizer=library.optimizers.SGD(0.1, momentum=0.9),
        loss=library.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(batch, steps_per_epoch=1, shuffle=False, verbose=0, callbacks=list(callbacks))
    return model.train_function


def alternating(dense: keras.Model, options: Options) -> keras.Model:
    """A model that trains three sub-nets in turn and corrects their gradients."""
    shares = [1 - (1 - options.sparsity) / part for part in (1, 2, 5)]
    left_dense = models.dense_layers(options.model)
    model = spfde_keras.sparsify(dense, shares, dense=left_dense, initial="random")
    model.attach(alternation=Alternation(model))
    return model


def retraced_step(model: keras.Model, batch: tf.data.Dataset) -> Step:
    """The step of a compiled model, traced again for its present state and kernels."""
    model.make_train_function(force=True)
    # Traced now, since tracing reads which layers are trainable and which kernels they use.
    model.train_function(iter(batch))
    return model.train_function


def frozen_steps(model: keras.Model, batch: tf.data.Dataset) -> Iterator[tuple[str, int, Step]]:
    """Freezes a third, then two thirds of the blocks: (name, frozen blocks, traced step)."""
    blocks = find_blocks(model)
    for thirds in (1, 2):
        frozen = round(len(blocks) * thirds / 3)
        for layer in itertools.chain(*blocks[:frozen]):
            layer.trainable = False
        yield f"sparse, {thirds}/3 frozen", frozen, retraced_step(model, batch)


def skipping_kernels(model: keras.Model) -> tuple[int, int]:
    """How many kernels skip their zeros in the step traced last, of how many that are masked."""
    choices = [getattr(layer, "kernel_choice", None) for layer in compat.all_layers(model)]
    return sum(bool(choice and choice.sparse) for choice in choices), len(find_masks(model))


def baselines() -> tuple[ModuleType, ModuleType]:
    """The modules of tfmot and of Keras 2, which are no dependency of the library."""
    try:
        import tensorflow_model_optimization as tfmot
        import tf_keras
    except ImportError as error:
        raise RuntimeError(
            f"{error}. Install the baselines: pip install -e '.[baselines]'"
        ) from error
    return tfmot, tf_keras


def masked_layers(model: keras.Model) -> set[str]:
    """Names of the layers that own masks."""
    return {mask.kernel_path.split("/")[-2] for mask in find_masks(model)}


def prune(
    model: Any, layers: set[str], sparsity: float, tfmot: ModuleType, tf_keras: ModuleType
) -> Any:
    """The Keras 2 model with tfmot's pruning wrapped around the layers of these names."""
    # Masks are set in the first step, which is not timed, and every 100 steps after it.
    schedule = tfmot.sparsity.keras.ConstantSparsity(sparsity, begin_step=1)

    def wrap(layer: Any) -> Any:
        if layer.name not in layers:
            return layer
        return tfmot.sparsity.keras.prune_low_magnitude(layer, schedule)

    return tf_keras.models.clone_model(model, clone_function=wrap)


def keras2_twin(model: keras.Model, tf_keras: ModuleType) -> Any:
    """The same functional model in Keras 2, with the same weights."""
    tensors = {}
    for layer in model.layers:
        if isinstance(layer, keras.layers.InputLayer):
            tensors[id(layer.output)] = tf_keras.Input(layer.output.shape[1:], name=layer.name)
            continue
        twin_class = getattr(tf_keras.layers, type(layer).__name__)
        known = {*inspect.signature(twin_class).parameters, "name"}
        # Nested configurations are initializers, which are not needed: weights are copied.
        config = {
            key: value
            for key, value in layer.get_config().items()
            if key in known and not isinstance(value, dict)
        }
        twin = twin_class(**config)
        inputs = tf.nest.map_structure(lambda tensor: tensors[id(tensor)], layer.input)
        tensors[id(layer.output)] = twin(inputs)
        twin.set_weights(layer.get_weights())
    return tf_keras.Model(tensors[id(model.input)], tensors[id(model.output)])


def measure(steps: dict[str, Step], batch: tf.data.Dataset, rounds: int) -> dict[str, list]:
    """Seconds of every step in every round, after untimed rounds to warm up."""
    iterators = {name: iter(batch) for name in steps}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(WARM_UP + rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            float(step(iterators[name])["loss"])
            times[name].append(time.perf_counter() - start)
    return {name: seconds[WARM_UP:] for name, seconds in times.items()}


def summarize(
    times: dict[str, list], shares: dict[str, float], skipping: dict[str, tuple[int, int]]
) -> dict[str, dict]:
    """Medians, ratios to the baselines, what freezing was predicted to leave, and who skips."""

    def ratio(name: str, other: str) -> float:
        return float(np.median(np.divide(times[name], times[other])))

    results = {}
    for name, seconds in times.items():
        results[name] = {
            "median_s": float(np.median(seconds)),
            "quartiles_s": np.percentile(seconds, [25, 75]).tolist(),
            "to_dense": ratio(name, "dense"),
            "to_tfmot": ratio(name, "tfmot"),
            "to_sparse": ratio(name, "sparse"),
        }
        if name in shares:
            results[name]["predicted_to_sparse"] = shares[name]
        if name in skipping:
            results[name]["skipping_kernels"], results[name]["kernels"] = skipping[name]
    return results


def tables(found: Mapping) -> dict[str, report.Table]:
    """The table of ways to train."""
    of = found["settings"]
    headings = ["", "s/step", "/ dense", "/ tfmot", "/ sparse", "predicted", "off by", "skipping"]
    rows = []
    for name, result in found["variants"].items():
        cells = [f"{result[key]:.3f}" for key in ("median_s", "to_dense", "to_tfmot", "to_sparse")]
        if "predicted_to_sparse" in result:
            measured, predicted = result["to_sparse"], result["predicted_to_sparse"]
            cells += [f"{predicted:.3f}", f"{measured / predicted - 1:+.0%}"]
        else:
            cells += ["", ""]
        skips = "skipping_kernels" in result
        cells.append(f"{result['skipping_kernels']} of {result['kernels']}" if skips else "")
        rows.append([name, *cells])
    title = (
        f"{of['model']}, width {of['width']:g}, batch {of['batch_size']}, "
        f"{report.percent(of['sparsity'])} sparse, median of {of['steps']} steps"
    )
    note = "predicted: training FLOPs left by freezing, masked kernels counted as dense ones"
    return {"steps": report.Table(headings, rows, title, [note])}


if __name__ == "__main__":
    sys.exit(main())
