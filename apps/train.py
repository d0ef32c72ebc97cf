"""Trains a model sparse, freezing and sieving, and exports it to TFLite.

    spfde train [--flag=value ...] [--flagfile=FILE]

Without flags: SpFDE on the handwritten digits at 90 % sparsity, a fifth of the training FLOPs
saved by freezing and a fifth of the samples left out at a time. `--help` lists the flags;
`--flagfile` reads them from a file, one per line. SIGTERM ends a run with status 75: `--resume`
continues it, as it does after a crash.
"""

import errno
import sys
from collections.abc import Sequence

from . import program
from .config import RunConfig
from .errors import stoppable

_FULL = (errno.ENOSPC, errno.EDQUOT)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program.

    Args:
        arguments: command line flags, without the program's name; by default this process's.

    Returns:
        The exit status, as of `program.run`.
    """
    return program.run(_train, RunConfig, __doc__, arguments)


def _train(config: RunConfig) -> None:
    from . import finished, results, training  # with TensorFlow, for which `--help` need not wait

    folder = results.RunFolder(config)
    with stoppable(f"`--resume` goes on from the last whole epoch in {folder.path}"):
        try:
            found = folder.finished()
            if found is None:
                found = training.train(training.prepare(config))
        except OSError as error:
            if error.errno not in _FULL:
                raise
            raise OSError(
                f"The disk is full, or has no room for this user: make some, then `--resume` goes "
                f"on. Received: {folder.path} ({error.strerror})"
            ) from None
    print(finished.table(found))
    print(f"results in {folder.path}")


if __name__ == "__main__":
    sys.exit(main())
