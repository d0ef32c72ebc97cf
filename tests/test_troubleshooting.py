"""Each message that docs/troubleshooting.md quotes is raised, or warned of, as it says."""

import ast
import itertools
import re
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import spfde_keras
from spfde_keras import AlternatingSparseTraining, DataSieve, SpFDE, export_tflite

PAGE = Path(__file__).parents[1] / "docs" / "troubleshooting.md"
LIBRARY = Path(spfde_keras.__file__).parent
# Told of in other words than ours, or raised by the tests named.
ELSEWHERE = {
    "NaN with Adafactor",
    "TFLiteConverter.from_keras_model fails, or writes a large file",
    "A pause at some epochs",
    "Could not locate class 'SparseModel'",  # tests/test_loading.py
    "... is not installed: pip install 'spfde-keras[export]'",  # tests/test_imports.py
}
# Raised by the tests of what they are about; here it is looked up that they are ours.
OURS = {
    "ranks samples by one bit",  # tests/test_standstill.py
    "must divide the kernels of layers",  # tests/test_sparsify_arguments.py
    "keeps the weights of the best epoch",  # tests/test_any_script.py
    "must hold one callback that trains sparse",
    "The optimizer must be made in",
    "Each batch must have a sample for each",
    "must be the same on all",
    "must be of one run at a time",
    "cannot be written, so training stops",
    "whose loss is NaN or infinite",
    "No state of the run is whole",
    "must be readable in each epoch",
    "does not compute the same",
    "belong to both models from here on",
    "On phones this file would give wrong results",
    "not built for TensorFlow",
    "TensorFlow uses a GPU, for which there are no kernels",
}
X, Y = np.zeros((8, 8)), np.zeros((8, 2))
DATA = tf.data.Dataset.from_tensor_slices((X, np.zeros(8)))


def net(*kernels, shape=(8,)):
    return keras.Sequential([keras.Input(shape), *kernels, layers.Dense(2)])


def sparse(sparsity=0.5, compiled=True, **options):
    model = spfde_keras.sparsify(net(layers.Dense(8), layers.Dense(8)), sparsity, **options)
    if compiled:
        model.compile("sgd", "mse")
    return model


def fit(callback, model=None, **options):
    model = sparse() if model is None else model
    model.fit(X, Y, **({"epochs": 4, "verbose": 0} | options), callbacks=[callback])


class Twice(keras.Model):
    def __init__(self):
        super().__init__()
        self.inner = layers.Dense(8)

    def call(self, inputs):
        return self.inner(self.inner(inputs))


class Tied(keras.Model):
    def __init__(self):
        super().__init__()
        self.first, self.last = layers.Dense(8), layers.Dense(2)

    def call(self, inputs):
        return self.last(keras.ops.matmul(self.first(inputs), self.first.kernel))


class OwnStep(keras.Model):
    def train_step(self, data):
        return {"loss": self.compute_loss(data[0], data[1], self(data[0]))}


def called(model):
    model(X[:1].astype("float32"))
    return model


def own_step():
    plain = net(layers.Dense(8), layers.Dense(8))
    return compiled(spfde_keras.sparsify(OwnStep(plain.inputs, plain.outputs), 0.5))


def with_sieve(**options):
    return DataSieve((X, np.arange(8) % 2), **options)


def random_data():
    draws = itertools.count()

    def other(x, y):
        drawn = tf.numpy_function(lambda: float(next(draws)), [], tf.float64)
        return x + tf.ensure_shape(drawn, ()), y

    return DATA.map(other)


def stopped():
    stop = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: setattr(model, "stop_training", True)
    )
    model = sparse(0.75)
    model.fit(X, Y, epochs=8, verbose=0, callbacks=[SpFDE(), stop])


def in_scope():
    model = sparse()
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        model.fit(X, Y, verbose=0)


def unsieved():
    model = sparse(compiled=False)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(X, np.arange(8) % 2, verbose=0, callbacks=[SpFDE(sieve=with_sieve())])


def sieved():
    sieve = with_sieve()
    sparse().fit(sieve.batches(4), verbose=0, callbacks=[SpFDE(sieve=sieve)])


def damaged(folder):
    fit(spfde_keras.Resume(folder), epochs=1)
    (folder / "epoch-0001" / "state.index").write_bytes(b"")
    fit(spfde_keras.Resume(folder), epochs=2)


