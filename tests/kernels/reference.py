"""Convolutions in NumPy and double precision: what the kernels are compared with."""

import numpy as np


def padding(size: int, kernel: int, stride: int, name: str) -> tuple[int, int]:
    """Pixels before and after, by the rule TensorFlow documents."""
    if name == "valid":
        return 0, 0
    left = size % stride or stride
    total = max(kernel - left, 0)
    return total // 2, total - total // 2


def convolve(images, kernel, gradient, stride, pads):
    """Returns outputs, and the gradients of images and kernel for a `gradient` of the outputs.

    `gradient` is a function of the outputs' shape, or an array; `pads` are the pixels in front and
    behind, of rows and of columns.
    """
    images, kernel = np.float64(images), np.float64(kernel)
    rows, columns, inputs, outputs = kernel.shape
    padded = np.pad(images, [(0, 0), *pads, (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (rows, columns), axis=(1, 2))
    windows = np.moveaxis(windows[:, ::stride, ::stride], 3, 5)
    matrix = windows.reshape(-1, rows * columns * inputs)
    result = (matrix @ kernel.reshape(-1, outputs)).reshape(*windows.shape[:3], outputs)
    gradient = np.float64(gradient(result.shape) if callable(gradient) else gradient)
    of_kernel = (matrix.T @ gradient.reshape(-1, outputs)).reshape(kernel.shape)
    of_padded = np.zeros_like(padded)
    height, width = result.shape[1] * stride, result.shape[2] * stride
    for y in range(rows):
        for x in range(columns):
            seen = of_padded[:, y : y + height : stride, x : x + width : stride]
            seen += gradient @ kernel[y, x].T
    (top, _), (left, _) = pads
    of_images = of_padded[:, top : top + images.shape[1], left : left + images.shape[2]]
    return result, of_images, of_kernel


def error(found, expected) -> float:
    """The largest difference, as a share of the largest value."""
    found, expected = np.float64(found), np.float64(expected)
    assert found.shape == expected.shape
    scale = np.abs(expected).max(initial=0)
    return np.abs(found - expected).max(initial=0) / (scale or 1)
