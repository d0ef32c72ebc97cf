"""Reading files of every kind, and refusing what is none."""

import random
import resource
import struct
import time

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from spfde_keras.export import inspect_tflite
from spfde_keras.export.inspection.file import read_tflite


@pytest.fixture(scope="module")
def contents(written):
    """Files of each kind: sparse, float16, int8, blocks, several signatures."""
    names = ("qualifying", "qualifying float16", "not_float", "dense_layer", "two signatures")
    return [written(name)[0].read_bytes() for name in names]


def small_model(operators=1, tensors=2):
    """A graph of `operators` times ADD, as the schema's own writer packs it."""
    code = schema.OperatorCodeT()
    code.builtinCode, code.version = schema.BuiltinOperator.ADD, 1
    graph = schema.SubGraphT()
    graph.tensors, graph.operators = [], []
    for _ in range(tensors):
        tensor = schema.TensorT()
        tensor.name, tensor.shape = b"image", [1, 2, 2, 3]
        graph.tensors.append(tensor)
    for number in range(operators):
        operator = schema.OperatorT()
        operator.inputs, operator.outputs = [0, 0], [min(number + 1, tensors - 1)]
        graph.operators.append(operator)
    graph.inputs, graph.outputs = [0], [tensors - 1]
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    model.buffers = [schema.BufferT()]
    return model


def pack(model) -> bytes:
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_a_model_written_by_the_schema_itself(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(pack(small_model()))
    (graph,) = read_tflite(path).graphs
    assert graph.name == "graph 0" and graph.inputs == (0,) and graph.outputs == (1,)
    (operator,) = graph.operators
    assert (operator.name, operator.inputs, operator.outputs) == ("ADD", (0, 0), (1,))
    assert [tensor.shape for tensor in graph.tensors] == [(1, 2, 2, 3)] * 2
    assert not any(tensor.constant for tensor in graph.tensors)


def test_content_behind_the_tables(tmp_path):
    # As in files beyond 2 GB: a buffer names a place in the file instead of holding its content.
    model = small_model()
    buffer = schema.BufferT()
    buffer.offset, buffer.size = 5000, 48
    model.buffers.append(buffer)
    model.subgraphs[0].tensors[1].buffer = 1
    path = tmp_path / "model.tflite"
    path.write_bytes(pack(model).ljust(5000, b"\0") + np.arange(12, dtype="float32").tobytes())
    assert read_tflite(path).graphs[0].tensors[1].nonzeros == 11
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="a buffer extends beyond the end of the file"):
        read_tflite(path)


def claim(field):
    """A model whose vector `field` claims 2^31 - 1 entries."""
    content = bytearray(pack(small_model()))
    model = schema.Model.GetRootAs(bytes(content))
    owner = {"Shape": model.Subgraphs(0).Tensors(0), "Inputs": model.Subgraphs(0).Operators(0)}
    slot = {"Subgraphs": 8, "Buffers": 12, "Shape": 4, "Inputs": 6}[field]
    table = owner.get(field, model)._tab
    struct.pack_into("<I", content, table.Vector(table.Offset(slot)) - 4, 2**31 - 1)
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a .tflite file"),
        (b"PK\3\4 a Keras model", "convert it first: spfde convert"),
        (b"text", "is not a .tflite file"),
        (b"\x1c\0\0\0TFL3", "points outside it"),
        (b"\xff\xff\xff\x7fTFL3" + bytes(64), "points outside it"),
        (claim("Subgraphs"), "claims more Subgraphs than it has room for"),
        (claim("Buffers"), "claims more Buffers than it has room for"),
        (claim("Shape"), "claims more Shape than it has room for"),
        (claim("Inputs"), "claims more Inputs than it has room for"),
    ],
)
def test_bad_files_are_one_line(tmp_path, content, message):
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        inspect_tflite(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: setattr(model, "subgraphs", []), "it has no graph"),
        (lambda model: model.subgraphs[0].outputs.append(7), "a tensor has number 7, of 2"),
        (
            lambda model: setattr(model.subgraphs[0].operators[0], "opcodeIndex", 3),
            "an operator's code has number 3, of 1",
        ),
        (
            lambda model: setattr(model.subgraphs[0].tensors[0], "buffer", 9),
            "a tensor's buffer has number 9, of 1",
        ),
        (
            lambda model: setattr(model.subgraphs[0].tensors[0], "shape", [1, -4]),
            "has no possible shape",
        ),
        (
            lambda model: setattr(model.buffers[0], "data", [1, 2, 3]),
            r"holds 3 bytes, not those of its shape \(1, 2, 2, 3\)",
        ),
    ],
)
def test_inconsistent_files_are_one_line(tmp_path, change, message):
    model = small_model()
    change(model)
    path = tmp_path / "model.tflite"
    path.write_bytes(pack(model))
    with pytest.raises(ValueError, match=message) as error:
        inspect_tflite(path)
    assert "\n" not in str(error.value)


def test_missing_files_and_folders(tmp_path):
    for path in (tmp_path, tmp_path / "missing.tflite"):
        with pytest.raises(ValueError, match="must be a .tflite file"):
            read_tflite(path)


def test_names_are_printable(tmp_path):
    model = small_model()
    model.subgraphs[0].name = b"two\nlines \xff"
    path = tmp_path / "model.tflite"
    path.write_bytes(pack(model))
    assert "\n" not in read_tflite(path).graphs[0].name


def test_a_long_chain_is_read_in_linear_time(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(pack(small_model(operators=4000, tensors=4001)))
    begin = time.process_time()
    inspect_tflite(path)
    assert time.process_time() - begin < 10


def mutated(content: bytes, chance: random.Random) -> bytes:
    """A file cut off, noise, flipped bits, random bytes, huge numbers, or pieces moved."""
    content, kind = bytearray(content), chance.randrange(7)
    if kind == 0:
        return bytes(content[: chance.randrange(len(content))])
    if kind == 1:
        return b"\x1c\0\0\0TFL3" + chance.randbytes(chance.randrange(2000))
    if kind == 2:
        content[4:8] = chance.randbytes(4)
    for _ in range(chance.choice((1, 2, 8, 32))):
        place = chance.randrange(len(content) - 4)
        if kind == 3:
            content[place] ^= 1 << chance.randrange(8)
        elif kind == 4:
            content[place] = chance.randrange(256)
        elif kind == 5:
            huge = chance.choice((2**31 - 1, 2**31, 2**32 - 1, len(content), 2**30, 0))
            struct.pack_into("<I", content, place // 4 * 4, huge)
        elif kind == 6:
            source, size = chance.randrange(len(content)), chance.randrange(1, 64)
            content[place : place + size] = content[source : source + size]
    return bytes(content)


@pytest.mark.parametrize("mutations", [1_500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_mutated_files_give_a_report_or_one_line(contents, tmp_path, mutations):
    chance, path, refused = random.Random(0), tmp_path / "model.tflite", 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(mutations):
        path.write_bytes(mutated(chance.choice(contents), chance))
        try:
            report = inspect_tflite(path)
            str(report), report.to_json()
        except ValueError as error:
            refused += 1
            assert "\n" not in str(error) and len(str(error)) < 400
    assert mutations * 0.4 < refused < mutations * 0.95
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
    assert kibibytes < 50_000
