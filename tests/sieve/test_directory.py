"""Images in folders, against what Keras makes of them."""

import pathlib
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import spfde_keras
from spfde_keras.sieve.data_sieve import DataSieve


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("dogs", "cats"):
        (tmp_path / name / "more").mkdir(parents=True)
        for file in ("0.png", "1.png", "more/2.png"):
            keras.utils.save_img(tmp_path / name / file, rng.uniform(0, 255, (5, 7, 3)))
    return tmp_path


def read(sieve, **arguments):
    (batch,) = sieve.batches(sieve.total, shuffle=False, **arguments)
    return batch


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"label_mode": "categorical", "color_mode": "grayscale"},
        {"label_mode": "binary", "class_names": ["dogs", "cats"], "interpolation": "nearest"},
    ],
)
def test_files_labels_and_pixels_are_those_of_keras(folder, arguments):
    arguments = {"image_size": (4, 6)} | arguments
    x, y = read(DataSieve.from_directory(folder, fraction=0.0, **arguments))
    keras_data = keras.utils.image_dataset_from_directory(
        folder, shuffle=False, batch_size=6, verbose=False, **arguments
    )
    ((images, labels),) = keras_data
    np.testing.assert_array_equal(x.inputs, images)
    np.testing.assert_array_equal(y, labels)
    assert y.dtype == labels.dtype and x.inputs.shape[1:] == images.shape[1:]


def test_only_files_in_training_are_read(folder):
    sieve = DataSieve.from_directory(str(folder), image_size=(4, 6), fraction=0.5)
    files = sorted(folder.rglob("*.png"), key=lambda path: str(path.relative_to(folder)))
    for file, member in zip(files, sieve.member.numpy(), strict=True):
        if not member:
            file.unlink()
    (batch,) = sieve.batches(6, preprocess=lambda x, y: (x / 255, y))
    assert len(batch[1]) == 3 and 0 < float(np.max(batch[0].inputs)) <= 1


def test_keras_own_datasets_of_folders_can_be_sieved_too(folder):
    data = keras.utils.image_dataset_from_directory(folder, image_size=(4, 6), verbose=False)
    with pytest.raises(ValueError, match="must not be shuffled") as raised:
        DataSieve(data)
    code = re.search(r"DataSieve.from_directory\([^)]*\)", str(raised.value)).group()
    advised = eval(code, globals() | {"directory": folder, "image_size": (4, 6)})
    assert advised.total == 6
    data = keras.utils.image_dataset_from_directory(
        folder, image_size=(4, 6), verbose=False, shuffle=False, batch_size=2
    )
    sieve = DataSieve(data.unbatch(), 0.0, size=len(data.file_paths))
    own = DataSieve.from_directory(folder, image_size=(4, 6), fraction=0.0)
    np.testing.assert_array_equal(read(sieve)[0].inputs, read(own)[0].inputs)


def test_what_is_no_folder_of_images_is_refused(folder):
    with pytest.raises(ValueError, match="`label_mode` must be 'int', .* Received: 'best'"):
        DataSieve.from_directory(folder, label_mode="best")
    with pytest.raises(ValueError, match="No images found"):
        DataSieve.from_directory(pathlib.Path(folder) / "cats" / "more")


def test_images_can_be_left_as_large_as_they_are(folder):
    keras.utils.save_img(folder / "cats" / "large.png", np.full((9, 11, 3), 7.0), scale=False)
    sieve = DataSieve.from_directory(folder, image_size=None, fraction=0.0)
    x, _ = read(sieve, preprocess=lambda x, y: (tf.shape(x), y))
    assert sorted(map(tuple, x.inputs.numpy().tolist())) == [(5, 7, 3)] * 6 + [(9, 11, 3)]


@pytest.mark.parametrize("kept", [0, 40])
def test_a_damaged_image_is_named(folder, kept):
    broken = folder / "dogs" / "1.png"
    broken.write_bytes(broken.read_bytes()[:kept])
    layers = [keras.Input((5, 7, 3)), keras.layers.Flatten(), keras.layers.Dense(2)]
    model = spfde_keras.wrap(keras.Sequential(layers))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    sieve = DataSieve.from_directory(folder, (5, 7), fraction=0)
    with pytest.raises(ValueError, match=rf"must be whole. Received: {broken}, sample id \d$"):
        model.fit(sieve.batches(2), verbose=0, callbacks=[spfde_keras.SpFDE(sieve=sieve)])
