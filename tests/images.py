"""A folder as tensorflow-datasets prepares it: JPEG images of different sizes, in several files."""

import io

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

NAME, CLASSES = "shapes", 4


def jpeg(number, height, width):
    """A noisy image whose brighter quarter tells its class."""
    rng = np.random.default_rng(number)
    pixels = rng.integers(0, 100, (height, width, 3))
    row, column = divmod(number % CLASSES, 2)
    half = height // 2, width // 2
    rows, columns = slice(row * half[0], None), slice(column * half[1], None)
    pixels[rows, columns][: half[0], : half[1]] += 150
    file = io.BytesIO()
    Image.fromarray(pixels.astype("uint8")).save(file, "jpeg", quality=90)
    return file.getvalue()


def sizes(number, same=None):
    rng = np.random.default_rng([1, number])
    return (same, same) if same else tuple(rng.integers(20, 60, 2).tolist())


def write(folder, train=100, test=20, per_file=30, same=None):
    """Writes the data set into `folder` by TFDS's own writer; returns its builder.

    With `same`, all images are squares of so many pixels, which the data set then states.
    """

    def example(number):
        return {
            "image": io.BytesIO(jpeg(number, *sizes(number, same))),
            "label": number % CLASSES,
        }

    shape = (same, same, 3) if same else (None, None, 3)
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=shape, encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(num_classes=CLASSES),
        }
    )
    identity = tfds.core.dataset_info.DatasetIdentity(
        name=NAME, version="1.0.0", data_dir=str(folder / NAME / "1.0.0"), module_name="tests"
    )
    info = tfds.core.DatasetInfo(
        builder=identity, features=features, supervised_keys=("image", "label")
    )
    return _written(folder, info, example, {"train": train, "test": test}, per_file)


def write_known(folder, name, train, test):
    """Writes noise in the form of a data set that TFDS knows, with all its classes."""
    info = tfds.builder(name, data_dir=folder).info
    labels = tfds.features.ClassLabel
    others = {k: 0 if isinstance(f, labels) else "a" for k, f in info.features.items()}
    classes = info.features["label"].num_classes
    side = info.features["image"].shape[0]

    def example(number):
        image = io.BytesIO(jpeg(number, *sizes(number, side)))
        return others | {"image": image, "label": number % classes}

    evaluation = "validation" if name == "imagenet2012" else "test"
    return _written(folder, info, example, {"train": train, evaluation: test}, train)


def _written(folder, info, example, splits, per_file):
    (folder / info.name / str(info.version)).mkdir(parents=True)
    writer = tfds.core.SequentialWriter(info, per_file)
    writer.initialize_splits(list(splits))
    for start, (split, count) in zip((0, 10_000), splits.items(), strict=True):
        writer.add_examples({split: [example(start + number) for number in range(count)]})
    writer.close_all()
    return tfds.builder(info.name, data_dir=folder)
