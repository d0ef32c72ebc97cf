"""Data sets: the digits, what TFDS prepared, and what is refused."""

import types

import numpy as np
import pytest

from apps import datasets
from apps.datasets import Dataset


def toy(**changes):
    images = np.zeros((4, 8, 8, 1), "uint8")
    values = {
        "train_x": images,
        "train_y": np.array([0, 1, 2, 0]),
        "test_x": images[:2],
        "test_y": np.array([0, 1]),
        "classes": 3,
    }
    return Dataset("toy", **(values | changes))


def test_digits_are_split_by_class(digits):
    assert digits.train_x.shape == (1437, 8, 8, 1)
    assert digits.test_x.shape == (360, 8, 8, 1)
    assert (digits.input_shape, digits.classes) == ((8, 8, 1), 10)
    train, test = np.bincount(digits.train_y), np.bincount(digits.test_y)
    np.testing.assert_allclose(test / (train + test), 0.2, atol=0.005)


def test_digits_split_depends_on_the_seed_alone(digits):
    np.testing.assert_array_equal(datasets.load("digits").train_x, digits.train_x)
    assert (datasets.load("digits", seed=1).train_y != digits.train_y).any()


def test_normalized_images_have_mean_0_and_deviation_1(digits):
    images = np.asarray(digits.normalize(digits.train_x))
    assert images.dtype == np.float32
    assert images.mean() == pytest.approx(0, abs=1e-4)
    assert images.std() == pytest.approx(1, abs=1e-4)


def test_normalize_by_hand_and_a_constant_channel_is_only_shifted():
    images = np.stack([np.full((2, 2), 7), [[0, 2], [4, 6]]], axis=-1)[None].astype("uint8")
    labels = np.array([0])
    dataset = Dataset("toy", images, labels, images, labels, classes=1)
    normalized = np.asarray(dataset.normalize(images))
    np.testing.assert_array_equal(normalized[..., 0], 0)
    np.testing.assert_allclose(
        normalized[0, :, :, 1], np.array([[-3, -1], [1, 3]]) / np.sqrt(5), rtol=1e-6
    )


def test_limit_takes_a_random_subset_of_training_only(digits):
    some = datasets.load("digits", limit=100)
    assert len(some.train_x) == len(some.train_y) == 100
    assert len(some.test_x) == 360
    pairs = {(x.tobytes(), y) for x, y in zip(digits.train_x, digits.train_y, strict=True)}
    assert all((x.tobytes(), y) in pairs for x, y in zip(some.train_x, some.train_y, strict=True))
    assert len(np.unique(some.train_y)) == 10


@pytest.mark.parametrize("limit", [0, -1, 1438])
def test_limit_must_be_in_range(limit):
    with pytest.raises(ValueError, match=r"`train_samples` must be in \[1, 1437\]"):
        datasets.load("digits", limit=limit)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_y": np.array([0, -1, 2, 0])}, r"train.*labels must be in \[0, 3\).*-1 to 2"),
        ({"test_y": np.array([0, 3])}, r"test.*labels must be in \[0, 3\).*0 to 3"),
        ({"test_y": np.array([0])}, r"labels must be \(2,\). Received: \(1,\)"),
        ({"test_x": np.zeros((0, 8, 8, 1))}, "at least one sample"),
        ({"test_x": np.zeros((2, 8, 9, 1))}, "images of both splits must be of one size"),
        ({"train_x": np.zeros((4, 8, 8))}, "images must be"),
    ],
)
def test_bad_data_is_refused_with_its_name(changes, message):
    with pytest.raises(ValueError, match=f"(?s)dataset `toy`.*{message}|{message}"):
        toy(**changes)


@pytest.mark.parametrize(
    ("name", "folder", "message"),
    [
        ("mnist", None, "`data_dir` must be given for dataset `mnist`"),
        ("mnist", "missing", "`data_dir` must be a folder. Received: .*missing"),
        ("mnist", ".", "`data_dir` must hold the prepared dataset `mnist`"),
        ("no_such_data", ".", "`dataset` must be digits or a name known.*no_such_data"),
    ],
)
def test_missing_data_is_named_in_one_line(tmp_path, name, folder, message):
    with pytest.raises(ValueError, match=message) as caught:
        datasets.load(name, folder and str(tmp_path / folder))
    assert "\n" not in str(caught.value)


@pytest.fixture
def prepared(monkeypatch, tmp_path):
    """Returns a function that stands in for a data set prepared in a folder, which it returns."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    def fake(numbers, label, shape=(8, 8, 3), unlabelled=""):
        def as_dataset(split, as_supervised, batch_size=None, **how):
            assert as_supervised and batch_size in (None, -1)
            count = splits[split].num_examples
            labels = tf.range(count, dtype=tf.int64) % 3
            labels = -tf.ones_like(labels) if split == unlabelled else labels
            samples = tf.zeros((count, *shape), tf.uint8), labels
            return samples if batch_size else tf.data.Dataset.from_tensor_slices(samples)

        splits = {name: types.SimpleNamespace(num_examples=n) for name, n in numbers.items()}
        features = {"image": tfds.features.Image(shape=shape), "label": label}
        info = types.SimpleNamespace(
            splits=splits, features=features, supervised_keys=("image", "label")
        )
        builder = types.SimpleNamespace(info=info, as_dataset=as_dataset)
        monkeypatch.setattr(tfds, "builder", lambda name, data_dir: builder)
        return str(tmp_path)

    return fake


def classes(count):
    import tensorflow_datasets as tfds

    return tfds.features.ClassLabel(num_classes=count)


@pytest.mark.parametrize("test_split", ["test", "validation"])
def test_prepared_data_is_loaded_as_arrays(prepared, test_split):
    folder = prepared({"train": 6, test_split: 3}, classes(3))
    dataset = datasets.load("toy", folder, limit=4)
    assert (dataset.train_x.shape, dataset.test_x.shape) == ((4, 8, 8, 3), (3, 8, 8, 3))
    assert isinstance(dataset.train_x, np.ndarray)
    assert dataset.train_x.dtype == np.uint8
    assert dataset.classes == 3


def test_unlabelled_samples_are_refused(prepared):
    with pytest.raises(ValueError, match=r"`toy`, split `train`: labels must be in \[0, 2\)"):
        datasets.load("toy", prepared({"train": 6, "test": 2}, classes(2)))


def test_a_test_split_is_needed(prepared):
    with pytest.raises(ValueError, match="split with labels. Received: toy with train"):
        datasets.load("toy", prepared({"train": 6}, classes(3)))


def test_a_test_split_without_labels_is_not_taken(prepared):
    """As that of ImageNet."""
    sizes = {"train": 6, "test": 3, "validation": 2}
    dataset = datasets.load("toy", prepared(sizes, classes(3), unlabelled="test"))
    assert len(dataset.test_x) == 2
    sizes.pop("validation")
    with pytest.raises(ValueError, match="split with labels. Received: toy with train, test$"):
        datasets.load("toy", prepared(sizes, classes(3), unlabelled="test"))


def test_labels_must_be_classes(prepared):
    import tensorflow_datasets as tfds

    with pytest.raises(ValueError, match="images with class labels. Received: toy"):
        datasets.load("toy", prepared({"train": 6, "test": 3}, tfds.features.Text()))
