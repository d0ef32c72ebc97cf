"""What each operator must return, in NumPy and double precision, or that it must refuse."""

import math

import numpy as np

from tests.kernels import reference


class Wrong(Exception):
    """Arguments that an operator must refuse."""


def require(right) -> None:
    if not right:
        raise Wrong


def convolve(arguments: dict) -> tuple:
    """Outputs and both gradients, with zeros for what the operator does not take."""
    a, mask = arguments, arguments["mask"]
    sizes = a["images"].shape if "images" in a else tuple(np.ravel(a["sizes"]))
    require(a["stride"] in (1, 2) and len(a["pad"]) == 4 and mask.ndim == len(sizes) == 4)
    pads = [tuple(a["pad"][:2]), tuple(a["pad"][2:])]
    require(mask.size and min(sizes[1:]) > 0 and sizes[0] >= 0 and sizes[3] == mask.shape[2])
    require(all(0 <= p < k for pair, k in zip(pads, mask.shape, strict=False) for p in pair))
    out = [(sizes[1 + i] + sum(pads[i]) - mask.shape[i]) // a["stride"] + 1 for i in range(2)]
    require(min(out) > 0)
    shape = (sizes[0], *out, mask.shape[3])
    gradient = a["gradient"] if "gradient" in a else np.zeros(shape, "float32")
    require(gradient.shape == shape)
    require("kernel" not in a or a["kernel"].shape == mask.shape)
    images = a["images"] if "images" in a else np.zeros(sizes, "float32")
    if a.get("normalization"):
        require(len(a["normalization"]) == 4)
        images = np.maximum(0, affine(images, *a["normalization"], a["epsilon"]))
    if a.get("derivation"):
        require(len(a["derivation"]) == 7)
        gradient = derive(gradient, *a["derivation"], a["passing"])
    kernel = np.where(mask, a.get("kernel", 0), 0)
    outputs, of_images, of_kernel = reference.convolve(images, kernel, gradient, a["stride"], pads)
    return outputs, of_images, np.where(mask, of_kernel, 0)


def affine(x, mean, variance, gamma, beta, epsilon: float) -> np.ndarray:
    require(x.ndim and x.shape[-1])
    for values in (mean, variance, gamma, beta):
        require(values.shape == x.shape[-1:])
    mean, variance, gamma, beta = map(np.float64, (mean, variance, gamma, beta))
    return (x - mean) / np.sqrt(variance + epsilon) * gamma + beta


def derive(
    gradient, x, mean, diff_scale, deviation_scale, diff_mean, scale, shift, passing: bool
) -> np.ndarray:
    require(gradient.ndim and gradient.shape[-1] and x.shape == gradient.shape)
    for values in (mean, diff_scale, deviation_scale, diff_mean, scale, shift):
        require(values.shape == x.shape[-1:])
    x = np.float64(x)
    if passing:
        gradient = passed(gradient, x * scale + shift)
    return (gradient - np.float64(diff_mean)) * diff_scale + (x - mean) * deviation_scale


def passed(gradient, y) -> np.ndarray:
    """NaN, which equals anything here, where rounding decides whether a gradient passes."""
    return np.where(np.abs(y) < 1e-5, np.nan, np.where(y > 0, np.float64(gradient), 0))


def moments(a: dict) -> tuple:
    x = np.float64(a["x"])
    require(x.ndim and x.shape[-1])
    rows = x.reshape(-1, x.shape[-1])
    return (rows.mean(axis=0), rows.var(axis=0)) if len(rows) else (None, None)


def settings(a: dict) -> list:
    return [a[name] for name in ("mean", "variance", "gamma", "beta", "epsilon")]


def normalize(a: dict) -> tuple:
    y = affine(a["x"], *settings(a))
    require(len(a["residual"]) <= int(a["relu"]))
    for residual in a["residual"]:
        require(residual.shape == y.shape)
        y = y + residual
    return (np.maximum(y, 0) if a["relu"] else y,)


def sums(a: dict) -> tuple:
    y = affine(a["x"], *settings(a))
    require(len(a["y"]) <= int(a["relu"]) and len(a["more"]) <= len(a["y"]))
    for values in (a["gradient"], *a["y"], *a["more"]):
        require(values.shape == y.shape)
    gradient = np.float64(a["gradient"])
    for more in a["more"]:
        gradient = gradient + more
    if a["y"]:
        gradient = np.where(a["y"][0] > 0, gradient, 0)
    elif a["relu"]:
        gradient = passed(gradient, y)
    axes = tuple(range(y.ndim - 1))
    of_beta = gradient.sum(axis=axes)
    products = (gradient * (a["x"] - np.float64(a["mean"]))).sum(axis=axes)
    inverse = 1 / np.sqrt(np.float64(a["variance"]) + a["epsilon"])
    scale = a["gamma"] * inverse
    share = 1 / (y.size // y.shape[-1]) if a["of_batch"] and y.size else 0
    deviation_scale = -scale * inverse**2 * products * share
    found = [products * inverse, of_beta, scale, deviation_scale, of_beta * share]
    found += [scale, a["beta"] - a["mean"] * scale]
    return (*found, *[gradient] * len(a["y"]))


_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def gelu(a: dict) -> tuple:
    x = np.float64(a["x"])
    return (x * 0.5 * _erfc(-x / math.sqrt(2)),)


def gelu_gradient(a: dict) -> tuple:
    require(a["gradient"].shape == a["x"].shape)
    x = np.float64(a["x"])
    density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    return (a["gradient"] * (0.5 * _erfc(-x / math.sqrt(2)) + x * density),)
