"""Measures, for each convolution, whether its zeros are worth skipping."""

import contextlib
import contextvars
import dataclasses
import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from spfde_keras import checks
from spfde_keras.contexts import holding
from spfde_keras.kernels.library import status
from spfde_keras.kernels.ops import sparse_conv2d

if TYPE_CHECKING:
    from spfde_keras.masking import Mask

# Of layers that are traced before these are known. Operators take any: only what is faster may not
# be what was chosen, since a net is traced once for all sizes.
DEFAULT_BATCH = 64
DEFAULT_SIZE = 32  # of images in each direction, of sequences in steps, or rows where dilated
_PADDINGS = ("valid", "same")
_HIGHEST_DENSITY = 0.6  # above, no shape was seen to gain
_ROUNDS = 5
_WORTH = 1.05  # what sparse has to gain, so that noise does not choose it

# By convolution, what skipping gains: what a run has chosen once, it chooses to its end.
_of_run: dict[str, float] = {}
_allowed = contextvars.ContextVar("spfde_keras.kernels.allowed", default=True)


@dataclasses.dataclass(frozen=True)
class Convolution:
    """What the time of a convolution depends on; a dense layer is one of 1x1 images.

    Args:
        batch, height, width, inputs, outputs: ints, of images and kernel.
        kernel: (rows, columns).
        stride: int.
        padding: "valid" or "same".
        density: float in [0, 1], the share of weights kept when training ends.
    """

    batch: int
    height: int
    width: int
    inputs: int
    outputs: int
    kernel: tuple[int, int]
    stride: int
    padding: str
    density: float

    @property
    def is_product(self) -> bool:
        """Whether it is that of a dense layer."""
        return (self.height, self.width, self.kernel) == (1, 1, (1, 1))


def convolution_of(
    sizes: Sequence[int | None],
    mask: "Mask",
    kernel: Sequence[int] = (1, 1),
    stride: int = 1,
    padding: str = "valid",
) -> Convolution:
    """Returns the convolution of images with a masked kernel.

    Args:
        sizes: (batch, height, width) of the images; None where a size is not known while tracing,
            which counts as `DEFAULT_BATCH` images, or as `DEFAULT_SIZE` pixels, or as many as the
            kernel needs.
        mask: the `Mask` of the kernel.
        kernel: (rows, columns).
        stride: int.
        padding: "valid" or "same".
    """
    rows, columns = _sizes("kernel", kernel, 2)
    _sizes("sizes", sizes, 3)
    if not hasattr(mask, "layout"):
        checks.refuse("mask", "the Mask of a kernel", mask)
    stride, padding = checks.whole("stride", stride), checks.one_of("padding", padding, _PADDINGS)
    batch, height, width = _assumed(sizes, least=(1, rows, columns))
    _, inputs, outputs = mask.layout.canonical_shape
    # As when training ends: what a layer chooses must not depend on when it was traced.
    density = 1 - float(np.mean([subnet.sparsity for subnet in mask.subnets]))
    return Convolution(
        batch, height, width, inputs, outputs, (rows, columns), stride, padding, density
    )


