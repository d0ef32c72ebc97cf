"""Images in folders, one folder a class, of which only those in training are read."""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

_CHANNELS = {"grayscale": 1, "rgb": 3, "rgba": 4}


def image_files(
    directory: str | pathlib.Path,
    image_size: tuple[int, int] | None,
    label_mode: str = "int",
    color_mode: str = "rgb",
    class_names: Sequence[str] | None = None,
    interpolation: str = "bilinear",
) -> tuple[tuple[np.ndarray, np.ndarray], Callable[[Any, Any], tuple]]:
    """Returns the images in a directory as paths, and the function that reads one.

    Args:
        directory: folder with a folder of images per class.
        image_size: (height, width) in pixels, to which images are resized; None leaves them
            as they are, for a function that crops them.
        label_mode: "int" for class numbers, "categorical" for one-hot, "binary" for 0 and 1.
        color_mode: "grayscale", "rgb" or "rgba".
        class_names: None for the folders in alphabetical order, or their names in order.
        interpolation: str, method of `tf.image.resize`.

    Returns:
        (paths, labels), arrays of strings (files,) and of labels, files first; and a function
        (path, label) -> (image, label), image float32 (height, width, channels) in [0, 255];
        uint8 if not resized.

    Raises:
        ValueError: if there are no images, or on arguments that Keras does not know.

    Source: `keras.utils.image_dataset_from_directory`, whose files, labels and pixels these are.
    """
    if label_mode not in ("int", "categorical", "binary"):
        raise ValueError(
            f"`label_mode` must be 'int', 'categorical' or 'binary'. Received: {label_mode!r}"
        )
    listing = keras.utils.image_dataset_from_directory(
        directory,
        label_mode=label_mode,
        color_mode=color_mode,
        class_names=class_names,
        image_size=image_size or (1, 1),
        interpolation=interpolation,
        batch_size=None,
        shuffle=False,
        verbose=False,
    )
    numbers = {name: number for number, name in enumerate(listing.class_names)}
    files = [pathlib.Path(path).relative_to(directory) for path in listing.file_paths]
    classes = [numbers[file.parts[0]] for file in files]
    labels = np.asarray(classes, "int32")
    if label_mode == "categorical":
        labels = np.eye(len(numbers), dtype="float32")[labels]
    if label_mode == "binary":
        labels = labels[:, np.newaxis].astype("float32")

    def read(path: Any, label: Any) -> tuple:
        channels = _CHANNELS[color_mode]
        image = tf.io.decode_image(tf.io.read_file(path), channels, expand_animations=False)
        if image_size is not None:
            image = tf.image.resize(image, image_size, method=interpolation)
        image.set_shape((*(image_size or (None, None)), channels))
        return image, label

    # As bytes: NumPy takes four for each character of text.
    return (np.asarray(listing.file_paths, "S"), labels), read
