"""Files that are complete, or not there at all."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a path to write to, which replaces `path` when the block ends without an error.

    Args:
        path: the file to write. An older one stays as it is until the block ends.

    Yields:
        A path in the same folder, with the same suffix. After an error it is removed.

    Example:

    >>> with replacing("notes.txt") as beside:
    ...     _ = beside.write_text("whole")
    >>> Path("notes.txt").read_text()
    'whole'
    """
    path = Path(path)
    beside = path.with_name(f".{path.stem}-{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def flush(path: str | os.PathLike) -> None:
    """Waits until the content of a file, or the names in a folder, are on disk.

    Args:
        path: the file or folder.

    Example:

    >>> flush(".")
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
