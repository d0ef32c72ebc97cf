"""Neighbouring outputs and inputs at one kernel position are one unit."""

from typing import Any

import numpy as np

from spfde_keras import checks
from spfde_keras.layout import KernelLayout
from spfde_keras.schemes.base import DoesNotFit, Scheme, Shape, register, root, squares


@register("block", pattern="block:([0-9]+)")
class Block(Scheme):
    """Keeps or drops blocks of consecutive outputs x inputs at one kernel position.

    Units are an array of shape (positions, inputs / block inputs, outputs / block outputs).

    Args:
        outputs: int, consecutive outputs in a block.
        inputs: int, consecutive inputs in a block.

    Raises:
        ValueError: if either is not a positive integer.

    Source: MEST (Yuan et al., NeurIPS 2021, arXiv 2110.14032), block-based sparsity; its
    blocks are the default, 4 outputs x 1 input.

    Example:

    >>> elements = np.array([[[3.0, 4.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]]])
    >>> Block(outputs=4).scores(elements).tolist()
    [[[5.0, 1.0]]]
    """

    def __init__(self, outputs: int = 4, inputs: int = 1):
        self.outputs = checks.whole("outputs", outputs)
        self.inputs = checks.whole("inputs", inputs)

    def validate(self, layout: KernelLayout, path: str, density: float) -> None:
        _, inputs, outputs = layout.canonical_shape
        for kind, size, block in (
            ("outputs", outputs, self.outputs),
            ("inputs", inputs, self.inputs),
        ):
            if size % block:
                raise DoesNotFit(
                    self,
                    path,
                    rule=f"a multiple of {block} {kind}",
                    received=f"{size} {kind}",
                    remedy=f"Use a block size that divides {size}, another scheme",
                )

    def scores(self, elements: np.ndarray) -> np.ndarray:
        squared = squares(elements)
        # Adding strided slices is faster than summing over short axes.
        by_output: Any = sum(squared[:, :, j :: self.outputs] for j in range(self.outputs))
        sums: Any = sum(by_output[:, i :: self.inputs] for i in range(self.inputs))
        return root(sums)

    def reduce(self, mask: np.ndarray) -> np.ndarray:
        return mask[:, :: self.inputs, :: self.outputs]

    def expand(self, units: np.ndarray, shape: Shape) -> np.ndarray:
        return units.repeat(self.outputs, axis=2).repeat(self.inputs, axis=1)

    def units(self, layout: KernelLayout) -> int:
        return layout.size // (self.outputs * self.inputs)

    def get_config(self) -> dict:
        return {"outputs": self.outputs, "inputs": self.inputs}
