"""Which operators LiteRT has: a layer that needs others is refused by name, before conversion."""

from collections.abc import Iterator, Mapping
from typing import Any

import keras

from spfde_keras import compat

# Types of TensorFlow's operators for which its converter has one of LiteRT's built-in operators.
_KNOWN = frozenset(
    """
    Abs Add AddN AddV2 All Any ArgMax ArgMin AssignVariableOp AvgPool BatchMatMul BatchMatMulV2
    BatchToSpaceND BiasAdd BiasAddGrad BroadcastGradientArgs BroadcastTo Cast Ceil ConcatOffset
    ConcatV2 Const Conv2D Cos Cumsum DepthToSpace DepthwiseConv2dNative DivNoNan Einsum Elu
    Equal Exp ExpandDims Expm1 Fill Floor FloorDiv FloorMod Gather GatherNd GatherV2 Greater
    GreaterEqual Identity IdentityN InvertPermutation LeakyRelu Less LessEqual Log
    Log1p LogSoftmax LogicalAnd LogicalNot LogicalOr MatMul MatrixBandPart Max MaxPool Maximum
    Mean Min Minimum MirrorPad Mul Neg NoOp NotEqual OneHot OnesLike Pack Pad PadV2
    PartitionedCall Placeholder Pow PreventGradient Prod Range Rank ReadVariableOp RealDiv
    Reciprocal Relu Relu6 Reshape ResizeBilinear ResizeNearestNeighbor ReverseV2 Round Rsqrt
    ScatterNd Select SelectV2 Selu SeluGrad Shape Sigmoid SigmoidGrad Sign Sin Size Slice
    Softmax Softplus Softsign SpaceToBatchND SpaceToDepth Split SplitV Sqrt Square
    SquaredDifference Squeeze StatefulPartitionedCall StatelessIf StopGradient StridedSlice Sub
    Sum Tanh TanhGrad Tile TopKV2 Transpose Unpack UnsortedSegmentSum ZerosLike
    """.split()
)


# What Keras makes of a division of gradients of an embedding's rows.
_OF_ROWS = "an optimizer that divides gradients of embeddings (SGD, Adam and Lion do not)"


def check_operators(model: keras.Model, traced: Mapping[str, Any]) -> None:
    """Refuses a model that needs operators that LiteRT lacks.

    Args:
        model: whose layers were called in `compat.scopes_of_layers`.
        traced: its concrete functions, by the names of signatures.

    Raises:
        ValueError: names the layers and the operators.
    """
    layers = {layer.name: layer for layer in compat.all_layers(model) if layer is not model}
    missing: dict[str, set[str]] = {}
    for function in traced.values():
        for kind, name in _operators(function.graph):
            if kind not in _KNOWN:
                found = [layers[part] for part in name.split("/") if part in layers]
                of = f"layer {found[-1].name!r} ({type(found[-1]).__name__})" if found else ""
                of = of or (_OF_ROWS if kind in ("IsNan", "Where") else "the loss or the optimizer")
                missing.setdefault(of, set()).add(kind)
    if missing:
        listed = "; ".join(f"{of} needs {', '.join(sorted(k))}" for of, k in missing.items())
        raise ValueError(
            "`model`, loss and optimizer must need nothing but operators that LiteRT has, also "
            f"where they are trained. Received: {listed}"
        )


def _operators(graph: Any) -> Iterator[tuple[str, str]]:
    """Types and names of operators, those of inner functions included."""
    for operation in graph.get_operations():
        yield operation.type, operation.name
    for function in graph.as_graph_def().library.function:
        for node in function.node_def:
            yield node.op, node.name