def convolution_of_sequences(
    sizes: Sequence[int | None],
    mask: "Mask",
    kernel: int,
    stride: int = 1,
    padding: str = "valid",
    dilation: int = 1,
) -> Convolution:
    """Returns the convolution of images that `sparse_conv1d` makes of that of sequences.

    Args:
        sizes: (batch, length); as in `convolution_of`, None where a size is not known.
        mask, kernel, stride, padding, dilation: as for `sparse_conv1d`.
    """
    batch, length = _sizes("sizes", sizes, 2)
    kernel, dilation = checks.whole("kernel", kernel), checks.whole("dilation", dilation)
    checks.one_of("padding", padding, (*_PADDINGS, "causal"))
    rows = None if length is None else -(-length // dilation)
    if padding == "causal":
        padding = "same"  # as many rows, elsewhere
    return convolution_of((batch, rows, dilation), mask, (kernel, 1), stride, padding)


def product_of(sizes: Sequence[int | None], mask: "Mask") -> Convolution:
    """Returns the product of vectors with a masked matrix, as a convolution of 1x1 images.

    Args:
        sizes: how many vectors there are, along each axis; as in `convolution_of`, None where a
            size is not known. The first one is the batch's.
        mask: the `Mask` of the matrix.
    """
    _sizes("sizes", sizes)
    batch = math.prod(_assumed(sizes, least=[1] * len(sizes)))
    return convolution_of((batch, 1, 1), mask)


def _sizes(name: str, sizes: Any, count: int | None = None) -> list[Any]:
    """Sizes, None where they are not known; of as many axes as `count` says."""
    rule = f"a list of {count or 'as many'} sizes{'' if count else ' as there are axes'}"
    found = checks.each(_size, name, sizes, rule)
    if len(found) != (count or max(1, len(found))):
        checks.refuse(name, rule, sizes)
    return found


def _size(name: str, size: Any) -> int | None:
    return checks.optional(checks.whole, name, size, least=0)


def _assumed(sizes: Sequence[int | None], least: Sequence[int]) -> list[int]:
    """Sizes, the first of which is a batch's, with what is assumed of those not known."""
    assumed = [DEFAULT_BATCH] + [DEFAULT_SIZE] * (len(sizes) - 1)
    every = zip(sizes, assumed, least, strict=True)
    return [max(other, low) if size is None else size for size, other, low in every]


@dataclasses.dataclass(frozen=True)
class Choice:
    """How a convolution is computed.

    Args:
        sparse: bool, whether its zeros are skipped.
        speedup: float, time of the dense one, both gradients included, over that of the sparse
            one; None if it was not measured.
        reason: str, why.
    """

    sparse: bool
    speedup: float | None
    reason: str

    def __str__(self) -> str:
        measured = "" if self.speedup is None else f" {self.speedup:.1f}x"
        return ("sparse" if self.sparse else "dense") + measured


@contextlib.contextmanager
def disabled() -> Iterator[None]:
    """Makes layers that are called, or traced, within compute densely.

    Example:

    >>> with disabled():
    ...     choose(Convolution(64, 8, 8, 64, 64, (3, 3), 1, "same", 0.1)).sparse
    False
    """
    with holding(_allowed, False):
        yield


def are_disabled() -> bool:
    """Returns whether this code runs within `disabled()`."""
    return not _allowed.get()


def are_used() -> bool:
    """Returns whether kernels take what they can: they are active, and not `disabled()`."""
    return not are_disabled() and status().active


def choose(convolution: Convolution) -> Choice:
    """Returns how to compute a convolution on this machine.

    The first time on a machine, both ways are timed, forward and backward. The environment's
    SPFDE_KERNELS_CACHE names the file that keeps the results; SPFDE_KERNELS=sparse or =dense
    decides without measuring.

    Args:
        convolution: its shape and density.

    Example:

    >>> choose(Convolution(64, 8, 8, 64, 64, (3, 3), 1, "same", density=0.9)).sparse
    False
    """
    checks.instance("convolution", convolution, Convolution, "a Convolution")
    if are_disabled():
        return Choice(False, None, "disabled")
    now = status()
    if not now.active:
        return Choice(False, None, now.reason)
    if convolution.stride not in (1, 2):
        return Choice(False, None, "strides above 2")
    if now.mode == "sparse":
        return Choice(True, None, "SPFDE_KERNELS is sparse")
    if convolution.density > _HIGHEST_DENSITY:
        return Choice(False, None, f"more than {_HIGHEST_DENSITY:.0%} of the weights are kept")
    return _measured(dataclasses.replace(convolution, density=round(convolution.density, 2)))


def choices() -> dict[str, float]:
    """Returns what was measured, or taken over, in this process: speedups by convolution."""
    return dict(_of_run)


def take_over(choices: Mapping[str, float]) -> None:
    """Has this process choose as the run did that it resumes, whatever is faster here and now.

    Args:
        choices: as of `choices()`, in that run.
    """
    _of_run.update(choices)


def forget() -> None:
    """Forgets the choices of this process, as a new one would."""
    _of_run.clear()


def _measured(convolution: Convolution) -> Choice:
    kind = "product " if convolution.is_product else ""
    shape = f"{kind}{dataclasses.astuple(convolution)}"
    if shape not in _of_run:
        _of_run[shape] = _measured_on_this_machine(convolution, shape)
    return Choice(_of_run[shape] >= _WORTH, _of_run[shape], "measured")


def _measured_on_this_machine(convolution: Convolution, shape: str) -> float:
    threads = tf.config.threading.get_intra_op_parallelism_threads() or os.cpu_count()
    key = f"{platform.node()} {threads} {tf.__version__} {shape}"
    known = _read()
    if key not in known:
        with tf.init_scope(), tf.device("CPU:0"):
            speedup = _speedup(convolution)
        known = _read() | {key: round(speedup, 2)}
        _write(known)
    return known[key]


def _file() -> Path:
    """Where measurements are kept, so that the next run here need not measure."""
    return Path(os.environ.get("SPFDE_KERNELS_CACHE") or "~/.cache/spfde_keras.json").expanduser()


def _read() -> dict[str, float]:
    try:
        known = dict(json.loads(_file().read_text()))
    except (OSError, ValueError, TypeError):  # there is none yet, or none that can be read
        return {}
    return {key: value for key, value in known.items() if isinstance(value, float)}


def _write(known: dict[str, float]) -> None:
    temporary = _file().with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):  # a home that cannot be written to costs time only
        _file().parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(known, indent=1))
        os.replace(temporary, _file())
    with contextlib.suppress(OSError):
        temporary.unlink()


def _speedup(convolution: Convolution) -> float:
    random = np.random.default_rng(0)
    c = convolution
    images = tf.constant(random.random((c.batch, c.height, c.width, c.inputs), "float32"))
    kept = random.random((*c.kernel, c.inputs, c.outputs)) < c.density
    kernel = tf.constant(random.random(kept.shape, "float32") * kept)
    mask = tf.constant(kept)

    def compute_densely() -> tf.Tensor:
        if not c.is_product:
            return tf.nn.conv2d(images, kernel, c.stride, c.padding.upper())
        # As layers do: TensorFlow is slow with 1x1 images.
        vectors = tf.reshape(images, (c.batch, c.inputs))
        return tf.matmul(vectors, tf.reshape(kernel, (c.inputs, c.outputs)))

    ways: dict[str, Callable[[], tf.Tensor]] = {
        "dense": compute_densely,
        "sparse": lambda: sparse_conv2d(images, kernel, mask, c.stride, c.padding),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(1 + _ROUNDS):
        for name, way in ways.items():
            start = time.perf_counter()
            with tf.GradientTape() as tape:
                tape.watch((images, kernel))
                outputs = way()
            tape.gradient(outputs, (images, kernel), output_gradients=outputs)
            seconds[name].append(time.perf_counter() - start)
    dense, sparse = (np.array(seconds[name][1:]) for name in ("dense", "sparse"))
    return float(np.median(dense / sparse))
