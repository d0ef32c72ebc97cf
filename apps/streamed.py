"""Data sets of any size: images that stay in tensorflow-datasets' files until they are due."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from spfde_keras import DataSieve
from spfde_keras.sieve import Source, tfds_split

from . import images
from .augment import mirrors

# Of ImageNet's pixels; other data sets of colour images are close.
_MEAN = np.array([123.675, 116.28, 103.53], np.float32)
_STD = np.array([58.395, 57.12, 57.375], np.float32)
_USUAL_SIZE = 224


class Streamed:
    """Training and test images that are read, decoded and cropped as they are used.

    It offers what `apps.datasets.Dataset` does, without its arrays.

    Args:
        name: what messages call it.
        builder: a `tfds.core.DatasetBuilder` of prepared data, images with class labels.
        train, test: the splits, or parts of them.
        size: side of the square that images are cropped and resized to; None for the size they
            all have, or 224.

    Raises:
        ValueError: the splits are not in TFRecord files.
    """

    def __init__(self, name: str, builder: Any, train: str, test: str, size: int | None = None):
        import tensorflow_datasets as tfds

        self.name = name
        image, label = builder.info.supervised_keys
        height, width, channels = builder.info.features[image].shape
        self.classes = builder.info.features[label].num_classes
        self._of_one_size = height is not None and width is not None
        sides = (
            (height, width) if self._of_one_size and size is None else (size or _USUAL_SIZE,) * 2
        )
        self.input_shape = (*sides, channels)
        skip = {image: tfds.decode.SkipDecoding()}
        self.samples: Source = tfds_split(builder, train, skip)
        self._tests: Source = tfds_split(builder, test, skip)
        colour = channels == len(_MEAN)
        self.mean = _MEAN if colour else np.full(channels, _MEAN.mean(), np.float32)
        self.std = _STD if colour else np.full(channels, _STD.mean(), np.float32)

    def described(self, augment: bool, limit: int | None) -> str:
        """Returns a line that says how it differs from data in memory.

        Args:
            augment: whether training images are augmented.
            limit: None, or how many training samples were asked for.
        """
        parts = ["images stay in their files, and are scaled by ImageNet's mean and deviation"]
        if augment:
            parts.append("augmented by random crops, resized")
        if limit is not None:
            parts.append(f"the first {limit} training samples are used")
        return f"{self.name}: {'; '.join(parts)}"

    @property
    def train_samples(self) -> int:
        """Number of training samples."""
        return self.samples.total

    @property
    def test_samples(self) -> int:
        """Number of test samples."""
        return self._tests.total

    def normalize(self, images: tf.Tensor) -> tf.Tensor:
        """Returns `images` as float32 with about mean 0 and deviation 1 per channel."""
        return (keras.ops.cast(images, "float32") - self.mean) / self.std

    def batches(self, sieve: DataSieve, batch_size: int, augment: bool, seed: int) -> Any:
        """Returns batches for training, (Identified(images, ids), labels)."""

        def cropped(file: tf.Tensor, label: tf.Tensor, seed: tf.Tensor) -> tuple:
            mirror = mirrors(self.name)
            size, channels = self.input_shape[:2], self.input_shape[2]
            return images.random_crop(file, size, channels, seed, mirror), label

        batches = sieve.batches(batch_size, preprocess=cropped if augment else self._middle)
        batches = batches.map(lambda x, y: (self.normalize(x), y))
        return batches.prefetch(tf.data.AUTOTUNE)

    def tests(self, most: int | None = None) -> tf.data.Dataset:
        """Returns normalized test images with labels, in batches; `most` of them, spread."""
        step = math.ceil(self.test_samples / (most or self.test_samples))
        return self._read(self._tests, step, math.ceil(self.test_samples / step))

    def typical(self, count: int) -> np.ndarray:
        """Returns the first training images, normalized."""
        parts = [x for x, _ in self._read(self.samples, 1, min(count, self.train_samples))]
        return np.concatenate(parts)

    def pictures(self, ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray] | None:
        """Returns None: single images cannot be fetched without reading all before them."""
        return None

    def _read(self, source: Source, step: int, count: int) -> tf.data.Dataset:
        files = source.in_order().take(step * count)
        files = files.enumerate().filter(lambda place, _: place % step == 0).map(lambda _, x: x)
        read = files.map(self._middle, tf.data.AUTOTUNE)
        batches = read.batch(batch_of(self.input_shape))
        return batches.map(lambda x, y: (self.normalize(x), y)).prefetch(tf.data.AUTOTUNE)

    def _middle(self, file: tf.Tensor, label: tf.Tensor) -> tuple:
        size, channels = self.input_shape[:2], self.input_shape[2]
        return images.middle(file, size, channels, whole=self._of_one_size), label


def batch_of(shape: tuple[int, int, int]) -> int:
    """Returns how many test images go into a batch: 256, or 32 MiB of them.

    Example:

    >>> batch_of((32, 32, 3)), batch_of((224, 224, 3))
    (256, 55)
    """
    return max(1, min(256, 2**25 // (4 * math.prod(shape))))
