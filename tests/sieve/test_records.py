"""Records in files: ids, order, what is read, and what is refused."""

import itertools
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

import spfde_keras
from spfde_keras.sieve import DataSieve, sizes, tfds_split, tfrecord_files
from tests import images
from tests.sieves import ids_of

COUNTS = (150, 0, 70, 200, 1)


def read(record):
    number = tf.strings.to_number(record, tf.int64)
    return tf.cast(number, tf.float32)[None], number % 2


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Files of several blocks, of one, and of none."""
    monkeypatch.setattr(sizes, "MOST_IN_BLOCK", 64)
    numbers = itertools.count()
    paths = [tmp_path / f"data-{index}" for index in range(len(COUNTS))]
    for path, count in zip(paths, COUNTS, strict=True):
        with tf.io.TFRecordWriter(str(path)) as writer:
            for _ in range(count):
                writer.write(str(next(numbers)).encode())
    return paths


@pytest.fixture(scope="module")
def builder(tmp_path_factory):
    return images.write(tmp_path_factory.mktemp("tfds"))


def all_ids(batches):
    return list(itertools.chain(*ids_of(batches)))


@pytest.mark.parametrize("shuffle", [True, False, 10])
@pytest.mark.parametrize("fraction", [0.0, 0.25])
def test_each_record_in_training_comes_once_with_its_id(files, fraction, shuffle):
    sieve = DataSieve(tfrecord_files(files, read), fraction=fraction)
    assert sieve.total == sum(COUNTS)
    for _ in range(2):
        found = []
        for x, y in sieve.batches(32, shuffle=shuffle):
            np.testing.assert_array_equal(x.inputs[:, 0], x.sample_id)
            np.testing.assert_array_equal(y, x.sample_id % 2)
            found += x.sample_id.numpy().tolist()
        assert sorted(found) == np.flatnonzero(sieve.member.numpy()).tolist()
        assert (found == sorted(found)) == (shuffle is False)


def test_the_order_mixes_files_and_depends_on_seed_and_epoch_alone(files):
    sieve = DataSieve(tfrecord_files(files, read), fraction=0.0)
    batches = sieve.batches(32)
    first, second = all_ids(batches), all_ids(batches)
    assert first != second
    of_file = np.digitize(first[:100], np.cumsum(COUNTS))
    assert len(set(of_file)) > 2
    again = DataSieve(tfrecord_files(str(files[0].parent / "data-*"), read, COUNTS), fraction=0.0)
    again.start_epoch(1)
    assert all_ids(again.batches(32)) == second
    starts = {all_ids(DataSieve(tfrecord_files(files, read), 0.0, seed=s).batches(32, shuffle=1))[0]
              for s in range(6)}  # fmt: skip
    assert len(starts) > 1


def test_only_records_in_training_are_parsed(files):
    seen = []

    def parse(record):
        tf.py_function(lambda record: seen.append(int(record.numpy())), [record], [])
        return read(record)

    sieve = DataSieve(tfrecord_files(files, parse), fraction=0.5)
    seen.clear()
    list(sieve.batches(50))
    assert sorted(seen) == np.flatnonzero(sieve.member.numpy()).tolist()


@pytest.mark.parametrize("wrong, found", [(149, "150"), (151, "150"), (64, "128")])
def test_a_file_of_another_number_of_records_is_named(files, wrong, found):
    counts = (wrong, *COUNTS[1:])
    sieve = DataSieve(tfrecord_files(files, read, counts), fraction=0.0)
    with pytest.raises(tf.errors.InvalidArgumentError, match="as many records as stated") as error:
        list(sieve.batches(32, shuffle=False))
    assert re.search(rf"\[{wrong}\] \[in\] \[{files[0]}\] \[Received:\] \[{found}\]",
                     error.value.message)  # fmt: skip


@pytest.mark.parametrize(
    "change, words",
    [
        ({"files": "nothing-*"}, "`files` must be files that are there. Received: 'nothing"),
        ({"files": ["nothing"]}, r"`files` must be files that are there. Received: \['nothing'\]"),
        ({"read": None}, "`read` must be a function. Received: None"),
        ({"counts": (1, 2)}, r"`counts` must be a number of records for each of 5 files.*\[1, 2\]"),
        ({"counts": (1, 2, 3, 4, -1)}, "`counts` must be"),
        ({"counts": (0,) * 5}, "`files` must hold records"),
    ],
)
def test_what_cannot_be_read_is_refused(files, change, words):
    with pytest.raises(ValueError, match=words):
        tfrecord_files(**({"files": files, "read": read} | change))


def in_order(builder, split):
    config = tfds.ReadConfig(interleave_cycle_length=1)
    return builder.as_dataset(split=split, as_supervised=True, read_config=config)


def resized(x, y):
    return tf.image.resize(x, (8, 8)), y


@pytest.mark.parametrize("split, numbers", [("train", range(100)), ("train[25:50]", range(25, 50))])
def test_a_prepared_split_is_what_tfds_reads(builder, split, numbers):
    sieve = DataSieve(tfds_split(builder, split), fraction=0.0)
    ((x, y),) = sieve.batches(100, resized, shuffle=False)
    expected = in_order(builder, split)
    ((images_, labels),) = expected.map(resized).batch(100)
    np.testing.assert_array_equal(x.inputs, images_)
    np.testing.assert_array_equal(y, labels)
    assert y.numpy().tolist() == [n % images.CLASSES for n in numbers]


def test_images_may_be_left_to_preprocess(builder):
    decoded = []

    def decode(image, label):
        assert image.dtype == tf.string
        tf.py_function(lambda: decoded.append(1), [], [])
        return resized(tf.io.decode_jpeg(image, channels=3), label)

    source = tfds_split(builder, decoders={"image": tfds.decode.SkipDecoding()})
    sieve = DataSieve(source, fraction=0.3)
    ((x, _),) = sieve.batches(100, decode)
    assert len(decoded) == 70 == len(x.inputs)


def test_training_from_files_equals_training_from_arrays(builder):
    def trained(sieve, preprocess):
        keras.backend.clear_session()  # kernels are drawn by their names
        keras.utils.set_random_seed(0)
        inputs = keras.Input((8, 8, 3))
        x = keras.layers.Dense(16, activation="relu")(keras.layers.Flatten()(inputs))
        x = keras.layers.Dense(16, activation="relu")(x)
        model = spfde_keras.sparsify(
            keras.Model(inputs, keras.layers.Dense(images.CLASSES)(x)), 0.5, dense="last"
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(1e-4), loss)
        model.fit(
            sieve.batches(16, preprocess, shuffle=False),
            epochs=4,
            verbose=0,
            shuffle=False,
            callbacks=[spfde_keras.SpFDE(updater="rigl", interval=1, sieve=sieve)],
        )
        return [*model.get_weights(), sieve.member.numpy(), sieve.forgets.numpy()]

    samples = in_order(builder, "train")
    ((x, y),) = samples.map(resized).batch(100).as_numpy_iterator()
    in_memory = trained(DataSieve((x, y), fraction=0.2), None)
    streamed = trained(DataSieve(tfds_split(builder), fraction=0.2), resized)
    for one, other in zip(in_memory, streamed, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"supervised_keys": None}, "must be of a data set with supervised keys. Received: shapes"),
        ({"splits": {}}, "must be of a prepared data set. Received: shapes"),
        ({"file_format": "array_record"}, "in TFRecord files.*Received: shapes in array_record"),
    ],
)
def test_other_builders_are_refused(builder, change, words):
    class Info:
        def __getattr__(self, name):
            return change[name] if name in change else getattr(builder.info, name)

    class Builder:
        info = Info()

    with pytest.raises(ValueError, match=words):
        tfds_split(Builder())


@pytest.mark.parametrize("split", ["validation", "train["])
def test_other_splits_are_refused(builder, split):
    with pytest.raises(ValueError, match=r"`split` must be one of \['train', 'test'\]"):
        tfds_split(builder, split)


def fit(sieve):
    model = spfde_keras.wrap(keras.Sequential([keras.Input((1,)), keras.layers.Dense(2)]))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(1e-4), loss)
    callbacks = [spfde_keras.SpFDE(sieve=sieve)]
    model.fit(sieve.batches(16), epochs=2, verbose=0, callbacks=callbacks)


@pytest.mark.parametrize("how", ["flipped", "cut"])
def test_a_damaged_file_is_named(files, how):
    content = bytearray(files[2].read_bytes())
    record = len(content) // 70
    content[50 * record + 14] ^= 4
    files[2].write_bytes(content if how == "flipped" else content[: 50 * record + 14])
    with pytest.raises(ValueError, match=f"`files` must be whole TFRecord .*: {files[2]}$"):
        tfrecord_files(files, read)
    with pytest.raises(ValueError, match=f"must be whole. Received: {files[2]}, record 50 counted"):
        fit(DataSieve(tfrecord_files(files, read, COUNTS), fraction=0))


def test_a_file_damaged_later_and_a_record_that_is_not_read_are_named(files):
    def read_once(record, seed):
        number = tf.strings.to_number(record, tf.int64) + tf.cast(seed[0], tf.int64) * 0
        with tf.control_dependencies([tf.debugging.Assert(number != 333, ["no"])]):
            return tf.cast(number, tf.float32)[None], number % 2

    correct = keras.metrics.sparse_categorical_accuracy
    sieve = DataSieve(tfrecord_files(files, read_once), fraction=0, correct=correct)
    with pytest.raises(ValueError, match=f"Received: {files[3]}, record 113 counted from 0$"):
        fit(sieve)
    files[4].write_bytes(files[4].read_bytes()[:-2])
    sieve = DataSieve(tfrecord_files(files[:3] + files[4:], read, [150, 0, 70, 1]), correct=correct)
    with pytest.raises(ValueError, match=f"Received: {files[4]}, record 0 counted from 0$"):
        fit(sieve)


def test_a_file_is_listed_once(files):
    (files[0].parent / "link").symlink_to(files[0])
    with pytest.raises(ValueError, match="must be different files. Received more than .*data-0"):
        tfrecord_files([files[0], files[2], files[0].parent / "link"], read)
