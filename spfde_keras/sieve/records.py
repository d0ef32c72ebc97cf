"""Records in files as samples of a `DataSieve`: TFRecord files, and what TFDS has prepared."""

import collections
import glob
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from spfde_keras import checks
from spfde_keras.sieve.sources import Part, Records, Source


def tfrecord_files(
    files: str | os.PathLike | Sequence[str | os.PathLike],
    read: Callable[[Any], tuple],
    counts: Sequence[int] | None = None,
) -> Source:
    """Returns the records of TFRecord files, as samples of a `DataSieve`.

    Files are read in an order that is shuffled in each epoch, several at a time, their records
    through a shuffle buffer. Only what is in training is parsed and decoded. A record's id is
    its place in all files, in the order given.

    Args:
        files: paths, or a pattern such as "data/train-*", whose files are taken by name.
        read: function of a record (a scalar string tensor) that returns (x, y) or
            (x, y, sample_weight). It is compiled. A parameter `seed` is given to it as to the
            `preprocess` of `DataSieve.batches`.
        counts: the number of records in each file; None counts them, which reads all files
            once.

    Returns:
        A `Source`, to be given to `DataSieve`.

    Raises:
        ValueError: if there are no files, or no records, or `counts` does not fit.

    Example:

    >>> with tf.io.TFRecordWriter("numbers.tfrecord") as writer:
    ...     for number in range(10):
    ...         writer.write(str(number).encode())
    >>> def read(record):
    ...     number = tf.strings.to_number(record)
    ...     return number, tf.cast(number, tf.int64) % 2
    >>> sieve = spfde_keras.DataSieve(tfrecord_files("numbers.tfrecord", read), fraction=0.2)
    >>> sieve.active, sieve.total
    (8, 10)
    """
    if isinstance(files, (str, os.PathLike)):
        paths = sorted(glob.glob(checks.path("files", files)))
    else:
        paths = checks.each(checks.path, "files", files, "a list of files, or a pattern of them")
    missing = [path for path in paths if not os.path.isfile(path)]
    if missing or not paths:
        raise ValueError(f"`files` must be files that are there. Received: {missing or files!r}")
    real = [os.path.realpath(path) for path in paths]
    twice = collections.Counter(real)
    again = sorted({path for path, where in zip(paths, real, strict=True) if twice[where] > 1})
    if again:
        raise ValueError(f"`files` must be different files. Received more than once: {again}")
    read = checks.function("read", read)
    if counts is None:
        counts = [_count(path) for path in paths]
    rule = f"a number of records for each of {len(paths)} files"
    counts = checks.each(checks.whole, "counts", counts, rule, least=0)
    if len(counts) != len(paths):
        checks.refuse("counts", rule, counts)
    if not sum(counts):
        raise ValueError(f"`files` must hold records. Received: {len(paths)} files without any")
    return Records([Part(path, n) for path, n in zip(paths, counts, strict=True)], read)


def tfds_split(
    builder: Any, split: str = "train", decoders: Mapping[str, Any] | None = None
) -> Source:
    """Returns a split that tensorflow-datasets has prepared, as samples of a `DataSieve`.

    As `tfrecord_files`: only what is in training is parsed and decoded.

    Args:
        builder: a `tfds.core.DatasetBuilder` whose data is prepared, as of `tfds.builder`; its
            data set has supervised keys, which make (x, y).
        split: name of the split, or a part of one: "train[:80%]".
        decoders: None, or by feature what decodes it, as of `tfds.load`. With
            `{"image": tfds.decode.SkipDecoding()}` x is the file of an image, which
            `preprocess` decodes, or crops while it decodes.

    Returns:
        A `Source`, to be given to `DataSieve`.

    Raises:
        ValueError: if the split is not there, not in TFRecord files, or not supervised.

    Example: see the guide to sieving.
    """
    if not hasattr(builder, "info"):
        checks.refuse("builder", "a data set builder of tensorflow-datasets", builder)
    split = checks.path("split", split, "the name of a split")
    info = builder.info
    keys = info.supervised_keys
    if not keys or len(keys) not in (2, 3):
        raise ValueError(
            f"`builder` must be of a data set with supervised keys. Received: {info.name} with "
            f"{keys}"
        )
    if not info.splits:
        raise ValueError(
            f"`builder` must be of a prepared data set. Received: {info.name}, of which nothing "
            f"is in {info.data_dir}"
        )
    kind = str(getattr(info.file_format, "value", info.file_format))
    if kind != "tfrecord":
        raise ValueError(
            "`builder` must have its data in TFRecord files: prepare it with "
            f"file_format='tfrecord'. Received: {info.name} in {kind} files"
        )
    try:
        instructions = info.splits[split].file_instructions
    except (KeyError, ValueError, AssertionError) as error:
        raise ValueError(
            f"`split` must be one of {list(info.splits)}, or a part of it. Received: {split!r}"
        ) from error

    def read(record: Any) -> tuple:
        example = info.features.deserialize_example(record, decoders=decoders)
        return tuple(example[key] for key in keys)

    parts = [Part(str(one.filename), one.take, one.skip, one.takes_all) for one in instructions]
    return Records(parts, read)


def _count(path: str) -> int:
    blocks = tf.data.TFRecordDataset(path).batch(1024)
    try:
        total = blocks.reduce(tf.zeros((), tf.int64), lambda n, block: n + tf.size(block, tf.int64))
    except tf.errors.DataLossError:
        raise ValueError(f"`files` must be whole TFRecord files. Received: {path}") from None
    return int(total)
