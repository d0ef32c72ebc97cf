"""Calls every operator with right and wrong arguments drawn at random; see test_fuzz.py.

python -m tests.kernels.fuzz LIBRARY SEED CASES

Each case is printed before it is run, so that whoever reads knows at which one a process ended.
"""

import contextlib
import itertools
import sys

import numpy as np
import tensorflow as tf

from tests.kernels import oracle, reference

TOLERANCE = 1e-4  # of the largest value; sums of both signs may nearly cancel
REFUSALS = (tf.errors.InvalidArgumentError, tf.errors.ResourceExhaustedError)
EXTREMES = [0, -1, 3, 900, -900, 10**6, -(10**6), 8_600_000, 2**27, 2**28, 2**30]
EXTREMES += [2**31 - 1, -(2**31), 2**31, 2**40, 1 - 2**63, 2**63 - 1]
HUGE = 2**20  # arrays, all of them empty, with such a dimension: refused or not, but no end


def normal(random, *shape) -> np.ndarray:
    return random.normal(size=shape).astype("float32")


def by_channel(random, channels: int, count: int) -> list[np.ndarray]:
    return list(normal(random, count, channels))


def normalization(random, channels: int) -> list[np.ndarray]:
    mean, variance, gamma, beta = by_channel(random, channels, 4)
    return [mean, variance**2, gamma, beta]


def draw_convolution(random, **wanted) -> dict:
    """Right arguments of a convolution, those that are `wanted`."""
    stride, kernel = int(random.integers(1, 3)), random.integers(1, 5, 2)
    wide = random.random() < 0.2  # pixels of a row may fill the lanes
    kernel[1] = 1 if wide else kernel[1]
    inputs, outputs = (int(n) for n in random.integers(1, 20, 2))
    # Sometimes padding that must be refused, though all else goes with it.
    low, more = (-2, 4) if random.random() < 0.2 else (0, 0)
    pad = [int(random.integers(low, k + more)) for k in kernel for _ in range(2)]
    least = [max(1, k - sum(pad[2 * i : 2 * i + 2])) for i, k in enumerate(kernel)]
    size = [int(random.integers(low, low + 8)) for low in least]
    size[1] += 60 * wide
    batch = int(random.integers(0, 4 if wide else 20))
    out = [
        (n + sum(pad[2 * i : 2 * i + 2]) - k) // stride + 1
        for i, (n, k) in enumerate(zip(size, kernel, strict=True))
    ]
    mask = random.random((*kernel, inputs, outputs)) < random.choice([0, 0.1, 0.5, 1])
    images, gradient = (batch, *size, inputs), (batch, *out, outputs)
    arguments = {
        "images": normal(random, *images),
        "sizes": np.array(images, "int32"),
        "kernel": np.where(mask, normal(random, *mask.shape), np.float32(np.nan)),
        "mask": mask,
        "gradient": normal(random, *gradient),
        "normalization": normalization(random, inputs) if random.random() < 0.3 else [],
        "derivation": [],
        "epsilon": 0.5,
        "passing": bool(random.integers(2)),
    }
    if random.random() < 0.3:
        derivation = [normal(random, *gradient), *by_channel(random, outputs, 6)]
        arguments["derivation"] = derivation
    asked = {name: arguments[name] for name in wanted["wanted"]}
    return asked | {"stride": stride, "pad": pad, "isa": ""}


def draw_rows(random) -> tuple:
    shape = [int(n) for n in random.integers(1, 12, random.integers(1, 5))]
    shape[0] = shape[0] * int(random.random() < 0.95) if len(shape) > 1 else shape[0]
    return tuple(shape)


def draw_moments(random) -> dict:
    return {"x": normal(random, *draw_rows(random)), "isa": ""}


def draw_normalize(random) -> dict:
    shape = draw_rows(random)
    names = ("mean", "variance", "gamma", "beta")
    residuals = int(random.integers(2))
    return {
        "x": normal(random, *shape),
        **dict(zip(names, normalization(random, shape[-1]), strict=True)),
        "residual": [normal(random, *shape)] * residuals,
        "epsilon": 0.5,
        "relu": bool(residuals or random.integers(2)),
        "of_batch": bool(random.integers(2)),
        "isa": "",
    }


def draw_sums(random) -> dict:
    arguments = draw_normalize(random)
    y = arguments.pop("residual")
    more = [normal(random, *arguments["x"].shape)] if y and random.integers(2) else []
    return {"gradient": normal(random, *arguments["x"].shape)} | arguments | {"y": y, "more": more}


