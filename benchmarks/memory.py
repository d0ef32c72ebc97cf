"""How much memory a part of a program takes at most (Linux)."""

import contextlib
import gc
from collections.abc import Iterator
from pathlib import Path

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Added:
    """Bytes that a part of a program has added, at its peak and after it."""

    peak = 0
    held = 0


def status(field: str) -> int:
    """Returns a size in bytes that Linux tells of this process, such as "VmRSS"."""
    return 1024 * int(_STATUS.read_text().split(f"{field}:")[1].split()[0])


@contextlib.contextmanager
def added() -> Iterator[Added]:
    """Measures the body's memory; it runs by itself, or others are counted, too.

    Example:

    >>> with added() as memory:
    ...     zeros = bytearray(2**26)
    >>> memory.peak >= 2**26
    True
    """
    memory = Added()
    gc.collect()
    _RESET.write_text("5")  # the largest resident size starts over
    before = status("VmRSS")
    yield memory
    memory.peak = status("VmHWM") - before
    gc.collect()
    memory.held = status("VmRSS") - before
