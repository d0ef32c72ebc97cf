"""What the inspector found out about a file, to print or to store."""

import dataclasses
import math
from typing import Any

from spfde_keras.export.inspection import printing


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something that keeps a file from running sparse on a phone, or from running correctly.

    Args:
        operator: str, as the file calls it: "CONV_2D", ...
        place: str, where it is, with the name of its output, which contains the layer's.
        why: str, what is wrong with it.
        fix: str, what to change in the Keras model, or in its export.
        hazard: bool, whether it makes outputs wrong, or the file fail to load.
        rule: str, its name in `spfde_keras.export.inspection.rules.RULES`.
        layer: str, the name of the layer, as the converter wrote it.
        rewritten: bool, whether `export_tflite` with mobile=True mends it by itself, where an
            exact equivalent exists.
    """

    operator: str
    place: str
    why: str
    fix: str
    hazard: bool
    rule: str
    layer: str = ""
    rewritten: bool = False


@dataclasses.dataclass(frozen=True)
class WeightReport:
    """How the kernel of a layer is stored.

    Args:
        name: str, of the tensor.
        shape: ints, as in the file: outputs first.
        type: str, "FLOAT32", "FLOAT16", "INT8", ...
        stored: str, "dense", "sparse" (single entries) or "sparse 1x4" (blocks).
        sparsity: float, the share of zeros; None for a type that NumPy cannot count in.
        bytes: int, what it takes in the file, positions included.
        layer: str, the layer's name, as the converter wrote it.
        operator: str, what uses it: "CONV_2D", ...
        buffer: int, where it is in the file; graphs may share it.
    """

    name: str
    shape: tuple[int, ...]
    type: str
    stored: str
    sparsity: float | None
    bytes: int
    layer: str = ""
    operator: str = ""
    buffer: int = 0

    @property
    def size(self) -> int:
        """Number of weights, zeros included."""
        return math.prod(self.shape)

    @property
    def dense_bytes(self) -> int:
        """What it would take in the file, zeros included."""
        return self.size * {"FLOAT32": 4, "FLOAT16": 2}.get(self.type, 1)


@dataclasses.dataclass(frozen=True)
class GraphReport:
    """What is known of one signature, or of a graph without one.

    Args:
        name: str, of the signature.
        sparse_on_arm64: bool, whether XNNPACK computes 1x1 convolutions sparse on ARM64, ARM and
            WebAssembly, and correctly.
        safe_on_arm64: bool, whether it loads there and gives the outputs of a dense file.
        problems: in the order of the graph.
        weights: of all its layers.
        flops_dense: int, of one run, zeros included; only kernels count, a multiply-add as 2.
        flops_sparse: int, of one run on ARM64: zeros are left out where they are skipped.
        inputs: name and shape of each input.
    """

    name: str
    sparse_on_arm64: bool
    safe_on_arm64: bool
    problems: tuple[Problem, ...]
    weights: tuple[WeightReport, ...]
    flops_dense: int
    flops_sparse: int
    inputs: tuple[tuple[str, tuple[int, ...]], ...] = ()


@dataclasses.dataclass(frozen=True)
class InspectReport:
    """What `inspect_tflite` found; print it, or take `to_json()`.

    Args:
        path: str.
        bytes: int, size of the file.
        bytes_by_part: ints: "weights", "positions" (of sparse weights), "constants" (biases and
            all other), "structure" (the rest). They add up to `bytes`.
        graphs: a `GraphReport` for each signature.
    """

    path: str
    bytes: int
    bytes_by_part: dict[str, int]
    graphs: tuple[GraphReport, ...]

    @property
    def sparse_on_arm64(self) -> bool:
        """Whether every graph that has weights runs sparse on ARM64, and correctly."""
        graphs = [graph for graph in self.graphs if graph.weights]
        return self.safe_on_arm64 and bool(graphs) and all(g.sparse_on_arm64 for g in graphs)

    @property
    def safe_on_arm64(self) -> bool:
        """Whether the file loads on ARM64 and every graph gives the outputs of a dense file."""
        return all(graph.safe_on_arm64 for graph in self.graphs)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Those of all graphs."""
        return tuple(problem for graph in self.graphs for problem in graph.problems)

    def to_json(self) -> dict[str, Any]:
        """Returns the report as a dictionary that `json` writes."""
        summary = {
            "sparse_on_arm64": self.sparse_on_arm64,
            "safe_on_arm64": self.safe_on_arm64,
            "problems": [dataclasses.asdict(problem) for problem in self.problems],
        }
        return {"path": self.path} | summary | dataclasses.asdict(self)

    def __str__(self) -> str:
        return printing.text(self)