EXAMPLES = {
    "must have a layer that can be made sparse": lambda _: spfde_keras.sparsify(net(), 0.5),
    "must know its input shape": lambda _: spfde_keras.sparsify(
        keras.Sequential([layers.Dense(2)]), 0.5
    ),
    "must be functional, or a Sequential model with a known input shape": lambda _: (
        spfde_keras.find_blocks(called(Twice()))
    ),
    "must have been called once on a batch": lambda _: spfde_keras.sparsify(Twice(), 0.5),
    "must not have masks yet": lambda _: spfde_keras.sparsify(sparse(), 0.5),
    "must match layers that have kernels": lambda _: sparse(dense=["none"]),
    "must hold layers whose kernels are used elsewhere as well": lambda _: spfde_keras.sparsify(
        called(Tied()), 0.5, dense=()
    ),
    "Scheme ... needs": lambda _: spfde_keras.sparsify(
        net(layers.Dense(6)), 0.5, scheme="block", strict=True
    ),
    "with scheme ... Received": lambda _: sparse(0.9, scheme="2:4"),
    "callback needs a model made by": lambda _: fit(SpFDE(), compiled(net())),
    "You must call `compile()` before": lambda _: fit(SpFDE(), sparse(compiled=False)),
    "must be the same in `fit` and in the callback": lambda _: fit(SpFDE(epochs=9)),
    "must be at most ... epochs and interval": lambda _: fit(SpFDE(freeze=0.9)),
    "of the training FLOPs, the most": lambda _: fit(SpFDE(freeze=True), epochs=2),
    "Freezing needs a model of at least 2 blocks": lambda _: fit(
        SpFDE(freeze=0.1), compiled(spfde_keras.wrap(net()))
    ),
    "must leave an interval in which": lambda _: fit(SpFDE(interval=9, freeze=0.1)),
    "never change": lambda _: fit(SpFDE(interval=9)),
    "starts from a dense model": lambda _: fit(SpFDE(updater="magnitude")),
    "start at zero": lambda _: fit(AlternatingSparseTraining(interval=1), sparse(0.9)),
    "Masks keep more than their final density": lambda _: sparse([0.5, 0.75]).fit(X, Y, verbose=0),
    "must train for 2 intervals": lambda _: fit(
        SpFDE(updater="magnitude", freeze=spfde_keras.Freezing(None, "periodic")),
        sparse(initial="dense"),
    ),
    "callback trains one sub-net": lambda _: fit(SpFDE(), sparse([0.5, 0.75])),
    "must know the number of steps in an epoch": lambda _: sparse([0.5, 0.75]).fit(
        tf.data.Dataset.from_generator(
            lambda: iter([(X, Y)]), output_signature=(tf.TensorSpec((8, 8)), tf.TensorSpec((8, 2)))
        ),
        verbose=0,
        callbacks=[AlternatingSparseTraining()],
    ),
    "cannot follow ... completed epochs": lambda _: fit(SpFDE(), initial_epoch=2),
    "must know the loss that a step trains": lambda _: fit(SpFDE(), own_step()),
    "when masks still": lambda _: stopped(),
    "whose loss is NaN or infinite": lambda _: sparse().fit(
        X * np.nan, Y, epochs=2, verbose=0, callbacks=[SpFDE()]
    ),
    "No state of the run is whole": damaged,
    "must not be batched": lambda _: DataSieve(DATA.batch(2)),
    "must not be shuffled": lambda _: DataSieve(DATA.shuffle(8)),
    "must be the same, in the same order, at each reading": lambda _: DataSieve(random_data()),
    "must have a known, finite number of samples": lambda _: DataSieve(DATA.repeat()),
    "must be made of (x, y) or (x, y, sample_weight)": lambda _: DataSieve(
        DATA.map(lambda x, y: x)
    ),
    "A sample's correctness is not defined": lambda _: sieved(),
    "if, and only if, the callback is": lambda _: unsieved(),
    "The model must be made": lambda _: in_scope(),
    "Models with masks are saved to": lambda path: sparse().save(path / "model.h5"),
    "cannot be quantized": lambda _: sparse().quantize("int8"),
    "must have fixed input shapes": lambda path: export_tflite(
        net(layers.Dense(4), shape=(None, 8)), path / "model.tflite"
    ),
    "must be given with precision='int8_full'": lambda path: export_tflite(
        net(), path / "model.tflite", "int8_full"
    ),
    "LiteRT cannot load most": lambda path: export_tflite(
        net(), path / "model.tflite", "int8_dynamic", sparse=True
    ),
    "cannot run sparse on phones without changing what it computes": lambda path: export_tflite(
        sparse(), path / "model.tflite", mobile=True
    ),
    "does not run sparse on phones": lambda path: print(
        export_tflite(sparse(), path / "model.tflite", sparse=True)
    ),
}


def compiled(model):
    model.compile("sgd", "mse")
    return model


def quoted():
    headings = re.findall(r"^### (.*)$", PAGE.read_text(), re.M)
    return [re.sub(r'^[`"](.*)[`"]$', r"\1", heading) for heading in headings]


def test_each_entry_has_an_example():
    assert set(quoted()) == EXAMPLES.keys() | ELSEWHERE | OURS


@pytest.mark.parametrize("quote", EXAMPLES)
def test_what_is_quoted_is_said(quote, tmp_path, capsys):
    said = ""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            EXAMPLES[quote](tmp_path)
        except Exception as error:
            said = str(error)
    said += "".join(str(warning.message) for warning in caught) + capsys.readouterr().out
    assert re.search(".*".join(map(re.escape, re.split(r"\s*\.\.\.\s*", quote))), said, re.S), said


def test_what_is_quoted_without_an_example_is_in_the_code():
    trees = (ast.parse(file.read_text()) for file in LIBRARY.rglob("*.py"))
    texts = [n.value for tree in trees for n in ast.walk(tree) if isinstance(n, ast.Constant)]
    known = [text for text in texts if isinstance(text, str)]
    assert [quote for quote in OURS if not any(quote in text for text in known)] == []
