"""What XNNPACK asks of a graph before it runs it sparse: one table, `RULES`.

Its sparse kernels keep activations channel by channel (NCHW) where TensorFlow Lite keeps them
pixel by pixel (NHWC). So a sparse region of a graph has an entry, operators inside that compute
either way, and an exit. `ROLES` lists what each operator can be, `RULES` what disqualifies it;
with them `layout` finds the regions, and `findings` what is wrong with a graph.

The rules were read from the sources named, and checked against what runs in sparse mode gave
(LiteRT 2.3.0, LiteRT.js 2.5.3).
"""

import dataclasses
import enum
from collections.abc import Callable

from spfde_keras.export.inspection.node import KERNEL_OPERATORS, UNARY, Node


class Role(enum.Flag):
    """What an operator can be to a sparse region: its entry, its inside, its exit."""

    NONE = 0
    ENTRY = enum.auto()
    INSIDE = enum.auto()
    EXIT = enum.auto()


ROLES = {
    "CONV_2D": Role.INSIDE,  # where it is 1x1; a 3x3 one is an entry
    "DEPTHWISE_CONV_2D": Role.INSIDE,
    "FULLY_CONNECTED": Role.INSIDE,
    "ADD": Role.INSIDE,
    "MUL": Role.INSIDE,
    "MAXIMUM": Role.INSIDE,
    "MINIMUM": Role.INSIDE,
    "RESIZE_BILINEAR": Role.INSIDE,
    "MEAN": Role.INSIDE | Role.EXIT,
    "SUM": Role.INSIDE | Role.EXIT,
    "DEPTH_TO_SPACE": Role.EXIT,
} | dict.fromkeys(UNARY, Role.INSIDE)
"""What an operator can be, if it breaks no rule. Source: xnn_check_nchw_compatibility."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """One thing that keeps a graph from running sparse, or from running correctly.

    Args:
        name: str; the tests have a file of this name that breaks it.
        operators: those it is about; empty for all of them.
        breaks: Node -> bool, for what takes an operator's role; None for what only the graph
            around it shows (`findings`).
        why: str, what is wrong with the operator.
        fix: str, what to change in the Keras model or its export.
        source: str, the function that decides it.
        rewritten: bool, whether `make_mobile_ready` mends it where an exact equivalent exists.
    """

    name: str
    operators: tuple[str, ...]
    breaks: Callable[[Node], bool] | None
    why: str
    fix: str
    source: str
    rewritten: bool = False


_COMPATIBLE = "XNNPACK subgraph.c, xnn_check_nchw_compatibility"
_REWRITE = "XNNPACK subgraph.c, xnn_subgraph_rewrite_for_nchw"
_DELEGATE = "LiteRT xnnpack_delegate.cc"
_CONVOLUTION = ("CONV_2D",)
_DEPTHWISE = ("DEPTHWISE_CONV_2D",)
_SEPARABLE = "a depthwise and a 1x1 convolution"
_EVEN = "the image must have an even height and width, else the converter makes it 'same' again"
_FOLD = "fold a scale or an offset into the convolution before it"
_ENTRY_KERNEL = (3, 3)
_DEPTHWISE_KERNELS = ((3, 3), (5, 5))


def _is_entry(node: Node) -> bool:
    return node.name == "CONV_2D" and node.kernel == _ENTRY_KERNEL and node.strides == (2, 2)


RULES = (
    # What takes an operator's role.
    Rule(
        "flatten",
        ("RESHAPE",),
        lambda node: len(node.tensors[node.outputs[0]].shape) != 4,
        "it flattens images",
        "use GlobalAveragePooling2D instead of Flatten",
        _COMPATIBLE,
    ),
    Rule(
        "no_kernel",
        (),
        lambda node: node.name not in ROLES,
        "it has no kernel for images stored channel by channel",
        "between stem and global pooling use only 1x1 and depthwise convolutions, Add, Multiply "
        "and activations; halve images in depthwise convolutions",
        _COMPATIBLE,
    ),
    Rule(
        "not_float",
        (),
        lambda node: any(
            node.tensors[index].type not in ("FLOAT32", "FLOAT16")
            for index in (*node.inputs, *node.outputs)
        ),
        "it does not compute in floating point",
        "export with precision='float32' or 'float16'",
        _COMPATIBLE,
    ),
    Rule(
        "groups",
        _CONVOLUTION,
        lambda node: node.groups != 1,
        "it is a grouped convolution",
        "use groups=1",
        _COMPATIBLE,
        rewritten=True,
    ),
    Rule(
        "dilation",
        _CONVOLUTION + _DEPTHWISE,
        lambda node: node.dilation != (1, 1),
        "it is dilated",
        "use dilation_rate=1",
        _COMPATIBLE,
        rewritten=True,
    ),
    Rule(
        "pointwise_stride",
        _CONVOLUTION,
        lambda node: node.pointwise and node.strides != (1, 1),
        "it is a 1x1 convolution with strides",
        "use strides=1 here, and strides=2 in a depthwise convolution before it",
        _COMPATIBLE,
        rewritten=True,
    ),
    Rule(
        "pointwise_padding",
        _CONVOLUTION,
        lambda node: node.pointwise and node.padding not in (None, (0, 0, 0, 0)),
        "it is a 1x1 convolution of a padded image",
        "remove the ZeroPadding2D before it",
        _COMPATIBLE,
    ),
    Rule(
        "kernel_size",
        _CONVOLUTION,
        lambda node: not node.pointwise and node.kernel != _ENTRY_KERNEL,
        "it is a first convolution whose kernel is not 3x3",
        "use kernel_size=3 and strides=2",
        _COMPATIBLE,
    ),
    Rule(
        "stem_stride",
        _CONVOLUTION,
        lambda node: node.kernel == _ENTRY_KERNEL and node.strides != (2, 2),
        "it is a first convolution without strides=2",
        "use strides=2",
        _COMPATIBLE,
    ),
    Rule(
        "stem_padding",
        _CONVOLUTION,
        lambda node: _is_entry(node) and node.padding != (1, 1, 1, 1),
        "it is a first convolution that is not padded by 1 on every side",
        f"put ZeroPadding2D(1) before it and use padding='valid'; {_EVEN}",
        _COMPATIBLE,
        rewritten=True,
    ),
    Rule(
        "stem_channels",
        _CONVOLUTION,
        lambda node: _is_entry(node) and node.channels != 3,
        "it is a first convolution that does not read 3 channels",
        "give it 3 channels, by a 1x1 convolution or Concatenate of one with itself",
        _COMPATIBLE,
        rewritten=True,
    ),
    Rule(
        "depthwise_same",
        _DEPTHWISE,
        lambda node: node.padding is None,
        "it has strides and padding='same'",
        f"put ZeroPadding2D(kernel_size // 2) before it and use padding='valid'; {_EVEN}",
        _COMPATIBLE,
        rewritten=True,
    ),
    Rule(
        "depthwise_multiplier",
        _DEPTHWISE,
        lambda node: node.operator.options.get("DepthMultiplier", 1) != 1,
        "it makes several channels of one",
        "use depth_multiplier=1",
        _COMPATIBLE,
        rewritten=True,
    ),
    Rule(
        "depthwise_stride",
        _DEPTHWISE,
        lambda node: node.strides not in ((1, 1), (2, 2)),
        "its strides are neither 1 nor 2",
        "use strides=1 or strides=2",
        _COMPATIBLE,
    ),
    Rule(
        "depthwise_kernel",
        _DEPTHWISE,
        lambda node: node.kernel not in _DEPTHWISE_KERNELS,
        "its kernel is neither 3x3 nor 5x5",
        "use kernel_size=3 or kernel_size=5",
        _COMPATIBLE,
    ),
    Rule(
        "depthwise_padding",
        _DEPTHWISE,
        lambda node: (
            node.kernel in _DEPTHWISE_KERNELS
            and node.dilation == (1, 1)
            and node.padding is not None
            and set(node.padding) != {node.kernel[0] // 2}
        ),
        "it is not padded by half its kernel on every side",
        "use padding='same' with strides=1, and with strides=2 ZeroPadding2D(kernel_size // 2)",
        _COMPATIBLE,
    ),
    Rule(
        "rank",
        (*UNARY, "ADD", "MUL", "MEAN", "SUM"),
        lambda node: not all(map(node.is_image, node.inputs)),
        "it reads something other than images, which have 4 dimensions",
        f"keep images of 4 dimensions up to the global pooling; {_FOLD}",
        _COMPATIBLE,
        rewritten=True,
    ),
    Rule(
        "dense_layer",
        ("FULLY_CONNECTED",),
        lambda node: not node.is_image(node.inputs[0]),
        "it is a dense layer, and phones skip only the zeros of 1x1 convolutions of images",
        "sparsify 1x1 convolutions between a stem and the global pooling; dense layers may follow",
        _COMPATIBLE,
    ),
    Rule(
        "constant_operand",
        ("ADD", "MUL"),
        # XNNPACK means to let a constant vector pass, but looks at the shape of the first operand.
        lambda node: (
            any(index in node.constants for index in node.inputs)
            and sum(size != 1 for size in node.tensors[node.inputs[0]].shape) > 1
        ),
        "one of its operands is a constant",
        _FOLD,
        _COMPATIBLE,
    ),
    Rule(
        "two_images",
        ("MAXIMUM", "MINIMUM"),
        lambda node: len(node.inputs) > 1,
        "it compares two images; only with one number it runs sparse",
        "use Add or Multiply, or an activation",
        _COMPATIBLE,
    ),
    Rule(
        "resize_size",
        ("RESIZE_BILINEAR",),
        lambda node: min(node.tensors[node.inputs[0]].shape[1:3], default=0) < 2,
        "it resizes an image of one row or one column",
        "resize images of at least 2x2",
        _COMPATIBLE,
    ),
    # What only the graph around an operator shows.
    Rule(
        "inner_kernel",
        _CONVOLUTION,
        None,
        "its kernel is larger than 1x1, and only that of a first convolution may be",
        f"use {_SEPARABLE}",
        _COMPATIBLE,
    ),
    Rule(
        "stored_dense",
        (),
        None,
        "no weights are stored sparse, and then XNNPACK does not look for zeros",
        "sparsify the model and export with sparse=True",
        f"{_DELEGATE}, Subgraph::Create",
    ),
    Rule(
        "too_dense",
        _CONVOLUTION,
        None,
        "not more than 2/3 of the weights of the 1x1 convolutions around it are zero",
        "use a sparsity above 0.67 in the 1x1 convolutions",
        _REWRITE,
    ),
    Rule(
        "no_stem",
        (),
        None,
        "it reads the model's input: no 3x3 convolution comes first",
        "begin with ZeroPadding2D(1) and Conv2D(..., 3, strides=2, padding='valid') on 3 channels",
        _REWRITE,
    ),
    Rule(
        "late_stem",
        _CONVOLUTION,
        None,
        "it is a 3x3 convolution with strides=2 that follows another one",
        f"use {_SEPARABLE}",
        _REWRITE,
    ),
    Rule(
        "also_output",
        (),
        None,
        "its result is an output of the model",
        "output what follows the global average pooling, or export a model for each output",
        _REWRITE,
    ),
    Rule(
        "pooled_head",
        ("CONV_2D", "FULLY_CONNECTED"),
        None,
        "it is a 1x1 convolution after a global pooling with keepdims, at the end of the model",
        "use GlobalAveragePooling2D() without keepdims, and Dense",
        _REWRITE,
        rewritten=True,
    ),
    Rule(
        "same_operand",
        ("ADD",),
        None,
        "it adds an image to itself",
        "multiply the weights of the convolution before it by 2",
        _REWRITE,
        rewritten=True,
    ),
    Rule(
        "foreign",
        (),
        None,
        "XNNPACK does not have this operator",
        "use another layer; 1x1 and depthwise convolutions, Add, Multiply and activations run",
        f"{_DELEGATE}, Subgraph::VisitNode",
    ),
    Rule(
        "mean_axes",
        ("MEAN", "SUM"),
        None,
        "it sums over dimensions other than height and width",
        "use GlobalAveragePooling2D",
        "XNNPACK static-reduce.c, reshape_reduce_operator",
    ),
    Rule(
        "sparse_int8",
        KERNEL_OPERATORS,
        None,
        "its weights are int8 and stored sparse, but it is a dense layer or computes in floating "
        "point: LiteRT cannot load it, or gives wrong results",
        "export int8 with sparse=False, or sparse with precision='float16'",
        f"{_DELEGATE}, Subgraph::VisitNode; LiteRT fully_connected.cc",
    ),
    Rule(
        "sparse_blocks",
        KERNEL_OPERATORS,
        None,
        "the blocks of its sparse weights do not divide its inputs: the converter leaves out the "
        "weights of the last inputs",
        "make the number of inputs divisible by 4 (16 for int8), or export with sparse=False",
        "TensorFlow Lite sparsity/format_converter",
    ),
    Rule(
        "sparse_reader",
        (),
        None,
        "it reads weights that are stored sparse and has no kernel for that",
        "export with precision='float32', or with sparse=False",
        "LiteRT fully_connected.cc, dequantize.cc",
    ),
)
RULE = {rule.name: rule for rule in RULES}
"""The same by name."""

OF_FIRST = ("kernel_size", "stem_stride", "stem_padding", "stem_channels")
"""Those by which a first convolution is none; of the others its kernel alone is to be said."""

# Where one of these rules is broken, the others say nothing new.
_DECISIVE = ("flatten", "no_kernel", "not_float", "rank", "dense_layer")


def broken_rules(node: Node) -> list[Rule]:
    """Returns the rules by which an operator has lost its role, in the table's order.

    Args:
        node: the operator as XNNPACK sees it.
    """
    broken = []
    for rule in RULES:
        applies = not rule.operators or node.name in rule.operators
        if rule.breaks is not None and applies and rule.breaks(node):
            broken.append(rule)
            if rule.name in _DECISIVE:
                break
    return broken


def role(node: Node) -> Role:
    """Returns what an operator can be to a sparse region.

    Args:
        node: the operator as XNNPACK sees it.
    """
    if broken_rules(node):
        return Role.NONE
    return Role.ENTRY if _is_entry(node) else ROLES[node.name]
