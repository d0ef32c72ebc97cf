"""Packages that only a part of the library needs: what to install where one is missing."""

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def extra(name: str) -> Iterator[None]:
    """A context for imports of packages that come with an extra of this one.

    Args:
        name: str, the extra: "export" or "apps".

    Raises:
        ModuleNotFoundError: a package is missing; the message says what to install.

    Example:

    >>> with extra("apps"):
    ...     import no_such_package
    Traceback (most recent call last):
    ModuleNotFoundError: no_such_package is not installed: pip install 'spfde-keras[apps]'
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error.name} is not installed: pip install 'spfde-keras[{name}]'", name=error.name
        ) from None
