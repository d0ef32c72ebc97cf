"""An operator of a graph as XNNPACK sees it."""

import dataclasses
from collections.abc import Mapping

from spfde_keras.export.inspection.graph import Operator, Tensor

KERNEL_OPERATORS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")

UNARY = tuple(
    "ABS CEIL COS ELU EXP FLOOR GELU HARD_SWISH LEAKY_RELU LOG LOGISTIC NEG RELU RELU6 "
    "RELU_N1_TO_1 ROUND RSQRT SIN SQRT SQUARE TANH".split()
)


@dataclasses.dataclass
class Node:
    """An operator as XNNPACK sees it: constants unpacked, a PAD before it taken in.

    Args:
        place: int, index of the operator in its graph.
        operator: as in the file.
        inputs: indices of the tensors it computes on, without those that are parameters.
        outputs: indices of the tensors it makes.
        tensors: those of the graph.
        constants: the stored tensor that each constant tensor is unpacked from, by index.
        padding: ints (top, bottom, left, right) of a convolution; None where the size of the
            image decides, which is "SAME" with a stride.
    """

    place: int
    operator: Operator
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    tensors: tuple[Tensor, ...]
    constants: Mapping[int, Tensor]
    padding: tuple[int, int, int, int] | None = None

    @property
    def name(self) -> str:
        """The operator's name."""
        return self.operator.name

    @property
    def variables(self) -> list[int]:
        """The inputs that are not constant."""
        return [index for index in self.inputs if index not in self.constants]

    def is_image(self, index: int) -> bool:
        """Whether a tensor of its graph has the dimensions of images."""
        return len(self.tensors[index].shape) == 4

    @property
    def weights(self) -> Tensor | None:
        """The kernel of a convolution or a fully connected layer, as it is stored."""
        return self.constants.get(self.inputs[1]) if self.name in KERNEL_OPERATORS else None

    @property
    def nonzeros(self) -> int:
        """How many of its weights are not zero; 0 where there are none to count."""
        return 0 if self.weights is None else self.weights.nonzeros or 0

    @property
    def stores_sparse(self) -> bool:
        """Whether its weights are stored sparse."""
        return self.weights is not None and self.weights.sparsity is not None

    @property
    def kernel(self) -> tuple[int, int]:
        """Height and width of a convolution's kernel."""
        height, width = self.tensors[self.inputs[1]].shape[1:3]
        return height, width

    @property
    def strides(self) -> tuple[int, int]:
        """Vertical and horizontal, of a convolution."""
        return self._pair("StrideH", "StrideW")

    @property
    def dilation(self) -> tuple[int, int]:
        """Vertical and horizontal, of a convolution."""
        return self._pair("DilationHFactor", "DilationWFactor")

    @property
    def groups(self) -> int:
        """Into how many groups a convolution divides its input channels."""
        return self.tensors[self.inputs[0]].shape[3] // self.tensors[self.inputs[1]].shape[3]

    @property
    def channels(self) -> int:
        """How many input channels each output channel of a convolution reads."""
        return self.tensors[self.inputs[1]].shape[3]

    @property
    def pointwise(self) -> bool:
        """Whether it is a 1x1 convolution, or a fully connected layer on each pixel."""
        if self.name == "FULLY_CONNECTED":
            return len(self.tensors[self.inputs[0]].shape) == 4
        return self.name == "CONV_2D" and self.kernel == (1, 1)

    @property
    def axes(self) -> tuple[int, ...]:
        """The dimensions that a MEAN or SUM adds up."""
        listed = [self.constants[i] for i in self.operator.inputs[1:] if i in self.constants]
        rank = len(self.tensors[self.inputs[0]].shape)
        return tuple(sorted(axis % rank for axes in listed for axis in axes.integers()))

    def _pair(self, height: str, width: str) -> tuple[int, int]:
        options = self.operator.options
        return int(options.get(height, 1)), int(options.get(width, 1))
