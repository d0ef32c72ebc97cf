"""Assembles a page on which a sparse net learns digits that its user draws, in the browser.

    python tflite/web/build_learning.py page
    python -m http.server --directory page

At first the net learns the digits from 0 to 7, here, which takes a minute; an 8 or a 9 it has never
seen. The page's file trains: spfde_keras.export_trainable_tflite.
"""

import json
import math
import pathlib
import shutil
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from apps import quiet  # noqa: F401  before TensorFlow is imported

# isort: split
import keras
import numpy as np
from absl import app, flags

import spfde_keras
from apps import datasets, models, web_page

HERE = pathlib.Path(__file__).resolve().parent
MARK = "page.json"
DIGITS = range(10)
KNOWN = range(8)
MODEL = "small_cnn"
SPARSITY = 0.9
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
_EACH = 6  # samples of each known digit, against forgetting
_TEST = 10  # of each digit
_ROOM = 128  # samples on the page, those drawn there included
_BATCH = 8
_RESTING = 0.1

_NODE_MODULES = flags.DEFINE_string(
    "learning_node_modules",
    web_page.NODE_MODULES,
    f"folder in which npm has installed {web_page.LITERT}",
)
_EPOCHS = flags.DEFINE_integer("epochs", 20, "epochs in which the digits from 0 to 7 are learned")


def build(out: str, node_modules: str, epochs: int) -> None:
    """Trains the net, writes its file, and assembles the page's folder.

    Args:
        out: the folder to write.
        node_modules: folder in which npm has installed LiteRT.js.
        epochs: int, how long the net is trained.

    Raises:
        ValueError: something is missing.
    """
    with (
        web_page.replacing(out, node_modules, MARK) as page,
        tempfile.TemporaryDirectory() as beside,
    ):
        shutil.copytree(HERE / "learn", page, dirs_exist_ok=True)
        for name in ("pad.js", "style.css"):
            shutil.copyfile(HERE / "page" / name, page / name)
        digits = datasets.load_arrays("digits")
        model = trained(digits, epochs)
        file = pathlib.Path(beside, "digits.tflite")
        spfde_keras.export_trainable_tflite(
            model,
            file,
            keras.optimizers.SGD(0.05, momentum=0.9),
            LOSS,
            _BATCH,
            stages=2,
            updater="set",
            samples=_ROOM,
            sieve=_RESTING,
            tolerance=1e-3,
        )
        shutil.copyfile(file, page / file.name)
        about = described(digits, model, file)
        (page / MARK).write_text(json.dumps(about))


def trained(digits: datasets.Dataset, epochs: int) -> keras.Model:
    """A sparse net that knows the digits from 0 to 7."""
    keras.utils.set_random_seed(0)
    of = np.isin(digits.train_y, KNOWN)
    x, y = np.asarray(digits.normalize(digits.train_x[of])), digits.train_y[of]
    net = models.build(MODEL, x.shape[1:], len(DIGITS), 1.0)
    model = spfde_keras.sparsify(net, SPARSITY)
    rate = keras.optimizers.schedules.CosineDecay(0.1, epochs * math.ceil(len(x) / 32))
    model.compile(keras.optimizers.SGD(rate, momentum=0.9), LOSS)
    callback = spfde_keras.SpFDE()
    model.fit(x, y, batch_size=32, epochs=epochs, callbacks=[callback], verbose=0)
    return model


def described(digits: datasets.Dataset, model: keras.Model, file: pathlib.Path) -> dict:
    """What the page has to know, as in page.json."""
    samples = _some(digits.train_x, digits.train_y, KNOWN, _EACH)
    test = _some(digits.test_x, digits.test_y, DIGITS, _TEST)
    x = np.asarray(digits.normalize(np.stack([image for image, _ in test])))
    right = model.predict(x, verbose=0).argmax(-1) == [label for _, label in test]
    known = np.array([label in KNOWN for _, label in test])
    return {
        "model": MODEL,
        "sparsity": SPARSITY,
        "url": web_page.fresh(file.name, file.read_bytes()),
        "bytes": file.stat().st_size,
        "scaling": {"mean": float(digits.mean[0]), "std": float(digits.std[0])},
        "digits": list(DIGITS),
        "known": list(KNOWN),
        "samples": [{**_sample(*one), "id": i} for i, one in enumerate(samples)],
        "test": [_sample(*one) for one in test],
        "before": f"{right[known].sum()} of {known.sum()} known digits, "
        f"{right[~known].sum()} of {(~known).sum()} new ones",
    }


def _some(x: np.ndarray, y: np.ndarray, of: range, each: int) -> list[tuple[np.ndarray, int]]:
    """The first samples of each digit."""
    return [(image, digit) for digit in of for image in x[y == digit][:each]]


def _sample(image: np.ndarray, label: int) -> dict:
    return {"label": int(label), "pixels": image.ravel().tolist()}


def main(argv: list[str]) -> None:
    """Runs the command; a wrong input ends it with one line and exit code 1.

    Args:
        argv: the program's name, and the page's folder.
    """
    if len(argv) != 2:
        raise app.UsageError(f"The page's folder is needed. Received: {argv[1:]}")
    try:
        build(argv[1], _NODE_MODULES.value, _EPOCHS.value)
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(f"{argv[1]}: show it with `python -m http.server --directory {argv[1]}`")


if __name__ == "__main__":
    app.run(main)
