"""Image classification data sets as arrays in memory: `load("digits")`, or any of TFDS by name."""

import dataclasses
import os
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from spfde_keras.extras import extra

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

    def normalize(self, images: np.ndarray | tf.Tensor) -> tf.Tensor:
        """Returns `images` as float32 with mean 0 and deviation 1 per channel; a tensor."""
        return (keras.ops.cast(images, "float32") - self.mean) / self.std


def load(
    name: str = "digits", data_dir: str | None = None, limit: int | None = None, seed: int = 0
) -> Dataset:
    """Loads a data set into memory; nothing is ever downloaded.

    Args:
        name: `digits`, scikit-learn's 1797 handwritten digits of 8x8 pixels (a stratified fifth
            is for testing), or any data set of tensorflow-datasets with images of one size.
        data_dir: where tensorflow-datasets has prepared it; not used for `digits`.
        limit: how many random training samples to take; None takes all.
        seed: of the split of the digits and of the random subset.

    Returns:
        A `Dataset`.

    Raises:
        ValueError: the data is not there or cannot be used.

    Example:

    >>> load("digits", limit=100).train_x.shape
    (100, 8, 8, 1)
    """
    dataset = _digits(seed) if name == "digits" else _tfds(name, data_dir)
    samples = len(dataset.train_x)
    if limit is None or limit == samples:
        return dataset
    if not 1 <= limit <= samples:
        raise ValueError(f"`train_samples` must be in [1, {samples}]. Received: {limit}")
    kept = np.sort(np.random.default_rng(seed).permutation(samples)[:limit])
    return dataclasses.replace(
        dataset, train_x=dataset.train_x[kept], train_y=dataset.train_y[kept]
    )


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


def _tfds(name: str, data_dir: str | None) -> Dataset:
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
    test = next((split for split in ("test", "validation") if split in splits), None)
    if "train" not in splits or test is None:
        raise ValueError(
            f"`dataset` must have a train split and a test or validation split. "
            f"Received: {name} with {', '.join(splits)}"
        )
    keys = builder.info.supervised_keys or ()
    image: Any
    label: Any
    image, label = (features[key] for key in keys) if len(keys) == 2 else (None, None)
    if not (hasattr(label, "num_classes") and len(image.shape or ()) == 3):
        raise ValueError(f"`dataset` must be one of images with class labels. Received: {name}")
    if None in image.shape:
        raise ValueError(
            f"`dataset` must have images of one size. Received: {name} with {image.shape}"
        )
    (train_x, train_y), (test_x, test_y) = (
        tfds.as_numpy(builder.as_dataset(split=split, as_supervised=True, batch_size=-1))
        for split in ("train", test)
    )
    return Dataset(name, train_x, train_y, test_x, test_y, classes=label.num_classes)
