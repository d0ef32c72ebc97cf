"""How programs end when something is wrong: one line on stderr, and a status."""

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator

FAILED, MISUSED, STOPPED = 1, 2, 75
"""Exit statuses: the program cannot do its work, what it was given is not right, or it was told to
stop and can be started again (EX_TEMPFAIL, as schedulers know it)."""


class Stopped(BaseException):
    """The process was told to stop. No error: what handles those must let it pass."""


@contextlib.contextmanager
def stoppable(then: str) -> Iterator[None]:
    """Raises `Stopped` where SIGTERM comes in, instead of ending the process without a word.

    Args:
        then: what can be done then.
    """

    def stop(*_: object) -> None:
        raise Stopped(f"told to stop by SIGTERM; {then}")

    # Python handles signals in its main thread alone.
    handles = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, stop) if handles else None
    try:
        yield
    finally:
        if handles:
            signal.signal(signal.SIGTERM, before)


def report(error: BaseException) -> int:
    """Prints an error after `error: `, and returns the exit status that belongs to it.

    A `ValueError` is about flags, their values and the files they name, all others are not.
    Where nobody reads the output any more, as behind `| head`, there is nothing to say.
    """
    if isinstance(error, Stopped):
        print("stopped:", error, file=sys.stderr)
        return STOPPED
    if not (isinstance(error, BrokenPipeError) and _output_is_closed()):
        print("error:", on_one_line(error), file=sys.stderr)
    return MISUSED if isinstance(error, ValueError) else FAILED


def on_one_line(message: object) -> str:
    """Returns a message on one line; each item of a list, `- item`, has a line of its own.

    Example:

    >>> on_one_line("not\\n  good")
    'not good'
    """
    said = ""
    for line in str(message).splitlines():
        said += ("\n" if line.startswith("- ") else " ") + " ".join(line.split())
    return said.strip()


def _output_is_closed() -> bool:
    """Whether the other end of the pipe on stdout is; if so, nothing more is written to it."""
    out = select.poll()
    out.register(sys.stdout.fileno(), 0)
    closed = any(state & select.POLLERR for _, state in out.poll(0))
    if closed:
        # Python flushes once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return closed
