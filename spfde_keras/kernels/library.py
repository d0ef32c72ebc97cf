"""Loads the compiled kernels, if they are there and fit, and says what is active and why."""

import dataclasses
import functools
import os
import platform
from types import ModuleType
from typing import Any

import tensorflow as tf

from spfde_keras.kernels.compilation import FOLDER, library_path

BUILD_COMMAND = "python -m spfde_keras.kernels.build"
MODES = ("auto", "sparse", "dense")


@dataclasses.dataclass(frozen=True)
class Status:
    """Whether sparse kernels are used, and why; print it.

    Args:
        active: bool.
        reason: str, why, or why not and what to do.
        mode: str, "auto" (each layer uses what is faster), "sparse" or "dense" (nothing is
            measured): the environment's SPFDE_KERNELS.
        library: str, the file in use; None if there is none.
        tensorflow: str, the version that runs.
    """

    active: bool
    reason: str
    mode: str
    library: str | None
    tensorflow: str

    def __str__(self) -> str:
        return f"sparse kernels {'on' if self.active else 'off'} ({self.mode}): {self.reason}"


def status() -> Status:
    """Says whether masked layers compute sparsely here, and why.

    Returns:
        A `Status`.

    Example:

    >>> status().mode in MODES
    True
    """
    mode = os.environ.get("SPFDE_KERNELS", "auto")
    if mode not in MODES:
        raise ValueError(f"SPFDE_KERNELS must be one of {', '.join(MODES)}. Received: {mode!r}")
    path, module, problem = _load()
    if mode == "dense":
        problem = "SPFDE_KERNELS is dense"
    elif module is not None and tf.config.list_logical_devices("GPU"):
        problem = "TensorFlow uses a GPU, for which there are no kernels"
    return Status(
        active=problem is None,
        reason=problem or f"{os.path.basename(path)} is loaded",
        mode=mode,
        library=path if module is not None else None,
        tensorflow=tf.__version__,
    )


@functools.cache
def tell_if_missing() -> None:
    """Prints one line, once in a process, where zeros are computed for want of a library."""
    now = status()
    if not now.active and now.mode != "dense" and not tf.config.list_logical_devices("GPU"):
        print(f"spfde_keras computes zeros, too, since sparse kernels are {now.reason}")


def operators() -> Any:
    """Returns the module of the operators.

    Raises:
        RuntimeError: if the kernels are not built, or cannot be loaded.
    """
    _, module, problem = _load()
    if module is None:
        raise RuntimeError(f"Sparse kernels are {problem}.")
    return module


@functools.cache
def _load() -> tuple[str, ModuleType | None, str | None]:
    """The path of the library, the loaded module and what is wrong; never compiles."""
    path = library_path(tf.__version__)
    if not path.is_file():
        others = sorted(file.name for file in FOLDER.glob(f"*-{platform.machine()}.so"))
        built = f"built are {', '.join(others)}" if others else "none are built"
        why = f"not built for TensorFlow {tf.__version__} on {platform.machine()} ({built})"
        return str(path), None, f"{why}; run `{BUILD_COMMAND}`"
    try:
        return str(path), tf.load_op_library(str(path)), None
    except (tf.errors.OpError, RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0]
        return str(path), None, f"{path.name} cannot be loaded ({reason}); run `{BUILD_COMMAND}`"
