"""Files of samples that cannot be read, by name."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from spfde_keras.sieve.mapping import takes_seed


@contextlib.contextmanager
def naming(damaged: Callable[[], str | None]) -> Iterator[None]:
    """Makes an error of reading samples one of a line that names the file.

    TensorFlow does not say which one it was reading, so all are read again.

    Args:
        damaged: function that names the first file that cannot be read, None if all can.

    Raises:
        ValueError: in place of an error of TensorFlow's.
    """
    try:
        yield
    except tf.errors.OpError as error:
        found = damaged() if "IteratorGetNext" in str(error) else None
        if found is None:
            raise
        raise ValueError(f"Files of samples must be whole. Received: {found}") from None


def first_failure(dataset: tf.data.Dataset, read: Callable[..., tuple] | None) -> int | None:
    """Returns the place of the first element that fails, or of which `read` does; None if none.

    Example:

    >>> numbers = tf.data.Dataset.from_tensor_slices(["0", "1", "two"])
    >>> first_failure(numbers, lambda text: (tf.strings.to_number(text), 0))
    2
    """

    def tried(*entries: Any) -> Any:
        assert read is not None
        return read(*entries, **({"seed": tf.zeros(2, tf.int64)} if takes_seed(read) else {}))

    done = 0
    try:
        if read is not None:
            dataset = dataset.map(tried, tf.data.AUTOTUNE, deterministic=True)
        for _ in dataset:
            done += 1
    except tf.errors.OpError:
        return done
    return None
