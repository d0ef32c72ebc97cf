"""The last states of a run on disk, each there as a whole or not at all."""

import os
from collections.abc import Callable
from pathlib import Path

from spfde_keras.files import flush
from spfde_keras.resume.folder import OwnFolder, remove

KEPT = 2
"""How many states are kept: the last one, and one to go back to if it is damaged."""

_EPOCH = "epoch-"
_WRITING, _REMOVING = "writing", "removing"


class States(OwnFolder):
    """A folder with the states after the last epochs, each a folder such as `epoch-0007`.

    A state is written under another name and becomes visible in one rename; one that is not
    needed any more is renamed first, then removed. So whenever a process is killed, each
    `epoch-...` is complete.

    Args:
        path: the folder.
        argument: str, what messages call it.

    Example:

    >>> states = States("states")
    >>> states.open()
    >>> for epoch in (1, 2, 3):
    ...     states.write(epoch, lambda path: (path / "weights").write_text("..."))
    >>> states.epochs()
    [3, 2]
    """

    def __init__(self, path: str | os.PathLike, argument: str = "folder"):
        super().__init__(path, f"{_EPOCH}[0-9]+|{_WRITING}|{_REMOVING}", argument)

    def epochs(self) -> list[int]:
        """Returns the epochs of which there is a state, the last one first."""
        if not self.path.is_dir():
            return []
        names = (path.name for path in self.path.iterdir())
        return sorted((int(n[len(_EPOCH) :]) for n in names if n.startswith(_EPOCH)), reverse=True)

    def of(self, epoch: int) -> Path:
        """Returns the folder of the state after so many epochs."""
        return self.path / f"{_EPOCH}{epoch:04}"

    def write(self, epoch: int, save: Callable[[Path], object]) -> None:
        """Writes a state, then removes those that are not needed any more.

        Args:
            epoch: int, epochs completed.
            save: function that writes the files of the state into the folder it is given.

        Raises:
            OSError: it cannot be written; those before are as they were.
        """
        writing, removing = self.path / _WRITING, self.path / _REMOVING
        for left_over in (writing, removing):
            remove(left_over)
        try:
            writing.mkdir()
            save(writing)
            for path in writing.iterdir():
                flush(path)
            flush(writing)
        except BaseException:
            remove(writing)  # so that a full disk is less full
            raise
        if self.of(epoch).exists():  # damaged, or the run would not be here again
            os.rename(self.of(epoch), removing)
        os.rename(writing, self.of(epoch))
        flush(self.path)
        remove(removing)
        # Those after it are damaged, too.
        before = [other for other in self.epochs() if other < epoch]
        for other in self.epochs():
            if other not in (epoch, *before[: KEPT - 1]):
                os.rename(self.of(other), removing)
                remove(removing)
