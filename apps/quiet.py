"""Keeps TensorFlow's log off the console, whenever it is imported and by whom.

`import apps` does so. An error of a program is then the only line on stderr, and a program that
does without TensorFlow does not wait for it.
"""

import functools
import importlib.abc
import importlib.machinery
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def _silenced(execute: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
    """While it is imported, TensorFlow logs to file 2 whatever its log level."""

    @functools.wraps(execute)
    def silently(module: ModuleType) -> None:
        console = os.dup(2)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        try:
            execute(module)
        finally:
            os.dup2(console, 2)
            os.close(console)
            os.close(nowhere)

    return silently


class _Quietly(importlib.abc.MetaPathFinder):
    """Finds TensorFlow as Python does, and has it imported without its log."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "tensorflow":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = _silenced(spec.loader.exec_module)  # type: ignore
        return spec


sys.meta_path.insert(0, _Quietly())
