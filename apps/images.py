"""Images of any size, cropped to one: at random for training, in the middle for testing."""

import tensorflow as tf

# A crop for training covers at least this share of an image, at an aspect ratio of these.
_SHARES, _RATIOS = (0.08, 1.0), (3 / 4, 4 / 3)
# The middle of an image that testing looks at: 224 of 256 pixels.
_MIDDLE = 224 / 256


def random_crop(
    file: tf.Tensor, size: tuple[int, int], channels: int, seed: tf.Tensor, mirror: bool
) -> tf.Tensor:
    """Returns a random part of an image, resized; only that part of a JPEG is decoded.

    Args:
        file: scalar string tensor, a JPEG, PNG, GIF or BMP file.
        size: (height, width) in pixels.
        channels: 1 or 3.
        seed: integer tensor (2,), which alone decides.
        mirror: whether left and right are exchanged in half of all cases.

    Returns:
        (height, width, channels) float32 in [0, 255].

    Example:

    >>> file = tf.io.encode_jpeg(tf.zeros((30, 40, 3), tf.uint8))
    >>> random_crop(file, (8, 8), 3, tf.constant([0, 1]), mirror=True).shape
    TensorShape([8, 8, 3])

    Source: Szegedy et al., "Going deeper with convolutions", CVPR 2015, section 6, without its
    changes of colour.
    """
    is_jpeg = tf.io.is_jpeg(file)
    shape = tf.cond(
        is_jpeg,
        lambda: tf.io.extract_jpeg_shape(file),
        lambda: tf.shape(_decoded(file, channels)),
    )
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        shape,
        tf.zeros((1, 0, 4)),
        seed,
        min_object_covered=0.0,
        aspect_ratio_range=_RATIOS,
        area_range=_SHARES,
        max_attempts=10,
        use_image_if_no_bounding_boxes=True,
    )
    window = tf.concat([begin[:2], extent[:2]], 0)
    extent = tf.concat([extent[:2], [channels]], 0)
    image = tf.cond(
        is_jpeg,
        lambda: tf.io.decode_and_crop_jpeg(file, window, channels),
        lambda: tf.slice(_decoded(file, channels), begin, extent),
    )
    if mirror:
        # The crop has used the seed itself.
        again = tf.random.experimental.stateless_fold_in(seed, 1)
        image = tf.image.stateless_random_flip_left_right(image, again)
    return _resized(image, size, channels)


def middle(file: tf.Tensor, size: tuple[int, int], channels: int, whole: bool) -> tf.Tensor:
    """Returns the square in the middle of an image, 224/256 of its shorter side, resized.

    Args:
        file: scalar string tensor, a JPEG, PNG, GIF or BMP file.
        size: (height, width) in pixels.
        channels: 1 or 3.
        whole: whether all of the image is taken instead.

    Returns:
        (height, width, channels) float32 in [0, 255].

    Example:

    >>> file = tf.io.encode_png(tf.zeros((30, 40, 3), tf.uint8))
    >>> middle(file, (8, 8), 3, whole=False).shape
    TensorShape([8, 8, 3])
    """
    image = _decoded(file, channels)
    if not whole:
        height, width = tf.shape(image)[0], tf.shape(image)[1]
        shorter = tf.cast(tf.minimum(height, width), tf.float32)
        side = tf.maximum(1, tf.cast(tf.round(_MIDDLE * shorter), tf.int32))
        top, left = (height - side) // 2, (width - side) // 2
        image = image[top : top + side, left : left + side]
    return _resized(image, size, channels)


def _decoded(file: tf.Tensor, channels: int) -> tf.Tensor:
    return tf.io.decode_image(file, channels, expand_animations=False)


def _resized(image: tf.Tensor, size: tuple[int, int], channels: int) -> tf.Tensor:
    image = tf.image.resize(image, size)
    image.set_shape((*size, channels))
    return image
