"""What a .tflite file holds, as plain dataclasses; `file` reads them."""

import dataclasses
import math

import numpy as np

# More than any operator has parameters.
_MOST_PARAMETERS = 64


@dataclasses.dataclass(frozen=True)
class Sparsity:
    """How a tensor is stored sparse (schema: `SparsityParameters`).

    Args:
        block: the block's size along each blocked dimension; empty where entries are stored
            one by one.
        block_map: the dimension that each of `block` divides.
        index_bytes: int, what the positions of the entries take in the file.
    """

    block: tuple[int, ...]
    block_map: tuple[int, ...]
    index_bytes: int


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor of a graph.

    Args:
        name: str.
        type: str, of the schema's `TensorType`: "FLOAT32", "INT8", ...
        shape: ints; unknown sizes are 1, as the file has them.
        buffer: int, which tensors of the same content share; 0 means no content.
        stored: array of bytes, the content of a constant, or of its stored entries where
            it is sparse; empty for other tensors.
        sparsity: how a sparse constant is stored, or None.
        nonzeros: int, how many of its entries are not zero; None for a type that holds no weights.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    buffer: int
    stored: np.ndarray
    sparsity: Sparsity | None
    nonzeros: int | None

    @property
    def constant(self) -> bool:
        """Whether the file holds the tensor's content."""
        return self.stored.size > 0

    @property
    def size(self) -> int:
        """Number of elements, of a sparse tensor zeros included."""
        return math.prod(self.shape)

    @property
    def entries(self) -> int:
        """Number of elements that are stored, of a type that holds weights."""
        return self.stored.size // np.dtype(self.type.lower()).itemsize

    def integers(self) -> tuple[int, ...]:
        """Returns the parameters of an operator; nothing if the tensor holds none."""
        if self.type not in ("INT32", "INT64") or self.stored.size > 8 * _MOST_PARAMETERS:
            return ()
        return tuple(self.stored.view(self.type.lower()).tolist())


@dataclasses.dataclass(frozen=True)
class Operator:
    """One step of a graph.

    Args:
        name: str, of the schema's `BuiltinOperator`, or the name of a custom operator.
        inputs: indices into the graph's tensors; -1 for an optional one that is absent.
        outputs: indices into the graph's tensors.
        options: what decides how it runs, by the schema's names, such as "StrideH": ints,
            bools and, for "Padding" and "FusedActivationFunction", str.
    """

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, int | bool | str]


@dataclasses.dataclass(frozen=True)
class Graph:
    """A graph of operators (schema: `SubGraph`).

    Args:
        name: str, of the signature that runs it, or else its own, or else "graph 0", ...
        tensors: all of them.
        operators: in the order in which they run.
        inputs: indices into `tensors`.
        outputs: indices into `tensors`.
    """

    name: str
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class TFLiteFile:
    """What a .tflite file holds.

    Args:
        path: str.
        bytes: int, size of the file.
        graphs: at least one.
    """

    path: str
    bytes: int
    graphs: tuple[Graph, ...]
