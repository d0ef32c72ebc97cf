"""Image classification data sets: `load("digits")`, or any of TFDS by name; arrays if they fit."""

import dataclasses
import math
import os
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from spfde_keras import DataSieve
from spfde_keras.extras import extra
from spfde_keras.sieve import Identified

from .augment import augment as shifted
from .augment import mirrors
from .streamed import Streamed, batch_of

# What is larger stays in its files.
_MOST_BYTES = 2**32
_STATISTICS_SAMPLES = 10_000  # enough for mean and deviation, without a float copy of all images


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Training and test images with labels, checked when made.

    Args:
        name: what messages call it.
        train_x, test_x: (samples, height, width, channels) uint8.
        train_y, test_y: (samples,) integers in [0, classes).
        classes: number of classes.

    Raises:
        ValueError: a split is empty, its shapes do not fit, or a label is out of range.

    Example:

    >>> images, labels = np.zeros((4, 8, 8, 1), "uint8"), np.array([0, 1, 1, 0])
    >>> Dataset("toy", images, labels, images, labels, classes=2).input_shape
    (8, 8, 1)
    """

    name: str
    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    classes: int
    mean: np.ndarray = dataclasses.field(init=False)
    std: np.ndarray = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        for split in ("train", "test"):
            images, labels = getattr(self, f"{split}_x"), getattr(self, f"{split}_y")
            where = f"dataset `{self.name}`, split `{split}`"
            if images.ndim != 4:
                raise ValueError(
                    f"{where}: images must be (samples, height, width, channels). "
                    f"Received: {images.shape}"
                )
            if len(images) == 0:
                raise ValueError(f"{where}: must hold at least one sample. Received: none")
            if labels.shape != images.shape[:1]:
                raise ValueError(
                    f"{where}: labels must be {images.shape[:1]}. Received: {labels.shape}"
                )
            if labels.min() < 0 or labels.max() >= self.classes:
                raise ValueError(
                    f"{where}: labels must be in [0, {self.classes}). "
                    f"Received: {labels.min()} to {labels.max()}; drop the unlabelled samples"
                )
        if self.train_x.shape[1:] != self.test_x.shape[1:]:
            raise ValueError(
                f"dataset `{self.name}`: images of both splits must be of one size. "
                f"Received: {self.train_x.shape[1:]} and {self.test_x.shape[1:]}"
            )
        sample = self.train_x[:_STATISTICS_SAMPLES].astype(np.float32)
        object.__setattr__(self, "mean", sample.mean(axis=(0, 1, 2)))
        # A constant channel is shifted, but not scaled.
        std = sample.std(axis=(0, 1, 2))
        object.__setattr__(self, "std", np.where(std > 0, std, 1).astype(np.float32))

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of one image."""
        return self.train_x.shape[1:]

    @property
    def train_samples(self) -> int:
        """Number of training samples."""
        return len(self.train_x)

    @property
    def test_samples(self) -> int:
        """Number of test samples."""
        return len(self.test_x)

    @property
    def samples(self) -> tuple[np.ndarray, np.ndarray]:
        """The training samples, for a `DataSieve`."""
        return self.train_x, self.train_y

    def batches(self, sieve: DataSieve, batch_size: int, augment: bool, seed: int) -> Any:
        """Returns batches for training, (Identified(images, ids), labels).

        Args:
            sieve: the `DataSieve` of `samples`.
            batch_size: samples in a batch.
            augment: whether images are shifted and mirrored at random.
            seed: of the run.
        """

        def prepared(x: Identified, y: tf.Tensor) -> tuple[Identified, tf.Tensor]:
            images = x.inputs
            if augment:
                epoch, mirror = sieve.iteration.value, mirrors(self.name)
                images = shifted(images, x.sample_id, epoch, sieve.total, seed, mirror)
            return Identified(self.normalize(images), x.sample_id), y

        # Images are shifted by their ids, which `map` hides.
        return sieve.batches(batch_size).map_identified(prepared).prefetch(tf.data.AUTOTUNE)

    def tests(self, most: int | None = None) -> tf.data.Dataset:
        """Returns normalized test images with labels, in batches.

        Args:
            most: how many at most, evenly spread; None takes all.
        """
        spread = slice(None, None, math.ceil(self.test_samples / (most or self.test_samples)))
        x, y = np.asarray(self.normalize(self.test_x[spread])), self.test_y[spread]
        return tf.data.Dataset.from_tensor_slices((x, y)).batch(batch_of(self.input_shape))

    def typical(self, count: int) -> np.ndarray:
        """Returns the first training images, normalized."""
        return np.asarray(self.normalize(self.train_x[:count]))

    def pictures(self, ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Returns training images as they are, uint8, and their labels."""
        chosen = np.array(ids, int)
        return self.train_x[chosen], self.train_y[chosen]

    def normalize(self, images: np.ndarray | tf.Tensor) -> tf.Tensor:
        """Returns `images` as float32 with mean 0 and deviation 1 per channel; a tensor."""
        return (keras.ops.cast(images, "float32") - self.mean) / self.std


def load(
    name: str = "digits",
    data_dir: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    image_size: int | None = None,
) -> Dataset | Streamed:
    """Loads a data set, into memory if it fits; nothing is ever downloaded.

    Args:
        name: `digits`, scikit-learn's 1797 handwritten digits of 8x8 pixels (a stratified fifth
            is for testing), or any data set of tensorflow-datasets of images with class labels.
        data_dir: where tensorflow-datasets has prepared it; not used for `digits`.
        limit: how many training samples to take, at random; of images that stay in their files
            the first. None takes all.
        seed: of the split of the digits and of the random subset.
        image_size: side of the square that images are cropped and resized to. None leaves them
            as they are; those of different sizes get 224.

    Returns:
        A `Dataset`, or, of images of different sizes, with `image_size`, or of more than 4 GiB,
        a `Streamed`.

    Raises:
        ValueError: the data is not there or cannot be used.

    Example:

    >>> load("digits", limit=100).train_x.shape
    (100, 8, 8, 1)
    """
    if name == "digits":
        if image_size is not None:
            raise ValueError(
                "`image_size` must be left out with digits, which have 8 pixels. "
                f"Received: {image_size}"
            )
        return _limited(_digits(seed), limit, seed)
    builder, test = _prepared(name, data_dir)
    info = builder.info
    shape, counts = info.features[info.supervised_keys[0]].shape, info.splits
    samples = counts["train"].num_examples + counts[test].num_examples
    if image_size is None and None not in shape and math.prod(shape) * samples <= _MOST_BYTES:
        return _limited(_arrays(name, builder, test), limit, seed)
    _check_limit(limit, counts["train"].num_examples)
    train = "train" if limit is None else f"train[:{limit}]"
    return Streamed(name, builder, train, test, image_size)


def load_arrays(*arguments: Any) -> Dataset:
    """Loads a data set as `load`, for programs that need all of it in memory.

    Args:
        *arguments: of `load`.

    Raises:
        ValueError: as `load`, or where the images stay in their files.

    Example:

    >>> load_arrays("digits").test_x.shape
    (360, 8, 8, 1)
    """
    dataset = load(*arguments)
    if isinstance(dataset, Streamed):
        raise ValueError(
            "`dataset` must have images of one size here, 4 GiB at most. "
            f"Received: {dataset.name}, which only `spfde train` reads"
        )
    return dataset


def _limited(dataset: Dataset, limit: int | None, seed: int) -> Dataset:
    samples = len(dataset.train_x)
    _check_limit(limit, samples)
    if limit is None or limit == samples:
        return dataset
    kept = np.sort(np.random.default_rng(seed).permutation(samples)[:limit])
    return dataclasses.replace(
        dataset, train_x=dataset.train_x[kept], train_y=dataset.train_y[kept]
    )


def _check_limit(limit: int | None, samples: int) -> None:
    if limit is not None and not 1 <= limit <= samples:
        raise ValueError(f"`train_samples` must be in [1, {samples}]. Received: {limit}")


def _digits(seed: int) -> Dataset:
    with extra("apps"):
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

    digits = load_digits()
    images, labels = digits.images[..., None].astype(np.uint8), digits.target
    train_x, test_x, train_y, test_y = train_test_split(
        images, labels, test_size=0.2, stratify=labels, random_state=seed
    )
    return Dataset("digits", train_x, train_y, test_x, test_y, classes=10)


def _prepared(name: str, data_dir: str | None) -> tuple[Any, str]:
    """Returns the builder of a prepared data set, and the name of its test split."""
    if data_dir is None:
        raise ValueError(
            f"`data_dir` must be given for dataset `{name}`: a folder with it, as "
            f"`tfds build {name} --data_dir=FOLDER` prepares it. Received: None"
        )
    if not os.path.isdir(data_dir):
        raise ValueError(f"`data_dir` must be a folder. Received: {data_dir}")

    with extra("apps"):
        import tensorflow_datasets as tfds  # slow to import, and the digits do not need it

    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError:
        raise ValueError(
            f"`dataset` must be digits or a name known to tensorflow-datasets. Received: {name}"
        ) from None
    features, splits = builder.info.features, builder.info.splits
    if not splits:
        raise ValueError(
            f"`data_dir` must hold the prepared dataset `{name}`. Received: {data_dir}; "
            f"prepare it there with `tfds build {name} --data_dir={data_dir}`"
        )
    keys = builder.info.supervised_keys or ()
    image: Any
    label: Any
    image, label = (features[key] for key in keys) if len(keys) == 2 else (None, None)
    if not (hasattr(label, "num_classes") and len(image.shape or ()) == 3):
        raise ValueError(f"`dataset` must be one of images with class labels. Received: {name}")
    there = [split for split in ("test", "validation") if split in splits]
    test = next((split for split in there if _is_labelled(builder, split)), None)
    if "train" not in splits or test is None:
        raise ValueError(
            "`dataset` must have a train split, and a test or validation split with labels. "
            f"Received: {name} with {', '.join(splits)}"
        )
    return builder, test


def _is_labelled(builder: Any, split: str) -> bool:
    """Whether a split has labels: that of a challenge may have -1 for all of them."""
    import tensorflow_datasets as tfds

    first = builder.as_dataset(
        split=split,
        as_supervised=True,
        decoders={builder.info.supervised_keys[0]: tfds.decode.SkipDecoding()},
        read_config=tfds.ReadConfig(try_autocache=False),
    )
    return all(int(label) >= 0 for _, label in first.take(8))


def _arrays(name: str, builder: Any, test: str) -> Dataset:
    import tensorflow_datasets as tfds

    (train_x, train_y), (test_x, test_y) = (
        tfds.as_numpy(builder.as_dataset(split=split, as_supervised=True, batch_size=-1))
        for split in ("train", test)
    )
    classes = builder.info.features[builder.info.supervised_keys[1]].num_classes
    return Dataset(name, train_x, train_y, test_x, test_y, classes=classes)
