"""Augmentation: shifts and mirror images only, the same for a sample however it is batched."""

import numpy as np
import pytest
import tensorflow as tf

from apps.augment import augment, mirrors


@pytest.fixture
def images():
    return np.arange(1, 50 * 16 * 8 + 1, dtype="int32").reshape(50, 16, 8, 1)


def augmented(images, ids=None, epoch=0, seed=0, mirror=True):
    ids = np.arange(len(images)) if ids is None else ids
    return augment(
        tf.constant(images), tf.constant(ids), tf.constant(epoch), 50, seed, mirror
    ).numpy()


def variants(image, mirror):
    """All results there can be: shifts by up to 2 rows and 1 column, filled with zeros."""
    height, width = image.shape[:2]
    padded = np.pad(image, ((2, 2), (1, 1), (0, 0)))
    shifted = [
        padded[row : row + height, column : column + width]
        for row in range(5)
        for column in range(3)
    ]
    return shifted + [image[:, ::-1] for image in shifted] * mirror


@pytest.mark.parametrize("mirror", [True, False])
def test_each_image_is_shifted_or_mirrored(images, mirror):
    seen = set()
    for image, result in zip(images, augmented(images, mirror=mirror), strict=True):
        matches = [i for i, v in enumerate(variants(image, mirror)) if np.array_equal(v, result)]
        assert len(matches) == 1
        seen |= set(matches)
    assert len(seen) > 10
    assert any(match >= 15 for match in seen) == mirror


def test_a_sample_gets_the_same_in_any_batch(images):
    order = np.random.default_rng(0).permutation(50)
    np.testing.assert_array_equal(augmented(images[order], order), augmented(images)[order])
    np.testing.assert_array_equal(augmented(images[:3]), augmented(images)[:3])


def test_epochs_and_seeds_differ(images):
    first = augmented(images)
    assert (first == augmented(images)).all()
    assert (first != augmented(images, epoch=1)).any()
    assert (first != augmented(images, seed=1)).any()


def test_dtype_and_shape_stay():
    result = augment(tf.zeros((2, 8, 8, 3), tf.uint8), tf.constant([0, 1]), 0, 2, 0, True)
    assert (result.dtype, result.shape) == (tf.uint8, (2, 8, 8, 3))


def test_writing_is_not_mirrored():
    assert not mirrors("mnist")
    assert not mirrors("emnist/letters")
    assert not mirrors("svhn_cropped:3.1.0") and not mirrors("mnist_corrupted/shear:1.0.0")
    assert mirrors("fashion_mnist")
