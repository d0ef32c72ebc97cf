"""A folder that a run may write to, and remove, since nothing in it is anybody else's."""

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from spfde_keras import checks

MARK = "spfde.lock"
"""The file that marks a folder as a run's; the run that works in it holds a lock on it."""

_TAKEN = (errno.EACCES, errno.EAGAIN)


class OwnFolder:
    """A folder of one run: marked as such, and locked while a process works in it.

    The kernel gives the lock back when the process ends, however it ends.

    Args:
        path: the folder. It need not be there.
        names: regular expression, the names of the files and folders that a run makes in it.
        argument: str, what messages call the folder.

    Example:

    >>> folder = OwnFolder("runs/example/states", "epoch-[0-9]+")
    >>> folder.check()
    >>> folder.open()
    >>> [path.name for path in Path("runs/example/states").iterdir()]
    ['spfde.lock']
    >>> folder.remove()
    >>> folder.path.exists()
    False
    """

    def __init__(self, path: str | os.PathLike, names: str, argument: str = "folder"):
        self.path = Path(checks.path(argument, path, "the path of a folder"))
        self._names = re.compile(f"(?:{names})|{re.escape(MARK)}")
        self._argument = argument
        self._lock: int | None = None

    @property
    def is_marked(self) -> bool:
        """Whether a run has made it."""
        return (self.path / MARK).is_file()

    def check(self) -> None:
        """Checks that the folder may be written and removed, without changing anything.

        Raises:
            ValueError: something in it is not of a run, or another process works in it.
        """
        if not os.path.lexists(self.path):
            return
        if not self.path.is_dir():
            raise ValueError(f"`{self._argument}` must be a folder. Received: {self.path}")
        others = sorted(path.name for path in self.path.iterdir() if not self._is_ours(path.name))
        if others or not (self.is_marked or self._is_empty()):
            found = others[0] if others else next(self.path.iterdir()).name
            raise ValueError(
                f"`{self._argument}` must be empty, missing, or hold nothing but what an earlier "
                f"run has left, since its files are replaced. Received: {self.path}, which holds "
                f"{found!r}"
                + ("" if others else f" without {MARK!r}, by which a run marks what is its own")
            )
        if self.is_marked:
            self._acquire()

    def open(self) -> None:
        """Makes the folder, marks it, and keeps other processes out of it until `close`.

        Raises:
            ValueError: as `check`, or it cannot be written.
        """
        self.check()
        with self._writable():
            self.path.mkdir(parents=True, exist_ok=True)
        self._acquire()

    def close(self) -> None:
        """Lets other processes in."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def clear(self) -> None:
        """Removes what a run has left in it, not the folder."""
        for path in list(self.path.iterdir()):
            if path.name != MARK and self._is_ours(path.name):
                remove(path)

    def remove(self) -> None:
        """Removes what a run has left in it, and the folder unless something else is there."""
        self.clear()
        (self.path / MARK).unlink(missing_ok=True)
        self.close()
        if self._is_empty() and not self.path.is_symlink():
            self.path.rmdir()

    def _is_empty(self) -> bool:
        return not any(self.path.iterdir())

    def _is_ours(self, name: str) -> bool:
        return self._names.fullmatch(name) is not None

    @contextlib.contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ValueError(
                f"`{self._argument}` must be a folder that can be written. "
                f"Received: {self.path} ({error.strerror})"
            ) from None

    def _acquire(self) -> None:
        import fcntl  # which Windows does not have

        while self._lock is None:
            with self._writable():
                lock = os.open(self.path / MARK, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                # Of the process: a child that outlives it must not keep the next run out.
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # The run before may have removed the file in between.
                there = os.stat(self.path / MARK)
                self._lock = lock if os.path.samestat(os.fstat(lock), there) else None
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno not in _TAKEN:
                    raise
                raise ValueError(
                    f"`{self._argument}` must be of one run at a time. Received: {self.path}, in "
                    "which another one is at work"
                ) from None
            finally:
                if self._lock is None:
                    os.close(lock)


def remove(path: Path) -> None:
    """Removes a file, or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
