"""How programs end when something is wrong: one line on stderr, and a status."""

import sys

FAILED, MISUSED = 1, 2
"""Exit statuses: something a program needs is not right, or its command line is not."""


class UsageError(ValueError):
    """A command line that cannot be understood."""


def report(error: Exception) -> int:
    """Prints one line, `error: ...`, and returns the exit status that belongs to it."""
    print("error:", " ".join(str(error).split()), file=sys.stderr)
    return MISUSED if isinstance(error, UsageError) else FAILED
