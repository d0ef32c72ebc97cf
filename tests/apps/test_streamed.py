"""Images that stay in their files: the same as in arrays, and whole runs of the app."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from apps import datasets, images, training
from apps.config import RunConfig
from apps.streamed import Streamed
from spfde_keras import DataSieve
from tests import images as made

SHORT = {"dataset": made.NAME, "epochs": 4, "interval": 1, "batch_size": 32, "model": "mlp"}
SHORT |= {"width": 0.25, "image_size": 8}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    made.write(folder)
    return str(folder)


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    """Images that are all of 16 pixels, and so fit into arrays as well."""
    folder = tmp_path_factory.mktemp("squares")
    made.write(folder, train=60, test=9, per_file=25, same=16)
    return str(folder)


def decoded(number, *size):
    return tf.io.decode_jpeg(made.jpeg(number, *size)).numpy()


def run(folder, **options):
    return training.prepare(RunConfig(data_dir=folder, **(SHORT | options)))


def test_images_of_different_sizes_stay_in_their_files(folder):
    dataset = datasets.load(made.NAME, folder)
    assert isinstance(dataset, Streamed)
    assert (dataset.train_samples, dataset.test_samples, dataset.classes) == (100, 20, 4)
    assert dataset.input_shape == (224, 224, 3)
    small = datasets.load(made.NAME, folder, limit=40, image_size=12)
    assert (small.train_samples, small.input_shape) == (40, (12, 12, 3))


def test_what_fits_is_held_in_arrays_and_what_does_not_is_not(squares, monkeypatch):
    arrays = datasets.load(made.NAME, squares)
    assert isinstance(arrays, datasets.Dataset)
    monkeypatch.setattr(datasets, "_MOST_BYTES", 69 * 16 * 16 * 3 - 1)
    streamed = datasets.load(made.NAME, squares)
    assert isinstance(streamed, Streamed) and streamed.input_shape == (16, 16, 3)


def test_streamed_images_are_those_in_arrays(squares, monkeypatch):
    arrays = datasets.load(made.NAME, squares)
    monkeypatch.setattr(datasets, "_MOST_BYTES", 0)
    streamed = datasets.load(made.NAME, squares)
    scaled = [
        np.concatenate([x for x, _ in d.tests()]) * d.std + d.mean for d in (arrays, streamed)
    ]
    np.testing.assert_allclose(*scaled, atol=1e-3)
    np.testing.assert_allclose(scaled[0][0], decoded(10_000, 16, 16), atol=1e-3)
    labels = [np.concatenate([y for _, y in d.tests()]) for d in (arrays, streamed)]
    np.testing.assert_array_equal(*labels)
    some = [np.concatenate([x for x, _ in d.tests(4)]) * d.std + d.mean for d in (arrays, streamed)]
    assert len(some[0]) == 3
    np.testing.assert_allclose(*some, atol=1e-3)
    typical = [d.typical(5) * d.std + d.mean for d in (arrays, streamed)]
    # TFDS reads several files at a time into arrays.
    np.testing.assert_allclose(typical[1][0], decoded(0, 16, 16), atol=1e-3)
    assert typical[0].shape == typical[1].shape == (5, 16, 16, 3)
    batches = {}
    for dataset in (arrays, streamed):
        sieve = DataSieve(dataset.samples, fraction=0.0)
        for x, y in dataset.batches(sieve, 25, augment=False, seed=0):
            for image, label in zip(x.inputs * dataset.std + dataset.mean, y, strict=True):
                key = tuple(np.rint(image).astype(int).ravel())
                assert batches.setdefault(key, int(label)) == int(label)
    assert len(batches) == 60


def test_crops_depend_on_sample_and_epoch_alone(folder):
    dataset = datasets.load(made.NAME, folder, image_size=8)

    def epoch(number, batch_size):
        sieve = DataSieve(dataset.samples, fraction=0.0)
        sieve.start_epoch(number)
        return {
            int(i): image
            for x, _ in dataset.batches(sieve, batch_size, augment=True, seed=0)
            for i, image in zip(x.sample_id, x.inputs.numpy(), strict=True)
        }

    first, again, later = epoch(0, 10), epoch(0, 33), epoch(1, 10)
    assert len(first) == 100
    for number, image in first.items():
        np.testing.assert_array_equal(image, again[number])
        assert np.abs(image - later[number]).max() > 0.1


@pytest.mark.parametrize("encode", [tf.io.encode_png, tf.io.encode_jpeg])
def test_random_crops_are_parts_of_the_image_mirrored_in_half_of_all_cases(encode):
    # Red ascends to the right, green downwards: a crop shows where it is from.
    ramp = np.linspace(0, 255, 64)
    image = np.stack([np.tile(ramp, (64, 1)), np.tile(ramp[:, None], (1, 64)), np.zeros((64, 64))])
    file = encode(tf.constant(image.transpose(1, 2, 0).astype("uint8")))
    lefts, shares, mirrored = [], [], 0
    for seed in range(60):
        crop = images.random_crop(file, (8, 8), 3, tf.constant([0, seed]), True).numpy()
        red, green = crop[..., 0].mean(0), crop[..., 1].mean(1)
        assert (np.diff(green) >= -2).all()
        mirrored += red[0] > red[-1]
        lefts.append(min(red[0], red[-1]))
        shares.append(abs(red[-1] - red[0]) * (green[-1] - green[0]) / 223**2)
    assert 18 <= mirrored <= 42
    assert max(lefts) - min(lefts) > 80
    assert 0.05 < min(shares) < 0.35 and 0.7 < max(shares) <= 1.1
    plain = [images.random_crop(file, (8, 8), 3, tf.constant([0, s]), False) for s in range(10)]
    assert all(crop[0, 0, 0] <= crop[0, -1, 0] for crop in plain)


def test_testing_looks_at_the_middle():
    pixels = np.zeros((40, 64, 3), "uint8")
    pixels[:, 14:50] = 200  # wider than the square of 35 in the middle
    file = tf.io.encode_png(pixels)
    np.testing.assert_allclose(images.middle(file, (7, 7), 3, whole=False), 200)
    whole = images.middle(file, (7, 7), 3, whole=True)
    assert whole[0, 0, 0] == 0 and whole[3, 3, 0] == 200


@pytest.mark.parametrize(
    "options",
    [{"augment": True, "label_smoothing": 0.1}, {"method": "set", "sieve_policy": "one_time"}],
)
def test_the_app_trains_from_files(folder, tmp_path, no_export, options, capsys):
    found = training.train(run(folder, output_dir=str(tmp_path / "run"), **options))
    assert "images stay in their files, and are scaled by ImageNet's" in capsys.readouterr().out
    assert (found["train_samples"], found["test_samples"]) == (100, 20)
    assert 0 <= found["test_accuracy"] <= 1
    assert found["sparsity"] == pytest.approx(0.9, abs=0.01)
    saved = json.loads((tmp_path / "run" / "results.json").read_text())
    assert saved["config"]["image_size"] == 8


def test_a_run_exports_and_tests_its_file(folder, tmp_path):
    found = training.train(run(folder, output_dir=str(tmp_path / "run"), epochs=1, interval=None))
    assert found["tflite_test_accuracy"] == pytest.approx(found["test_accuracy"], abs=0.051)


class Killed(Exception):
    pass


def test_a_run_killed_in_an_epoch_goes_on_to_the_same_results(folder, tmp_path, no_export):
    options = {"augment": True, "method": "rigl", "sieve_fraction": 0.3}
    whole = training.train(run(folder, output_dir=str(tmp_path / "whole"), **options))
    killed = run(folder, output_dir=str(tmp_path / "killed"), **options)
    callback = keras.callbacks.Callback()
    steps = []

    def step(batch, logs=None):
        steps.append(batch)
        if len(steps) == 8:  # of three in an epoch
            raise Killed

    callback.on_train_batch_end = step
    killed.callbacks.callbacks.append(callback)
    with pytest.raises(Killed):
        training.train(killed)
    resumed = training.train(
        run(folder, output_dir=str(tmp_path / "killed"), resume=True, **options)
    )
    weights = [
        keras.models.load_model(tmp_path / name / "model.keras").get_weights()
        for name in ("whole", "killed")
    ]
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)
    assert resumed["test_loss"] == whole["test_loss"]


def test_digits_have_a_size_of_their_own():
    with pytest.raises(ValueError, match="`image_size` must be left out with digits"):
        datasets.load("digits", image_size=16)


def test_programs_that_need_arrays_refuse_what_stays_in_files(folder):
    with pytest.raises(ValueError, match="`dataset` must have images of one size here.*shapes"):
        datasets.load_arrays(made.NAME, folder)
