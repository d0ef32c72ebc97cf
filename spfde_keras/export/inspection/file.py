"""Reads any .tflite file; a bad one raises ValueError, never anything else."""

import collections
import os
import pathlib
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from spfde_keras import checks
from spfde_keras.export.inspection.graph import Graph, Operator, Sparsity, Tensor, TFLiteFile
from spfde_keras.export.litert import flatbuffers, schema

_IDENTIFIER = b"TFL3"
_KERAS_BEGINNINGS = (b"PK\x03\x04", b"\x89HDF")  # of .keras and .h5 files
_MOST_TABLES = 1_000_000  # more tables than any model has, read in seconds
_MOST_DIMENSIONS = 64  # as many as NumPy has

# What an accessor of the schema raises when an offset or a length points outside the file.
_READING_ERRORS = (struct.error, TypeError, ValueError, IndexError, OverflowError)


def _names(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if not name.startswith("_")}


_OPERATORS = _names(schema.BuiltinOperator)
_TYPES = _names(schema.TensorType)
_ENUMERATIONS = {
    "Padding": _names(schema.Padding),
    "FusedActivationFunction": _names(schema.ActivationFunctionType),
}
_INDEX_VECTORS = {
    schema.SparseIndexVector.Int32Vector: (schema.Int32Vector, 4),
    schema.SparseIndexVector.Uint16Vector: (schema.Uint16Vector, 2),
    schema.SparseIndexVector.Uint8Vector: (schema.Uint8Vector, 1),
}
# Bits of an element; a tensor of another type (strings, resources) has no size to check.
_BITS = {"BOOL": 8, "BFLOAT16": 16, "COMPLEX64": 64, "COMPLEX128": 128} | {
    f"{kind}{bits}": bits
    for kind, sizes in (
        ("FLOAT", (16, 32, 64)),
        ("INT", (2, 4, 8, 16, 32, 64)),
        ("UINT", (8, 16, 32, 64)),
    )
    for bits in sizes
}

# The types of weights, and how NumPy counts in them.
_COUNTED = {name: name.lower() for name in ("FLOAT16", "FLOAT32", "INT8", "UINT8")}

# The options that decide how an operator runs, by the schema's names.
_STRIDES = ("StrideH", "StrideW", "DilationHFactor", "DilationWFactor")
_CONVOLUTION = ("Padding", *_STRIDES, "FusedActivationFunction")
_OPTIONS = {
    "CONV_2D": (schema.Conv2DOptions, _CONVOLUTION),
    "DEPTHWISE_CONV_2D": (schema.DepthwiseConv2DOptions, (*_CONVOLUTION, "DepthMultiplier")),
    "FULLY_CONNECTED": (schema.FullyConnectedOptions, ("FusedActivationFunction",)),
    "ADD": (schema.AddOptions, ("FusedActivationFunction",)),
    "MUL": (schema.MulOptions, ("FusedActivationFunction",)),
    "SUB": (schema.SubOptions, ("FusedActivationFunction",)),
    "DIV": (schema.DivOptions, ("FusedActivationFunction",)),
}


def read_tflite(path: str | os.PathLike[str]) -> TFLiteFile:
    """Reads a .tflite file, of any converter.

    It reads nothing outside the file and allocates no more than the file's size, even if numbers
    in it claim otherwise.

    Args:
        path: the file.

    Returns:
        A `TFLiteFile`.

    Raises:
        ValueError: if it cannot be read, or is not a whole, consistent .tflite file.

    Example:

    >>> _ = spfde_keras.export_tflite(model, "model.tflite")
    >>> read_tflite("model.tflite").graphs[0].name
    'serving_default'

    Source: the FlatBuffers schema of TensorFlow Lite, tensorflow/lite/schema/schema.fbs.
    """
    checks.file("path", path, "a .tflite file")
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    if content.startswith(_KERAS_BEGINNINGS):
        target = pathlib.Path(path).with_suffix(".tflite")
        raise ValueError(
            f"{path} must be a .tflite file, not a saved model; convert it first: "
            f"spfde convert {path} {target}"
        )
    if content[4:8] != _IDENTIFIER:
        raise ValueError(f"{path} is not a .tflite file: bytes 4 to 7 must be {_IDENTIFIER!r}.")
    try:
        graphs = _Reader(content).graphs()
    except _Inconsistent as error:
        raise ValueError(f"{path} is not a whole .tflite file: {error}") from error
    except _READING_ERRORS as error:
        raise ValueError(
            f"{path} is not a whole .tflite file: an offset or a length points outside it."
        ) from error
    return TFLiteFile(str(path), len(content), graphs)