def draw_derive(random) -> dict:
    shape = draw_rows(random)
    names = ("mean", "diff_scale", "deviation_scale", "diff_mean", "scale", "shift")
    return {
        "gradient": normal(random, *shape),
        "x": normal(random, *shape),
        **dict(zip(names, by_channel(random, shape[-1], 6), strict=True)),
        "passing": bool(random.integers(2)),
        "isa": "",
    }


def draw_gelu(random) -> dict:
    # Enough numbers that some are not close to 0.
    return {"x": normal(random, *draw_rows(random), 32), "isa": ""}


def draw_gelu_gradient(random) -> dict:
    shape = (*draw_rows(random), 32)
    return {"x": normal(random, *shape), "gradient": normal(random, *shape), "isa": ""}


_IMAGES, _GRADIENT = ("normalization", "epsilon"), ("derivation", "passing")


def convolution(wanted: tuple, returned: slice):
    """Draws and expects the results of an operator that computes some of a convolution."""
    return (
        lambda random: draw_convolution(random, wanted=wanted),
        lambda arguments: oracle.convolve(arguments)[returned],
    )


OPERATORS = {
    "spfde_moments": (draw_moments, oracle.moments),
    "spfde_normalize": (draw_normalize, oracle.normalize),
    "spfde_normalize_sums": (draw_sums, oracle.sums),
    "spfde_derive": (
        draw_derive,
        lambda a: (oracle.derive(**{name: value for name, value in a.items() if name != "isa"}),),
    ),
    "spfde_gelu": (draw_gelu, oracle.gelu),
    "spfde_gelu_gradient": (draw_gelu_gradient, oracle.gelu_gradient),
    "spfde_sparse_conv2d": convolution(("images", "kernel", "mask", *_IMAGES), slice(0, 1)),
    "spfde_sparse_conv2d_input_gradient": convolution(
        ("sizes", "kernel", "mask", "gradient", *_GRADIENT), slice(1, 2)
    ),
    "spfde_sparse_conv2d_kernel_gradient": convolution(
        ("images", "mask", "gradient", *_IMAGES, *_GRADIENT), slice(2, 3)
    ),
    "spfde_sparse_conv2d_gradients": convolution(
        ("images", "kernel", "mask", "gradient", *_IMAGES, *_GRADIENT), slice(1, 3)
    ),
}


