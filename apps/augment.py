"""Random shifts and mirroring of images, repeatable for every sample and epoch."""

import re

import tensorflow as tf

# Data sets whose images mean something else when mirrored.
_WRITTEN = (
    "binary_alpha_digits",
    "cmaterdb",
    "digits",
    "emnist",
    "kmnist",
    "mnist",
    "mnist_corrupted",
    "omniglot",
    "svhn_cropped",
)


def mirrors(dataset: str) -> bool:
    """Returns whether images of this data set may be mirrored: not where they show writing.

    Args:
        dataset: its name, with a variant or version behind "/" or ":" or without.
    """
    return re.split("[/:]", dataset)[0] not in _WRITTEN


def augment(
    images: tf.Tensor,
    sample_id: tf.Tensor,
    epoch: tf.Tensor,
    samples: int,
    seed: int,
    mirror: bool,
) -> tf.Tensor:
    """Shifts each image by up to an eighth of its size and mirrors every second one.

    What happens to a sample depends on (seed, epoch, sample) alone: not on its batch, and not
    on whether the run was resumed.

    Args:
        images: (batch, height, width, channels), any dtype; what is shifted in is 0.
        sample_id: (batch,) integers in [0, samples).
        epoch: scalar integer.
        samples: size of the data set.
        seed: of the run.
        mirror: whether left and right may be exchanged.

    Returns:
        Images of the same shape and dtype.

    Example:

    >>> images = tf.ones((2, 8, 8, 1))
    >>> augment(images, tf.constant([0, 1]), tf.constant(3), 2, seed=0, mirror=True).shape
    TensorShape([2, 8, 8, 1])

    Source: the augmentation of CIFAR in He et al. 2016, section 4.2, with stateless randomness.
    """
    height, width = images.shape[1:3]
    reach = tf.constant([height // 8, width // 8])
    # One draw for all samples, of which a batch picks its own: independent of the batches.
    draws = tf.random.stateless_uniform(
        (samples, 3), seed=tf.stack([seed, tf.cast(epoch, tf.int32)])
    )
    draws = tf.gather(draws, sample_id)
    offsets = tf.cast(draws[:, :2] * tf.cast(2 * reach + 1, tf.float32), tf.int32)
    flipped = (draws[:, 2:] < 0.5) & mirror
    columns = tf.range(width)[None]
    columns = tf.where(flipped, width - 1 - columns, columns) + offsets[:, 1:]
    rows = tf.range(height)[None] + offsets[:, :1]
    padded = tf.pad(images, [[0, 0], [reach[0]] * 2, [reach[1]] * 2, [0, 0]])
    shifted = tf.gather(padded, rows, axis=1, batch_dims=1)
    return tf.gather(shifted, columns, axis=2, batch_dims=1)