class _Inconsistent(Exception):
    """The file can be read, but says something that cannot be."""


class _Reader:
    """Reads tables and vectors, and stops where a file claims more of them than it has room for.

    Vectors of a bad file may overlap, so that a small file describes a huge one; hence the
    numbers read are counted over the whole file.
    """

    def __init__(self, content: bytes):
        self._content = content
        self._numbers_left = len(content)
        self._tables_left = _MOST_TABLES
        self._counts: dict[tuple[int, str, int], int] = {}
        root = flatbuffers.encode.Get(flatbuffers.packer.uoffset, content, 0)
        self._model = schema.Model()
        self._model.Init(content, root)

    def graphs(self) -> tuple[Graph, ...]:
        kinds = [self._operator_name(code) for code in self._tables(self._model, "OperatorCodes")]
        buffers = [self._buffer(buffer) for buffer in self._tables(self._model, "Buffers")]
        graphs = list(self._tables(self._model, "Subgraphs"))
        if not graphs:
            raise _Inconsistent("it has no graph.")
        keys = collections.defaultdict(list)
        for signature in self._tables(self._model, "SignatureDefs"):
            _check(signature.SubgraphIndex(), len(graphs), "a signature's graph")
            keys[signature.SubgraphIndex()].append(self._text(signature.SignatureKey()))
        names = [
            ", ".join(keys[index]) or self._text(graph.Name()) or f"graph {index}"
            for index, graph in enumerate(graphs)
        ]
        return tuple(
            self._graph(graph, name, kinds, buffers)
            for graph, name in zip(graphs, names, strict=True)
        )

    def _graph(self, graph: Any, name: str, kinds: list[str], buffers: list[np.ndarray]) -> Graph:
        tensors = tuple(self._tensor(tensor, buffers) for tensor in self._tables(graph, "Tensors"))
        operators = []
        for operator in self._tables(graph, "Operators"):
            _check(operator.OpcodeIndex(), len(kinds), "an operator's code")
            kind = kinds[operator.OpcodeIndex()]
            operators.append(
                Operator(
                    kind,
                    self._places(operator, "Inputs", len(tensors), lowest=-1),
                    self._places(operator, "Outputs", len(tensors)),
                    self._options(operator, kind),
                )
            )
        inputs = self._places(graph, "Inputs", len(tensors))
        outputs = self._places(graph, "Outputs", len(tensors))
        return Graph(name, tensors, tuple(operators), inputs, outputs)

    def _operator_name(self, code: Any) -> str:
        # Only the newer field holds codes beyond 127; older files fill only the older one.
        builtin = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        if builtin == schema.BuiltinOperator.CUSTOM:
            return self._text(code.CustomCode()) or "CUSTOM"
        if builtin not in _OPERATORS:
            raise _Inconsistent(f"operator code {builtin} does not exist.")
        return _OPERATORS[builtin]

    def _options(self, operator: Any, kind: str) -> dict[str, int | bool | str]:
        table = operator.BuiltinOptions()
        if kind not in _OPTIONS or table is None:
            return {}
        options_class, names = _OPTIONS[kind]
        options = options_class()
        options.Init(table.Bytes, table.Pos)
        values = {name: getattr(options, name)() for name in names}
        for name, enumeration in _ENUMERATIONS.items():
            if name in values:
                values[name] = enumeration.get(values[name], "unknown")
        return values

    def _buffer(self, buffer: Any) -> np.ndarray:
        if buffer.Offset() > 1:  # the content follows the tables, as in files beyond 2 GB
            end = buffer.Offset() + buffer.Size()
            if end > len(self._content):
                raise _Inconsistent("a buffer extends beyond the end of the file.")
            return np.frombuffer(self._content, "uint8", buffer.Size(), buffer.Offset())
        content = buffer.DataAsNumpy()
        return content if isinstance(content, np.ndarray) else np.zeros(0, "uint8")

    def _tensor(self, tensor: Any, buffers: list[np.ndarray]) -> Tensor:
        if tensor.Type() not in _TYPES:
            raise _Inconsistent(f"tensor type {tensor.Type()} does not exist.")
        name, kind = self._text(tensor.Name()), _TYPES[tensor.Type()]
        shape = self._numbers(tensor, "Shape")
        if len(shape) > _MOST_DIMENSIONS or any(size < 0 for size in shape):
            raise _Inconsistent(f"tensor {name[:60]!r} has no possible shape.")
        _check(tensor.Buffer(), len(buffers), "a tensor's buffer")
        stored = buffers[tensor.Buffer()]
        encoding = tensor.Sparsity()
        sparsity = None if encoding is None else self._sparsity(encoding, len(shape))
        quantization = tensor.Quantization()
        zero_points = self._numbers(quantization, "ZeroPoint") if quantization else ()
        zero_point = zero_points[0] if len(zero_points) == 1 else 0
        nonzeros = self._nonzeros(tensor.Buffer(), stored, kind, zero_point)
        result = Tensor(name, kind, shape, tensor.Buffer(), stored, sparsity, nonzeros)
        if result.constant and kind in _BITS:
            _check_content(result)
        return result

    def _nonzeros(self, buffer: int, stored: np.ndarray, kind: str, zero: int) -> int | None:
        """Counts once per buffer, which a bad file may share among a great many tensors."""
        if kind not in _COUNTED or stored.size * 8 % _BITS[kind]:
            return None
        key = (buffer, kind, zero)
        if key not in self._counts:
            self._counts[key] = int(np.count_nonzero(stored.view(_COUNTED[kind]) != zero))
        return self._counts[key]

    def _sparsity(self, sparsity: Any, rank: int) -> Sparsity:
        order = self._numbers(sparsity, "TraversalOrder")
        block_map = self._numbers(sparsity, "BlockMap")
        sizes, index_bytes = [], 0
        for metadata in self._tables(sparsity, "DimMetadata"):
            sizes.append(metadata.DenseSize())
            if metadata.Format() == schema.DimensionType.SPARSE_CSR:
                index_bytes += self._index_bytes(
                    metadata.ArraySegmentsType(), metadata.ArraySegments()
                )
                index_bytes += self._index_bytes(
                    metadata.ArrayIndicesType(), metadata.ArrayIndices()
                )
            elif sizes[-1] <= 0:
                raise _Inconsistent("a sparse tensor has a dense level of no size.")
        if len(order) != len(sizes) or len(block_map) > len(sizes):
            raise _Inconsistent("a sparse tensor's levels do not fit its traversal order.")
        for dimension in block_map:
            _check(dimension, rank, "a blocked dimension")
        # The levels of the blocks come last.
        return Sparsity(tuple(sizes[len(sizes) - len(block_map) :]), block_map, index_bytes)

    def _index_bytes(self, kind: int, table: Any) -> int:
        if table is None or kind not in _INDEX_VECTORS:
            raise _Inconsistent("a sparse tensor lists no positions.")
        vector_class, width = _INDEX_VECTORS[kind]
        vector = vector_class()
        vector.Init(table.Bytes, table.Pos)
        return len(self._numbers(vector, "Values")) * width

    def _places(self, parent: Any, field: str, count: int, lowest: int = 0) -> tuple[int, ...]:
        places = self._numbers(parent, field)
        for place in places:
            _check(place, count, "a tensor", lowest)
        return places

    def _tables(self, parent: Any, field: str) -> Iterator[Any]:
        count = getattr(parent, f"{field}Length")()
        self._tables_left -= count
        if self._tables_left < 0 or count > len(self._content) // 4:
            raise _Inconsistent(f"it claims more {field} than it has room for.")
        return (getattr(parent, field)(index) for index in range(count))

    def _numbers(self, parent: Any, field: str) -> tuple[int, ...]:
        self._numbers_left -= getattr(parent, f"{field}Length")()
        if self._numbers_left < 0:
            raise _Inconsistent(f"it claims more {field} than it has room for.")
        numbers = getattr(parent, f"{field}AsNumpy")()
        return tuple(numbers.tolist()) if isinstance(numbers, np.ndarray) else ()

    def _text(self, raw: bytes | None) -> str:
        self._numbers_left -= len(raw or b"")
        if self._numbers_left < 0:
            raise _Inconsistent("it claims longer names than it has room for.")
        # Always one printable line, since names go into error messages.
        return "".join(
            c if c.isprintable() else "?" for c in (raw or b"").decode("utf-8", "replace")
        )


def _check(place: int, count: int, what: str, lowest: int = 0) -> None:
    if not lowest <= place < count:
        raise _Inconsistent(f"{what} has number {place}, of {count}.")


def _check_content(tensor: Tensor) -> None:
    """Checks that a constant has as many bytes as its shape needs."""
    elements = tensor.size
    if tensor.sparsity is not None:
        elements = tensor.stored.size * 8 // _BITS[tensor.type]
        if elements > tensor.size and not tensor.sparsity.block:
            raise _Inconsistent(f"tensor {tensor.name[:60]!r} stores more entries than it has.")
    if tensor.stored.size != -(-elements * _BITS[tensor.type] // 8):
        raise _Inconsistent(
            f"tensor {tensor.name[:60]!r} holds {tensor.stored.size} bytes, not those of its shape "
            f"{tensor.shape[:8]}."
        )