def spoil(random, value):
    """Another value in an argument's place; it may be right, too."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return EXTREMES[random.integers(len(EXTREMES))]
    if isinstance(value, float):
        return value
    if isinstance(value, str):
        return str(random.choice(["", "avx512", "avx2", "sse2", "neon", "none", "\0"]))
    if isinstance(value, list):
        return spoil_list(random, value)
    if value.dtype == np.int32:
        changed = value.copy()
        changed[random.integers(len(value))] = random.choice(EXTREMES[:-5])
        return changed if random.random() < 0.8 else value[: random.integers(len(value))]
    return spoil_array(random, value)


def spoil_list(random, values: list) -> list:
    way = random.integers(4)
    if not values or way == 0:
        return values + (values[:1] or [np.ones(3, "float32")])
    at = int(random.integers(len(values)))
    if way == 1:
        return values[:at] + values[at + 1 :]
    changed = list(values)
    changed[at] = spoil(random, values[at])
    if way == 2 and isinstance(values[0], int):  # outputs as large as before
        changed[at ^ 1 if at ^ 1 < len(values) else at] = -changed[at]
    return changed


def spoil_array(random, value: np.ndarray) -> np.ndarray:
    way = random.integers(6)
    if way == 0 or value.ndim == 0:
        return value[None]
    if way == 1:
        return value.sum(axis=0, dtype=value.dtype)
    axis = int(random.integers(value.ndim))
    if way == 2:
        return np.repeat(value, 2, axis=axis)
    if way == 3:
        return np.take(value, range(value.shape[axis] - 1), axis=axis)
    shape = list(value.shape)
    shape[axis] = 0
    if way == 4 and value.ndim > 1:  # large in one dimension, but without values
        shape[(axis + 1) % value.ndim] = int(random.choice([2**20, 2**28, 2**31, 2**40]))
    return np.empty(shape, value.dtype)


def extents(arguments: dict):
    for value in arguments.values():
        for one in value if isinstance(value, list) else [value]:
            yield from np.shape(one)


def shown(arguments: dict) -> str:
    def short(value):
        if isinstance(value, list):
            return [short(one) for one in value]
        return value.shape if isinstance(value, np.ndarray) and value.dtype != np.int32 else value

    return ", ".join(f"{name}={short(value)}" for name, value in arguments.items())


def run_case(module, name: str, arguments: dict, isas: list[str]) -> None:
    """Runs an operator; asserts that it refuses what is wrong and computes what is right."""
    print(f"{name}({shown(arguments)})", flush=True)
    refused = arguments.pop("refused", False)
    huge, expected = max(extents(arguments), default=0) >= HUGE, None
    if not huge and not refused:
        with contextlib.suppress(oracle.Wrong), np.errstate(all="ignore"):
            oracle.require(arguments["isa"] in isas)
            expected = OPERATORS[name][1](arguments)
    try:
        found = getattr(module, name)(**arguments)
    except REFUSALS:
        assert expected is None, "refused, but right"
        return
    if huge and not refused:
        return
    assert expected is not None, "computed, but wrong"
    found = tf.nest.flatten(found)
    for values, exact in zip(found, expected, strict=True):
        if exact is None:
            continue
        compared = ~np.isnan(exact)
        assert values.shape == exact.shape
        error = reference.error(values.numpy()[compared], exact[compared])
        assert error < TOLERANCE, f"off by {error}"


def draw_case(random, name: str, share_wrong: float) -> dict:
    arguments = OPERATORS[name][0](random)
    if random.random() < share_wrong:
        spoiled = str(random.choice(list(arguments)))
        arguments[spoiled] = spoil(random, arguments[spoiled])
    return arguments


def known_cases():
    """Arguments that once ended the process, or had no end."""
    random = np.random.default_rng(0)
    images, kernel = normal(random, 2, 5, 6, 3), normal(random, 1, 1, 3, 4)
    for pad in [
        *(sign * size for size in (2**27, 2**28, 2**30, 2**31) for sign in (1, -1)),
        (900, -900, 900, -900),
        (10**6, -(10**6), 10**6, -(10**6)),
        (0, 0, -1, 1),
    ]:
        pad = list(pad) if isinstance(pad, tuple) else [pad] * 4
        for name in OPERATORS:
            if "sparse_conv2d" in name:
                yield name, convolution_arguments(name, images, kernel, pad)
    pad = [8_600_000] * 4
    yield (
        "spfde_sparse_conv2d",
        convolution_arguments(
            "spfde_sparse_conv2d", normal(random, 1, 1, 1, 64), normal(random, 1, 1, 64, 1), pad
        ),
    )
    # Offsets that 32 bits do not hold, and more of them than are worth their memory.
    for images, kernel in [
        (np.empty((0, 3, 2**28, 4), "float32"), normal(random, 1, 3, 4, 2)),
        (normal(random, 1, 25_000, 1, 1), normal(random, 25_000, 1, 1, 1)),
    ]:
        arguments = convolution_arguments("spfde_sparse_conv2d", images, kernel, [0] * 4)
        yield "spfde_sparse_conv2d", arguments | {"refused": True}


def convolution_arguments(name: str, images, kernel, pad: list[int]) -> dict:
    """Arguments of a convolution of stride 1; outputs are as large as images."""
    given = {
        "images": images,
        "sizes": np.array(images.shape, "int32"),
        "kernel": kernel,
        "mask": np.ones(kernel.shape, bool),
        "gradient": np.ones((*images.shape[:3], kernel.shape[3]), "float32"),
        "normalization": [],
        "derivation": [],
    }
    drawn = OPERATORS[name][0](np.random.default_rng(0))
    asked = {key: value for key, value in given.items() if key in drawn}
    return asked | {"stride": 1, "pad": pad, "isa": ""}


def main(library: str, seed: int, cases: int) -> None:
    module = tf.load_op_library(library)
    isas = [""]
    for isa in ("avx512", "avx2", "sse2", "neon"):
        try:
            module.spfde_moments(x=np.ones((1, 1), "float32"), isa=isa)
            isas.append(isa)
        except tf.errors.InvalidArgumentError:
            pass
    registered = {name for name in dir(module) if name.startswith("spfde_")}
    registered = {name for name in registered if not name.endswith("_eager_fallback")}
    assert registered == set(OPERATORS), registered ^ set(OPERATORS)
    for name, arguments in known_cases():
        run_case(module, name, arguments, isas)
    random = np.random.default_rng(seed)
    for name in itertools.islice(itertools.cycle(OPERATORS), cases):
        arguments = draw_case(random, name, share_wrong=0.6)
        run_case(module, name, arguments, isas)
    print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
