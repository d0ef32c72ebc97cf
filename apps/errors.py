"""How programs end when something is wrong: one line on stderr, and a status."""

import os
import select
import sys

FAILED, MISUSED = 1, 2
"""Exit statuses: something a program needs is not right, or its command line is not."""


class UsageError(ValueError):
    """A command line that cannot be understood."""


def report(error: Exception) -> int:
    """Prints one line, `error: ...`, and returns the exit status that belongs to it.

    Where nobody reads the output any more, as behind `| head`, there is nothing to say.
    """
    if not (isinstance(error, BrokenPipeError) and _output_is_closed()):
        print("error:", " ".join(str(error).split()), file=sys.stderr)
    return MISUSED if isinstance(error, UsageError) else FAILED


def _output_is_closed() -> bool:
    """Whether the other end of the pipe on stdout is; if so, nothing more is written to it."""
    out = select.poll()
    out.register(sys.stdout.fileno(), 0)
    closed = any(state & select.POLLERR for _, state in out.poll(0))
    if closed:
        # Python flushes once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return closed
